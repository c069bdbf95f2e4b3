"""A simulated multi-slice Cartesian scan and the images that a perfect reconstruction would return."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recond_models import masks
from recond_models.simulate import phantom, receive
from recond_models.simulate.head import head_slices
from recond_models.simulate.sample import sample_slice

Pattern = Literal["equispaced", "random"]
Phantom = Literal["head", "shepp-logan", "sample"]

READOUT_DWELL_US = 10.0
"""Time per sample of the imaging readouts, microseconds."""

NOISE_DWELL_US = 5.0
"""Time per sample of the noise readouts, microseconds."""

NOISE_BANDWIDTH = 0.793
"""Noise bandwidth of the receiver relative to the sampling rate of the noise readouts."""

_AXES = (-2, -1)
_DECAY = 0.7


@dataclass(frozen=True, slots=True)
class ScanSettings:
    """What to simulate.

    Parameters
    ----------
    coils
        Receive coils, 1 to 64.
    slices
        Slices.
    rows, columns
        Matrix: readout (without oversampling) and phase encode.
    acceleration
        1 measures every line.
    calibration_lines
        Lines in the centre that are measured whatever the acceleration.
    pattern
        Lines outside the centre: every `acceleration`-th, or drawn so that the acceleration is met with the centre.
    noise
        Standard deviation of real and imaginary part of the noise of a coil in its fully sampled image, as a fraction of the
        brightest pixel of the true (not whitened) image.
    oversampling
        Readout oversampling, 1 or 2.
    partial_fourier
        Fraction of the phase-encode lines, from the last one downwards, that are measured: more than 0.5, at most 1.
    volume
        3-D encoding: the slices are partitions, and touch each other.
    partial_fourier_partitions
        As `partial_fourier`, of the partitions of a volume.
    contrasts
        Echoes; each has 0.7 times the signal of the one before.
    repetitions, averages
        The same again, with other noise.
    phantom
        What is in the scanner.
    field_of_view
        Length of both sides of the image, mm.
    seed
        Same seed, same scan.

    Raises
    ------
    ValueError
        A setting is out of range; the message says which.
    """

    coils: int = 8
    slices: int = 4
    rows: int = 256
    columns: int = 256
    acceleration: float = 4
    calibration_lines: int = 24
    pattern: Pattern = "equispaced"
    noise: float = 0.005
    oversampling: int = 2
    partial_fourier: float = 1.0
    phantom: Phantom = "head"
    field_of_view: float = 240.0
    seed: int = 0
    volume: bool = False
    partial_fourier_partitions: float = 1.0
    contrasts: int = 1
    repetitions: int = 1
    averages: int = 1

    def __post_init__(self) -> None:
        rules = (
            (1 <= self.coils <= 64, "coils", "from 1 to 64"),
            (1 <= self.slices <= 512, "slices", "from 1 to 512"),
            (16 <= self.rows <= 2048, "rows", "from 16 to 2048"),
            (16 <= self.columns <= 2048, "columns", "from 16 to 2048"),
            (1 <= self.acceleration <= 32, "acceleration", "from 1 to 32"),
            (0 <= self.calibration_lines <= self.columns, "calibration_lines", f"from 0 to {self.columns}"),
            (math.isfinite(self.noise) and self.noise >= 0, "noise", "0 or more"),
            (self.oversampling in {1, 2}, "oversampling", "1 or 2"),
            (0.5 < self.partial_fourier <= 1, "partial_fourier", "more than 0.5 and at most 1"),
            (0.5 < self.partial_fourier_partitions <= 1, "partial_fourier_partitions", "more than 0.5 and at most 1"),
            (self.slices == 1 or self.phantom != "sample", "slices", "1 of the sample"),
            (self.slices > 1 or not self.volume, "slices", "more than 1 in a volume"),
            (1 <= self.contrasts <= 64, "contrasts", "from 1 to 64"),
            (1 <= self.repetitions <= 1024, "repetitions", "from 1 to 1024"),
            (1 <= self.averages <= 64, "averages", "from 1 to 64"),
            (math.isfinite(self.field_of_view) and self.field_of_view > 0, "field_of_view", "positive"),
            (self.seed >= 0, "seed", "0 or more"),
        )
        for holds, name, allowed in rules:
            if not holds:
                raise ValueError(f"{name} must be {allowed}, got {getattr(self, name)}")
        if self.pattern == "equispaced" and self.acceleration != round(self.acceleration):
            raise ValueError(f"equispaced lines need a whole acceleration, got {self.acceleration}")


@dataclass(frozen=True, slots=True)
class SimulatedScan:
    """A scan and its truth. Slices are in the order of their positions along the slice direction.

    Measurements are repetitions x contrasts x averages, the last one fastest, each of all slices. True images are those of
    contrasts x repetitions, again of all slices each. In a volume, measured slices are partitions, and the true images are slices
    along the partition.

    Parameters
    ----------
    settings
        What was asked for.
    kspace
        complex64 (measurements * slices, coils, oversampling * rows, columns), zero in the lines that were not measured; centred
        orthonormal DFT.
    lines
        bool (columns,), true where measured.
    partitions
        bool (slices,), the measured partitions of a volume; all slices of a 2-D scan.
    calibration
        bool (columns,), the measured lines of the calibration block.
    truth
        float32 (images, rows, columns): root sum of squares of the coil images without noise and with every line measured.
    whitened_truth
        The same after the coils were whitened with `noise_samples` (see `whitening`): what a reconstruction that whitens returns.
        Equal to `truth` if there is no noise.
    noise_samples
        complex64 (coils, samples) of the noise readouts; no samples if there is no noise.
    noise_covariance
        complex128 (coils, coils) of the noise in `kspace`.
    positions
        float64 (slices, 3): centre of each image, mm, LPS.
    read_direction, phase_direction, slice_direction
        Unit vectors, LPS.
    slice_spacing
        mm.
    """

    settings: ScanSettings
    kspace: NDArray[np.complex64]
    lines: NDArray[np.bool_]
    partitions: NDArray[np.bool_]
    calibration: NDArray[np.bool_]
    truth: NDArray[np.float32]
    whitened_truth: NDArray[np.float32]
    noise_samples: NDArray[np.complex64]
    noise_covariance: NDArray[np.complex128]
    positions: NDArray[np.float64]
    read_direction: tuple[float, float, float]
    phase_direction: tuple[float, float, float]
    slice_direction: tuple[float, float, float]
    slice_spacing: float


_DIRECTIONS: dict[str, Any] = {
    "axial": {
        "read_direction": (0.0, 1.0, 0.0),
        "phase_direction": (1.0, 0.0, 0.0),
        "slice_direction": (0.0, 0.0, -1.0),
    },
    "sagittal": {
        "read_direction": (0.0, 0.0, -1.0),
        "phase_direction": (0.0, 1.0, 0.0),
        "slice_direction": (1.0, 0.0, 0.0),
    },
}


def simulate(settings: ScanSettings) -> SimulatedScan:
    """Simulate a scan.

    Axial slices, readout towards the back, phase encode towards the patient's left, slices from the top of the head downwards. The
    sample is a sagittal slice, readout towards the feet, phase encode towards the back.

    Parameters
    ----------
    settings
        What to simulate.

    Returns
    -------
    SimulatedScan
        The scan; the same for the same settings.

    Raises
    ------
    HeadNotFoundError
        The head volumes are not installed.
    ValueError
        The lines cannot be chosen as asked.
    """
    generator = np.random.default_rng(settings.seed)
    lines, calibration = _choose_lines(settings)
    if settings.phantom != "shepp-logan":
        kspace, positions, spacing = _head_kspace(settings, generator)
    else:
        kspace, positions, spacing = _shepp_logan_kspace(settings)
    clean = _remove_oversampling(kspace, settings.rows)
    truth = np.sqrt(np.sum(np.abs(clean) ** 2, axis=1))

    covariance = receive.noise_covariance(settings.coils, settings.noise * float(truth.max()), generator)
    # The noise readouts sample faster, which lets more noise in, through a filter that keeps some out.
    noise_scan = covariance * (READOUT_DWELL_US / NOISE_DWELL_US * NOISE_BANDWIDTH)
    noise_samples = receive.draw_noise(
        noise_scan, (_noise_sample_count(settings) if settings.noise else 0,), generator
    ).astype(np.complex64)
    whitened_truth = truth
    if settings.noise:
        mixed = np.tensordot(whitening(noise_samples), clean, axes=(1, 1)).swapaxes(0, 1)
        whitened_truth = np.sqrt(np.sum(np.abs(mixed) ** 2, axis=1))
    if settings.volume:
        kspace = _along_slices(kspace)
    partitions = np.arange(settings.slices) >= unmeasured(settings.slices, settings.partial_fourier_partitions)
    factors = np.repeat(_DECAY ** np.arange(settings.contrasts), settings.averages)
    measured = np.concatenate([factor * kspace for factor in np.tile(factors, settings.repetitions)])
    for samples in measured:
        np.add(samples, receive.draw_noise(covariance, samples.shape[1:], generator), out=samples)
    if settings.volume:
        measured *= np.tile(partitions, len(measured) // settings.slices)[:, None, None, None]
    return SimulatedScan(
        settings=settings,
        kspace=np.where(lines, measured, 0).astype(np.complex64),
        lines=lines,
        partitions=partitions if settings.volume else np.ones(settings.slices, np.bool_),
        calibration=calibration,
        truth=_true_images(truth, settings),
        whitened_truth=_true_images(whitened_truth, settings),
        noise_samples=noise_samples,
        noise_covariance=covariance,
        positions=positions,
        **_DIRECTIONS["sagittal" if settings.phantom == "sample" else "axial"],
        slice_spacing=spacing,
    )


def unmeasured(length: int, fraction: float) -> int:
    """Return how many of `length` phase encodes partial Fourier leaves out, at the beginning."""
    return length - math.ceil(fraction * length)


def _true_images(truth: NDArray[np.float64], settings: ScanSettings) -> NDArray[np.float32]:
    """Return the true images of all contrasts and repetitions, in the order of the reconstruction."""
    factors = np.repeat(_DECAY ** np.arange(settings.contrasts), settings.repetitions)
    return np.concatenate([factor * truth for factor in factors]).astype(np.float32)


def _along_slices(kspace: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Return the k-space of a volume (partitions, coils, rows, columns) from those of its slices."""
    shifted = np.fft.fft(np.fft.ifftshift(kspace, axes=0), axis=0, norm="ortho")
    return np.asarray(np.fft.fftshift(shifted, axes=0), np.complex128)


def whitening(noise_samples: NDArray[np.complex64]) -> NDArray[np.complex128]:
    """Return the matrix that makes the noise of the imaging readouts white, with variance 1 in real and imaginary part.

    ``s L^-1`` with ``N N^H / (M - 1) = L L^H`` and ``s = sqrt(2 T_imaging / T_noise b)`` (Pruessmann et al. 2001,
    doi:10.1002/mrm.1241; Kellman and McVeigh 2005, doi:10.1002/mrm.20713).

    Parameters
    ----------
    noise_samples
        complex64 (coils, samples) of noise readouts of `NOISE_DWELL_US`, bandwidth ratio `NOISE_BANDWIDTH`.

    Returns
    -------
    ndarray
        complex128 (coils, coils).
    """
    noise = noise_samples.astype(np.complex128)
    factor = np.linalg.cholesky(noise @ noise.conj().T / (noise.shape[1] - 1))
    scale = math.sqrt(2 * READOUT_DWELL_US / NOISE_DWELL_US * NOISE_BANDWIDTH)
    return np.asarray(scale * np.linalg.inv(factor), dtype=np.complex128)


def _noise_sample_count(settings: ScanSettings) -> int:
    """Return how many noise samples make a good estimate: whole readouts, at least 4096 samples."""
    readout = settings.oversampling * settings.rows
    return readout * max(1, math.ceil(max(4096, 64 * settings.coils) / readout))


def _choose_lines(settings: ScanSettings) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which columns are measured, and which of these are the calibration block; both bool (columns,)."""
    columns, centre = settings.columns, settings.columns // 2
    block = np.zeros(columns, dtype=np.bool_)
    start = centre - settings.calibration_lines // 2
    block[start : start + settings.calibration_lines] = True
    lines = np.zeros(columns, dtype=np.bool_)
    if settings.acceleration == 1:
        lines[:] = True
    elif settings.pattern == "equispaced":
        lines[centre % round(settings.acceleration) :: round(settings.acceleration)] = True
    else:
        fraction = settings.calibration_lines / columns
        lines = masks.mask_for("random", columns, settings.acceleration, fraction, f"simulated-{settings.seed}")
    first = unmeasured(columns, settings.partial_fourier)
    block[:first] = False
    lines = lines | block
    lines[:first] = False
    return lines, block


def _head_kspace(
    settings: ScanSettings, generator: np.random.Generator
) -> tuple[NDArray[np.complex128], NDArray[np.float64], float]:
    """Return k-space (slices, coils, oversampled rows, columns) without noise, positions and spacing."""
    # Twice the resolution: measured k-space is a window of that of a finer object, with the ringing that makes.
    rows, columns = 2 * settings.rows, 2 * settings.columns
    if settings.phantom == "sample":
        head = sample_slice(rows, columns)
    else:
        head = head_slices(settings.slices, rows, columns, settings.field_of_view)
    fields = receive.sensitivities(settings.coils, rows, columns)
    y = (np.arange(rows) - rows // 2)[:, None] * (2 / rows)
    x = (np.arange(columns) - columns // 2)[None, :] * (2 / columns)
    kspace = np.empty(
        (settings.slices, settings.coils, settings.oversampling * settings.rows, settings.columns), dtype=np.complex128
    )
    for slice_images, image in zip(kspace, head.images, strict=True):
        shape = generator.uniform(-1, 1, 6)
        phase = shape[0] + shape[1] * x + shape[2] * y + shape[3] * x * y + shape[4] * x**2 + shape[5] * y**2
        for coil, field in zip(slice_images, fields, strict=True):
            fine = image * np.exp(1j * phase) * field
            padded = np.pad(fine, (((settings.oversampling - 1) * rows // 2,) * 2, (0, 0)))
            # The factor keeps the size of the pixels' values: orthonormal transforms of different lengths.
            coil[:] = _crop(_fft2c(padded), coil.shape) / 2
    return kspace, head.positions, head.spacing


def _shepp_logan_kspace(settings: ScanSettings) -> tuple[NDArray[np.complex128], NDArray[np.float64], float]:
    """Return k-space (slices, coils, oversampled rows, columns) without noise, positions and spacing."""
    weights = phantom.plane_wave_weights(receive.sensitivities(settings.coils, 64, 64))
    one = phantom.multicoil_kspace(weights, settings.rows, settings.columns, settings.oversampling)
    # Every slice is dimmer than the one before it, so that their order shows.
    fading = np.linspace(1, 0.5, settings.slices)
    spacing = 6.0
    heights = spacing * ((settings.slices - 1) / 2 - np.arange(settings.slices))
    positions = np.column_stack([np.zeros(settings.slices), np.zeros(settings.slices), heights])
    kspace: NDArray[np.complex128] = fading[:, None, None, None] * one
    return kspace, positions, spacing


def _remove_oversampling(kspace: NDArray[np.complex128], rows: int) -> NDArray[np.complex128]:
    """Return the coil images (slices, coils, rows, columns): the middle of the oversampled readout."""
    images = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes=_AXES), axes=_AXES, norm="ortho"), axes=_AXES)
    return _crop(images, (rows, images.shape[-1]))


def _fft2c(image: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Return the centred orthonormal DFT over the last two axes."""
    shifted = np.fft.ifftshift(image, axes=_AXES)
    kspace: NDArray[np.complex128] = np.fft.fftshift(np.fft.fft2(shifted, axes=_AXES, norm="ortho"), axes=_AXES)
    return kspace


def _crop(array: NDArray[np.complex128], shape: tuple[int, ...]) -> NDArray[np.complex128]:
    """Return the middle of the last two axes, origin kept at ``n // 2``."""
    rows, columns = shape[-2:]
    top, left = array.shape[-2] // 2 - rows // 2, array.shape[-1] // 2 - columns // 2
    return array[..., top : top + rows, left : left + columns]
