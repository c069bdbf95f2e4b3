"""From a folder of collected images and label maps to training volumes: less noise, one kind of grid."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from recond_models.training.labels import STRUCTURES, numbers_of
from recond_models.training.prepare import normalise, read
from recond_models.training.volumes import Source, Volume

_WHITE_MATTER = (2, 41)
_MARGIN = 3
# Finer slices are averaged down to about this, mm: what is lost is mostly noise.
_SLICE_PIXEL_MM = 0.85
# Exports of single slices do not say how large they are; a head in its field of view is about this high.
_EXPORT_MM = 240.0
_BACKGROUND = 0.03
_LARGEST_NOISE = 0.06
_RESAMPLED = "ms_mni_"


def prepare_collected(source: Source, folder: Path) -> Volume:
    """Convert one source.

    Parameters
    ----------
    source
        One of `COLLECTED`.
    folder
        Holds ``images`` and ``labels`` with files named as the sources are.

    Returns
    -------
    Volume
        The head.

    Raises
    ------
    FileNotFoundError
        The file is not there.
    """
    if source.layout == "labels":
        return _labels(source, folder / "labels" / f"{source.name}.nii.gz")
    path = folder / "images" / f"{source.name}.nii.gz"
    if not path.exists() and path.with_suffix("").with_suffix(".npz").exists():
        return _export(source, path.with_suffix("").with_suffix(".npz"))
    values, affine = read(path)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    signal = normalise(np.maximum(values, 0))
    if source.layout == "slices":
        signal, spacing = _averaged(signal, spacing)
        signal = _denoised_slices(signal)
    elif not source.name.startswith(_RESAMPLED):
        # Interpolation has smoothed the noise of resampled volumes already.
        signal = denoised(signal)
    return _volume(source, signal, spacing)


def denoised(signal: NDArray[np.float32], reach: int = 2, strength: float = 1.0) -> NDArray[np.float32]:
    """Return an image without most of its noise: the noise of an image is not taken for truth.

    Non-local means over patches of three voxels (Buades et al. 2005, doi:10.1109/CVPR.2005.38; Coupe et al. 2008,
    doi:10.1109/TMI.2007.906087).

    Parameters
    ----------
    signal
        float32, two or three axes, about 0 to 1.
    reach
        Voxels that are searched in each direction.
    strength
        Width of the kernel in standard deviations of the noise.
    """
    level = noise_of(signal)
    if level <= 0:
        return signal
    total, weights = signal.copy(), np.ones_like(signal)
    offsets = [
        offset
        for offset in itertools.product(range(-reach, reach + 1), repeat=signal.ndim)
        if offset > (0,) * signal.ndim
    ]
    for offset in offsets:
        here = tuple(slice(max(0, -step), size - max(0, step)) for step, size in zip(offset, signal.shape, strict=True))
        there = tuple(
            slice(max(0, step), size - max(0, -step)) for step, size in zip(offset, signal.shape, strict=True)
        )
        distance = ndimage.uniform_filter(np.square(signal[here] - signal[there]), 3)
        weight = np.exp(-np.maximum(distance - np.float32(2 * level**2), 0) / np.float32((strength * level) ** 2))
        total[here] += weight * signal[there]
        total[there] += weight * signal[here]
        weights[here] += weight
        weights[there] += weight
    result: NDArray[np.float32] = total / weights
    return result


def noise_of(signal: NDArray[np.float32]) -> float:
    """Return the standard deviation of the noise, from what is left of tissue after its second differences along two axes.

    Immerkaer 1996, doi:10.1006/cviu.1996.0060, with a median in place of the mean: edges count little.
    """
    kernel = np.array([1, -2, 1], dtype=np.float32)
    left = ndimage.correlate1d(ndimage.correlate1d(signal, kernel, axis=0), kernel, axis=1)
    tissue = ndimage.uniform_filter(signal, 3) > 0.15
    if not tissue.any():
        return 0.0
    return min(float(np.median(np.abs(left[tissue]))) / (0.6745 * 6), _LARGEST_NOISE)


def _labels(source: Source, path: Path) -> Volume:
    """Crop a map of structures to the head."""
    image = nibabel.funcs.as_closest_canonical(  # type: ignore[no-untyped-call]
        nibabel.nifti1.Nifti1Image.from_filename(path)
    )
    numbers = numbers_of(np.asarray(image.dataobj).astype(np.int64))
    (box,) = ndimage.find_objects((numbers > 0).astype(np.uint8))
    part = tuple(
        slice(max(0, side.start - _MARGIN), min(size, side.stop + _MARGIN))
        for side, size in zip(box, numbers.shape, strict=True)
    )
    voxels = np.ascontiguousarray(numbers[part])
    white = np.isin(voxels, [STRUCTURES.index(label) for label in _WHITE_MATTER])
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    return Volume(source, voxels, False, _triple(spacing), _triple(np.array(ndimage.center_of_mass(white))))


def _export(source: Source, path: Path) -> Volume:
    """Read slices that were exported as (slices, rows, columns), front of the head at the top."""
    with np.load(path) as archive:
        slices = archive["image"].astype(np.float32)
    signal = normalise(slices.transpose(2, 1, 0)[:, ::-1])
    pixel = _EXPORT_MM / slices.shape[1]
    signal, spacing = _averaged(signal, np.array([pixel, pixel, 5.0]))
    return _volume(source, _denoised_slices(signal), spacing)


def _averaged(
    signal: NDArray[np.float32], spacing: NDArray[np.floating]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Bring slices finer than `_SLICE_PIXEL_MM` to that size by cropping their spectrum."""
    sizes = [
        min(size, round(size * step / _SLICE_PIXEL_MM)) for size, step in zip(signal.shape[:2], spacing, strict=False)
    ]
    spectrum = np.fft.fftshift(np.fft.fft2(signal, axes=(0, 1)), axes=(0, 1))
    part = tuple(
        slice(size // 2 - wanted // 2, size // 2 - wanted // 2 + wanted)
        for size, wanted in zip(signal.shape[:2], sizes, strict=True)
    )
    window = np.ones(1)
    for axis, (size, wanted) in enumerate(zip(signal.shape[:2], sizes, strict=True)):
        # The edge of the spectrum falls off: a sharp one would ring.
        ramp = np.clip((1 - np.abs(np.linspace(-1, 1, wanted))) * 8, 0, 1) if wanted < size else np.ones(wanted)
        window = window[..., None] * ramp if axis else ramp
    factor = sizes[0] * sizes[1] / (signal.shape[0] * signal.shape[1])
    coarse = np.fft.ifft2(np.fft.ifftshift(spectrum[part] * window[..., None], axes=(0, 1)), axes=(0, 1)).real * factor
    steps = [step * size / wanted for step, size, wanted in zip(spacing, signal.shape[:2], sizes, strict=False)]
    return np.clip(coarse, 0, 1.5).astype(np.float32), np.array([*steps, spacing[2]])


def _denoised_slices(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """Denoise every slice by itself."""
    return np.stack(
        [denoised(np.ascontiguousarray(signal[:, :, number]), reach=4) for number in range(signal.shape[2])], axis=2
    )


def _volume(source: Source, signal: NDArray[np.float32], spacing: NDArray[np.floating]) -> Volume:
    """Fade out the background, crop to the head, and find its middle."""
    smooth = ndimage.gaussian_filter(signal, (1.5, 1.5, 0 if source.layout == "slices" else 1.5))
    signal = signal * np.clip((smooth - _BACKGROUND) / _BACKGROUND, 0, 1)
    head = smooth > 0.1
    objects = ndimage.find_objects(head.astype(np.uint8))
    part = tuple(
        slice(max(0, side.start - _MARGIN), min(size, side.stop + _MARGIN))
        for side, size in zip(objects[0], signal.shape, strict=True)
    )
    if source.layout == "slices":
        used = head[part].mean(axis=(0, 1)) > 0.15
        start = part[2].start
        part = (part[0], part[1], slice(start + int(np.argmax(used)), start + len(used) - int(np.argmax(used[::-1]))))
    cropped = np.ascontiguousarray(np.clip(signal[part], 0, 1.5))
    middle = np.array(ndimage.center_of_mass(head[part]))
    return Volume.of(source, cropped, None, _triple(spacing), _triple(middle))


def _triple(values: NDArray[np.floating]) -> tuple[float, float, float]:
    """Return three numbers."""
    x, y, z = (float(value) for value in values)
    return x, y, z
