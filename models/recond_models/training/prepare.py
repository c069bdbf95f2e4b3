"""From the files of the sources to heads on a common kind of grid, with tissues."""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from recond_models.training.tissues import add_head, posteriors, shares
from recond_models.training.volumes import SOURCES, TISSUES, Source, Volume

Grid = tuple[NDArray[np.float32], NDArray[np.float64]]
"""Values (x, y, z) that run to the right, front and top, and the affine to millimetres."""

_MACAQUE_ENLARGEMENT = 2.0
_AIR_MARGIN = 25
_NECK = 40
_SPM = "spm/fsroot/_spm/cleaned/spm/tpm/TPM.nii"
_MRICRON = "mricron-data/usr/share/mricron/templates"
_ITK = "insighttoolkit5-examples/usr/share/doc/insighttoolkit5-examples/examples/Data"
_BRAINBROWSER = "brainbrowser/package/examples/models"


def prepare(source: Source, unpacked: Path) -> Volume:
    """Convert one source.

    Parameters
    ----------
    source
        One of `SOURCES`.
    unpacked
        Folder of the unpacked packages, as `packages.fetch` leaves it.

    Returns
    -------
    Volume
        The head.

    Raises
    ------
    FileNotFoundError
        The package was not fetched or has changed its files.
    """
    return _RECIPES[source.name](source, unpacked)


def _colin(source: Source, unpacked: Path) -> Volume:
    """Read Colin-27: intensities decide between tissues, SPM's priors in the same space say which is likely where."""
    signal, affine = read(unpacked / _MRICRON / "ch2.nii.gz")
    signal = normalise(signal)
    priors = [_onto(read(unpacked / _SPM, channel), signal.shape, affine) for channel in range(6)]
    tissues = posteriors(signal, np.stack(priors))
    # The scan ends above the chin: its lowest slice goes on downwards, as a neck would.
    below = (_NECK, 0)
    signal = np.pad(signal, ((0, 0), (0, 0), below), mode="edge")
    tissues = np.pad(tissues, ((0, 0), (0, 0), (0, 0), below), mode="edge")
    return _volume(source, signal, tissues, _shifted(affine, np.array([0, 0, _NECK])), (0, -18, 8))


def _colin_brain(source: Source, unpacked: Path) -> Volume:
    """Put the brain of Colin-27 at 0.5 mm into a synthetic head."""
    signal, affine = read(unpacked / _MRICRON / "ch2better.nii.gz")
    return _bare_brain(source, normalise(signal), affine, (0.70, 0.88))


def _mni152(source: Source, unpacked: Path) -> Volume:
    """Put the MNI152 average, with its own maps of grey and white matter, into a synthetic head."""
    del unpacked
    spec = importlib.util.find_spec("nilearn")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("nilearn is not installed: `pip install --no-deps nilearn`")
    folder = Path(spec.origin).parent / "datasets" / "data"
    parts = {
        name: read(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz") for name in ("t1", "gm", "wm")
    }
    signal, affine = parts["t1"]
    signal = normalise(signal)
    # Averaging has blurred the borders: steeper shares are nearer to those of one person.
    grey, white = (1 / (1 + np.exp(-12 * (parts[name][0] / 255 - 0.5))) for name in ("gm", "wm"))
    total = np.maximum(grey + white, 1)
    grey, white = grey / total, white / total
    inside = ndimage.binary_fill_holes(signal > 0.1)
    sharp = 0.62 * grey + 0.95 * white + 0.2 * (1 - grey - white)
    signal = np.where(inside, 0.4 * signal + 0.6 * sharp, 0).astype(np.float32)
    fluid = np.where(inside, 1 - grey - white, 0)
    signal, tissues = add_head(
        _pad(signal), np.stack([_pad(part) for part in (grey * inside, white * inside, fluid)]), (1, 1, 1)
    )
    return _volume(source, signal, tissues, _shifted(affine, np.full(3, _AIR_MARGIN)), (0, -18, 8))


def _inia19(source: Source, unpacked: Path) -> Volume:
    """Enlarge the macaque average to the size of a human brain."""
    signal, affine = read(unpacked / _MRICRON / "inia19-t1-brain.nii.gz")
    scaled = affine @ np.diag([_MACAQUE_ENLARGEMENT] * 3 + [1.0])
    return _bare_brain(source, normalise(signal), scaled, (0.62, 0.85))


def _bare_brain(
    source: Source, signal: NDArray[np.float32], affine: NDArray[np.float64], borders: tuple[float, float]
) -> Volume:
    """Put a brain without a head into one; grey and white matter are told apart by their signal."""
    spacing = tuple(float(size) for size in np.linalg.norm(affine[:3, :3], axis=0))
    margin = round(_AIR_MARGIN / spacing[0])
    signal = _pad(signal, margin)
    head, tissues = add_head(signal, shares(signal, borders), spacing)
    middle = ndimage.center_of_mass(signal > 0.1)
    return Volume.of(source, head, tissues, _triple(spacing), _triple(middle))


def _itk(source: Source, unpacked: Path) -> Volume:
    """Read the head of ITK's k-means example; its mask of the brain tells grey and white matter from scalp."""
    signal, affine = read(unpacked / _ITK / "KmeansTest_T1UCharRaw.nii.gz")
    brain, _ = read(unpacked / _ITK / "KmeansTest_T1RawSkullStrip.nii.gz")
    signal = normalise(signal)
    inside = ndimage.binary_fill_holes(brain > 0)
    tissues = np.zeros((len(TISSUES), *signal.shape), dtype=np.uint8)
    middle_grey, middle_white = np.percentile(signal[inside], (35, 85))
    tissues[:3] = np.round(255 * shares(signal * inside, (float(middle_grey), float(middle_white))) * inside)
    soft = np.clip(signal / 0.25, 0, 1) * ~inside
    tissues[4] = np.round(255 * soft)
    centre = ndimage.center_of_mass(inside)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return Volume.of(source, signal, tissues, _triple(spacing), _triple(centre))


def _brainbrowser(source: Source, unpacked: Path) -> Volume:
    """Read a MINC volume as BrainBrowser keeps it: a JSON header, and bytes that run against all axes."""
    name = unpacked / _BRAINBROWSER / f"structural{source.name[-1]}.mnc"
    header = json.loads(gzip.decompress(name.with_name(name.name + ".header.gz").read_bytes()))
    data = np.frombuffer(gzip.decompress(name.with_name(name.name + ".raw.gz").read_bytes()), dtype=np.uint8)
    order = header["order"]
    data = data[: int(np.prod([header[axis]["space_length"] for axis in order]))]
    block = data.reshape([header[axis]["space_length"] for axis in order])
    axes = ("xspace", "yspace", "zspace")
    block = block.transpose([order.index(axis) for axis in axes])
    block = block[tuple(slice(None, None, -1 if header[axis]["step"] < 0 else 1) for axis in axes)]
    signal = normalise(block.astype(np.float32), floor=0.04)
    return Volume.of(source, signal, None, (1.0, 1.0, 1.0), (80.0, 120.0, 152.0))


_RECIPES: dict[str, Callable[[Source, Path], Volume]] = {
    "colin27": _colin,
    "colin27-brain": _colin_brain,
    "mni152-2009a": _mni152,
    "inia19": _inia19,
    "itk-t1": _itk,
    "brainbrowser-1": _brainbrowser,
    "brainbrowser-2": _brainbrowser,
}


def sources() -> tuple[Source, ...]:
    """Return all sources that packages hold."""
    return tuple(source for source in SOURCES if source.name in _RECIPES)


def read(path: Path, channel: int | None = None) -> Grid:
    """Read a NIfTI file along the patient's axes."""
    image = nibabel.funcs.as_closest_canonical(  # type: ignore[no-untyped-call]
        nibabel.nifti1.Nifti1Image.from_filename(path)
    )
    data = image.dataobj if channel is None else image.dataobj[..., channel]
    return np.asarray(data, dtype=np.float32), image.affine


def _onto(grid: Grid, shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.float32]:
    """Interpolate a grid on another one; beyond its edge the nearest value counts."""
    values, own = grid
    step = np.linalg.inv(own) @ affine
    result: NDArray[np.float32] = ndimage.affine_transform(
        values, step[:3, :3], step[:3, 3], output_shape=shape, order=1, mode="nearest", output=np.float32
    )
    return result


def normalise(signal: NDArray[np.float32], floor: float = 0.0) -> NDArray[np.float32]:
    """Divide by the 99.8th percentile of what is not background, clip at 1.5 of it; fade out what is below `floor`."""
    top = float(np.percentile(signal[signal > 0.1 * signal.max()], 99.8))
    scaled = np.clip(signal / top, 0, 1.5)
    if floor > 0:
        # Background noise of a magnitude image would be an object to the simulator.
        smooth = ndimage.gaussian_filter(scaled, 1.0)
        scaled = scaled * np.clip((smooth - floor) / floor, 0, 1)
    return np.asarray(scaled, dtype=np.float32)


def _pad(values: NDArray[np.floating], margin: int = _AIR_MARGIN) -> NDArray[np.float32]:
    """Add air on all sides."""
    padded: NDArray[np.float32] = np.pad(values, margin).astype(np.float32)
    return padded


def _shifted(affine: NDArray[np.float64], margin: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the affine of a padded grid."""
    shifted = affine.copy()
    shifted[:3, 3] -= affine[:3, :3] @ margin
    return shifted


def _volume(
    source: Source,
    signal: NDArray[np.float32],
    tissues: NDArray[np.uint8],
    affine: NDArray[np.float64],
    centre: tuple[float, float, float],
) -> Volume:
    """Make a volume whose centre is given in mm."""
    voxel = np.linalg.solve(affine, [*centre, 1.0])[:3]
    return Volume.of(source, signal, tissues, _triple(np.linalg.norm(affine[:3, :3], axis=0)), _triple(voxel))


def _triple(values: NDArray[np.floating] | tuple[float, ...]) -> tuple[float, float, float]:
    """Return three numbers."""
    x, y, z = (float(value) for value in values)
    return x, y, z
