"""Undersampled k-space of heads with its truth, simulated on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recond_models.training import arrays, contrast, details, labels, planes, shapes
from recond_models.training.fields import smooth_field, to_images, to_kspace, upsample
from recond_models.training.patterns import SamplingPattern, draw_pattern
from recond_models.training.volumes import Volume

_COARSE = 18
_COMPRESSION_GRID = 48
_TRIES = 6
_LEAST_HEAD = 0.08


@dataclass(frozen=True, slots=True)
class SimulationSettings:
    """What is drawn.

    Parameters
    ----------
    max_coils
        More coils than this are compressed to as many virtual ones.
    coils
        Numbers of physical coils, equally likely; repeat one to make it likelier.
    sizes
        Smallest and largest matrix side where no shape is asked for.
    accelerations
        Smallest and largest acceleration.
    noise
        Smallest and largest standard deviation of real and imaginary part of the noise of a coil, as a fraction of the bright
        pixels.
    kinds
        Kinds of sampling patterns; empty for the usual mixture.
    coloured
        Part of the scans whose noise is correlated between the coils and not equally strong in all.
    motion
        Part of the scans in which the head moves.
    fat
        Part of the scans in which the fat below the skin has its own brightness, phase and place.
    shapes
        Part of the scans that show a body of random shapes in place of a head.
    unsteady
        Part of the scans whose lines differ a little in size and phase, as a scanner that drifts or a heart that beats makes them.
    """

    max_coils: int = 8
    coils: tuple[int, ...] = (1, 2, 4, 4, 6, 8, 8, 8, 12, 12, 16, 16, 20, 24, 32)
    sizes: tuple[int, int] = (96, 384)
    accelerations: tuple[float, float] = (2.0, 12.0)
    noise: tuple[float, float] = (8e-4, 6e-2)
    kinds: tuple[str, ...] = ()
    coloured: float = 0.5
    motion: float = 0.12
    fat: float = 0.6
    shapes: float = 0.0
    unsteady: float = 0.4

    def __post_init__(self) -> None:
        if self.max_coils < 1 or not self.coils or min(self.coils) < 1:
            raise ValueError(f"coils and max_coils are at least 1, got {self.coils} and {self.max_coils}")
        if not 32 <= self.sizes[0] <= self.sizes[1]:
            raise ValueError(f"sizes go from at least 32 upwards, got {self.sizes}")
        if not 1 <= self.accelerations[0] <= self.accelerations[1]:
            raise ValueError(f"accelerations go from at least 1 upwards, got {self.accelerations}")
        parts = {name: getattr(self, name) for name in ("coloured", "motion", "fat", "shapes", "unsteady")}
        if not all(0 <= part <= 1 for part in parts.values()):
            raise ValueError(f"{', '.join(parts)} are parts from 0 to 1, got {list(parts.values())}")
        if not 0 <= self.noise[0] <= self.noise[1]:
            raise ValueError(f"noise goes from at least 0 upwards, got {self.noise}")


@dataclass(frozen=True, slots=True)
class SampleDescription:
    """How a sample came about.

    Parameters
    ----------
    subject, view, contrast
        Whose head, cut how, weighted how.
    pattern, acceleration
        Sampling pattern, and positions over measured positions.
    coils
        Physical coils, before compression.
    seed
        Draws the sample again.
    """

    subject: str
    view: str
    contrast: str
    pattern: str
    acceleration: float
    coils: int
    seed: int


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """One slice.

    Scaled so that the 99th percentile of the root sum of squares of `coil_images` is 1. Centred orthonormal DFT.

    Parameters
    ----------
    kspace
        complex64 (coils, rows, columns), with noise, zero where nothing was measured.
    mask
        bool (rows, columns).
    calibration
        complex64 (coils, calibration rows, calibration columns): the block around ``n // 2``, with the same noise.
    coil_images
        complex64 (coils, rows, columns): fully sampled and without noise, in the same coils.
    noise_level
        Standard deviation of real and imaginary part of the noise of a coil in k-space.
    description
        How it came about.
    """

    kspace: NDArray[np.complex64]
    mask: NDArray[np.bool_]
    calibration: NDArray[np.complex64]
    coil_images: NDArray[np.complex64]
    noise_level: float
    description: SampleDescription


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise of an array.

    Parameters
    ----------
    level
        Standard deviation of real and imaginary part of the noise of a coil, root mean square over the coils.
    coils
        How many.
    mixture
        complex64 (coils, coils): what white noise is mixed with; None if it stays white.
    """

    level: float
    coils: int
    mixture: NDArray[np.complex64] | None

    @classmethod
    def coloured(cls, generator: np.random.Generator, coils: int, level: float) -> Noise:
        """Return noise that is not quite white: scans without noise data cannot be whitened."""
        strength = generator.uniform(0, 0.35)
        mixture = np.eye(coils) + strength / np.sqrt(coils) * (
            generator.standard_normal((coils, coils)) + 1j * generator.standard_normal((coils, coils))
        )
        mixture *= np.exp(generator.normal(0, generator.uniform(0, 0.3), coils))[:, None]
        mixture *= np.sqrt(coils) / np.linalg.norm(mixture)
        return cls(level, coils, mixture.astype(np.complex64))

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.complex64]:
        """Return complex64 (coils, count)."""
        white = np.float32(self.level) * _complex_normal(generator, (self.coils, count))
        return white if self.mixture is None else self.mixture @ white


class Simulator:
    """Draws samples. Holds no state that changes: safe in threads and processes.

    Parameters
    ----------
    volumes
        Heads to cut slices from.
    settings
        What is drawn.

    Raises
    ------
    ValueError
        There are no volumes.
    """

    def __init__(self, volumes: Sequence[Volume], settings: SimulationSettings | None = None) -> None:
        if not volumes:
            raise ValueError("a simulator needs at least one volume: `make training-data` fetches them")
        self._volumes = tuple(volumes)
        self._settings = settings or SimulationSettings()
        weights = np.asarray([volume.source.weight for volume in self._volumes])
        self._shares = weights / weights.sum()
        self._heads = [planes.HeadBox.around(volume) for volume in self._volumes]

    def sample(self, seed: int, shape: tuple[int, int] | None = None) -> TrainingSample:
        """Draw a sample.

        Parameters
        ----------
        seed
            Not negative; the same seed and shape give the same sample.
        shape
            Rows and columns; drawn if None.

        Returns
        -------
        TrainingSample
            The sample.

        Raises
        ------
        ValueError
            A side is shorter than 32.
        """
        generator = np.random.default_rng(seed)
        coil_images, noise, pattern, described = self._scan(generator, shape)
        extent = coil_images.shape[1:]
        errors = np.ones((1, extent[1]), dtype=np.complex64)
        if generator.random() < self._settings.motion:
            errors = errors * _motion(generator, extent)
        if generator.random() < self._settings.unsteady:
            errors = errors * _unsteadiness(generator, extent, lines=pattern.lines)
        kspace, calibration = _measure(generator, coil_images, pattern, noise, errors)
        return TrainingSample(
            kspace, pattern.mask, calibration, coil_images, noise.level, replace(described, seed=seed)
        )

    def fully_sampled(self, seed: int, shape: tuple[int, int] | None = None) -> NDArray[np.complex64]:
        """Return k-space of `sample` as if all of it had been measured, complex64 (coils, rows, columns), with noise."""
        generator = np.random.default_rng(seed)
        coil_images, noise, _, _ = self._scan(generator, shape)
        kspace = to_kspace(coil_images)
        return kspace + noise.draw(generator, kspace.shape[1] * kspace.shape[2]).reshape(kspace.shape)

    def _scan(
        self, generator: np.random.Generator, shape: tuple[int, int] | None
    ) -> tuple[NDArray[np.complex64], Noise, SamplingPattern, SampleDescription]:
        """Draw the coil images without noise, the noise and the pattern of a scan."""
        settings = self._settings
        if shape is None:
            low, high = np.log(settings.sizes)
            rows, columns = np.exp(generator.uniform(low, high, 2)).round().astype(int)
            shape = (int(rows), int(columns))
        if min(shape) < 32:
            raise ValueError(f"slices need at least 32 rows and columns, got {shape}")
        magnitude, plane, subject, name = self._slice(generator, shape)
        image = self._excited(generator, magnitude, plane.pixel)
        coils = int(generator.choice(settings.coils))
        grid = plane.points(shape, np.linspace(0, shape[0] - 1, _COARSE), np.linspace(0, shape[1] - 1, _COARSE))
        fields = arrays.receive_fields(generator, coils, grid)
        pattern = draw_pattern(generator, shape, settings.accelerations, settings.kinds)
        noise = float(np.exp(generator.uniform(*np.log(np.maximum(settings.noise, 1e-12)))))
        if settings.noise[1] == 0:
            noise = 0.0
        brightness = _brightness(magnitude, fields)
        if coils > settings.max_coils:
            fields = _compress(generator, image / np.float32(brightness), fields, noise, settings.max_coils)
        coil_images = image * upsample(fields, shape)
        # Compression leaves out a little.
        coil_images /= np.float32(_bright(coil_images))
        described = SampleDescription(subject, plane.view, name, pattern.kind, pattern.acceleration, coils, 0)
        white = len(coil_images) == 1 or generator.random() >= settings.coloured
        drawn = Noise(noise, len(coil_images), None) if white else Noise.coloured(generator, len(coil_images), noise)
        return coil_images, drawn, pattern, described

    def _excited(
        self, generator: np.random.Generator, magnitude: NDArray[np.float32], pixel: float
    ) -> NDArray[np.complex64]:
        """Give a slice its phase, in some scans with fat of its own phase."""
        if generator.random() >= self._settings.fat:
            return magnitude * details.phase(generator, magnitude)
        water, fat = details.split_fat(generator, magnitude, pixel)
        turned = details.phase(generator, water)
        return details.add_fat(generator, water * turned, fat * turned)

    def _slice(
        self, generator: np.random.Generator, shape: tuple[int, int]
    ) -> tuple[NDArray[np.float32], planes.Plane, str, str]:
        """Draw the magnitude of a slice that has something of the head in it, its plane, subject and contrast."""
        if self._settings.shapes and generator.random() < self._settings.shapes:
            image, name = shapes.draw(generator, shape)
            return image, planes.any_plane(generator, shape), "nobody", name
        for _ in range(_TRIES):
            number = int(generator.choice(len(self._volumes), p=self._shares))
            volume = self._volumes[number]
            heights = planes.slice_heights(volume)
            plane = planes.draw_plane(generator, shape, self._heads[number], min(volume.spacing), heights)
            points = planes.deformed(generator, plane, shape, flat=heights is not None)
            if volume.has_labels:
                image, name = labels.paint(generator, volume, points)
                signal = image
            else:
                signal, tissues = planes.cut(volume, points)
                image, name = contrast.weight(generator, signal, tissues)
            if float((signal > 0.1).mean()) > _LEAST_HEAD:
                break
        image *= np.exp(np.float32(generator.uniform(0, 0.25)) * smooth_field(generator, shape, 4)[0])
        return details.add_detail(generator, image, plane.pixel), plane, volume.source.subject, name


def _brightness(magnitude: NDArray[np.float32], fields: NDArray[np.complex64]) -> float:
    """Return the 99th percentile of the root sum of squares without making the coil images."""
    total = np.maximum(upsample((np.abs(fields) ** 2).sum(axis=0), magnitude.shape), 0)
    return _percentile(magnitude * np.sqrt(total))


def _bright(coil_images: NDArray[np.complex64]) -> float:
    """Return the 99th percentile of the root sum of squares."""
    parts = coil_images.view(np.float32)
    squares = np.einsum("crk,crk->rk", parts, parts)
    return _percentile(np.sqrt(squares[:, 0::2] + squares[:, 1::2]))


def _percentile(values: NDArray[np.float32]) -> float:
    """Return the 99th percentile, not 0."""
    rank = max(0, int(0.99 * values.size) - 1)
    return max(float(np.partition(values, rank, axis=None)[rank]), 1e-12)


def _compress(
    generator: np.random.Generator,
    image: NDArray[np.complex64],
    fields: NDArray[np.complex64],
    noise: float,
    wanted: int,
) -> NDArray[np.complex64]:
    """Return the fields of virtual coils, by the singular vectors of noisy calibration data.

    Huang et al. 2008, doi:10.1016/j.mri.2007.04.010. The calibration data are those of a small image with the same low frequencies.
    """
    shape = (min(_COMPRESSION_GRID, image.shape[0]), min(_COMPRESSION_GRID, image.shape[1]))
    rows, columns = (slice(n // 2 - m // 2, n // 2 - m // 2 + m) for n, m in zip(image.shape, shape, strict=True))
    small = to_images(to_kspace(image)[rows, columns])
    block = to_kspace(small * upsample(fields, shape))
    data = block[:, shape[0] // 4 : shape[0] - shape[0] // 4, shape[1] // 4 : shape[1] - shape[1] // 4]
    data = data.reshape(len(fields), -1) + np.float32(noise) * _complex_normal(generator, (len(fields), data[0].size))
    # The eigenvectors of the small Gram matrix are the left singular vectors.
    _, vectors = np.linalg.eigh(data @ data.conj().T)
    mixture = vectors[:, ::-1][:, :wanted].conj().T.astype(np.complex64)
    return np.tensordot(mixture, fields, axes=1)


def _measure(
    generator: np.random.Generator,
    coil_images: NDArray[np.complex64],
    pattern: SamplingPattern,
    noise: Noise,
    errors: NDArray[np.complex64],
) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Return the measured samples, times `errors`, and the calibration block, both with noise."""
    truth = to_kspace(coil_images) * errors
    coils, rows, columns = truth.shape
    extent = pattern.calibration
    top, left = rows // 2 - extent[0] // 2, columns // 2 - extent[1] // 2
    block = (slice(None), slice(top, top + extent[0]), slice(left, left + extent[1]))
    needed = pattern.mask.copy()
    needed[block[1:]] = True
    places = np.flatnonzero(needed)
    flat = np.zeros((coils, rows * columns), dtype=np.complex64)
    flat[:, places] = truth.reshape(coils, -1)[:, places] + noise.draw(generator, places.size)
    measured = flat.reshape(truth.shape)
    calibration = measured[block].copy()
    measured[block] *= pattern.mask[block[1:]]
    return measured, calibration


def _motion(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.complex64]:
    """Return what a head that moves a few times by up to a pixel or so does to k-space; it is where it was in the centre.

    Lines are measured one after the other; positions of a two-dimensional pattern as well.
    """
    rows, columns = shape
    times = np.arange(columns)
    size = np.exp(generator.uniform(np.log(0.05), np.log(1.0)))
    moves = np.zeros((2, columns))
    for _ in range(int(generator.integers(1, 4))):
        moves += np.outer(generator.normal(0, size, 2), times > generator.uniform(0, columns))
    moves -= moves[:, columns // 2 : columns // 2 + 1]
    down = (np.arange(rows) - rows // 2)[:, None] / rows
    across = (np.arange(columns) - columns // 2)[None, :] / columns
    turns: NDArray[np.complex64] = np.exp(-2j * np.pi * (down * moves[0] + across * moves[1])).astype(np.complex64)
    return turns


def _unsteadiness(generator: np.random.Generator, shape: tuple[int, int], *, lines: bool) -> NDArray[np.complex64]:
    """Return factors near 1 of every line, or of every position of a two-dimensional pattern.

    With ESPIRiT's maps of all samples, the misfit of a measured head is 2 to 3 times its noise at low frequencies, 3 percent of
    the samples.
    """
    size = np.exp(generator.uniform(np.log(0.002), np.log(0.03)))
    drawn = (1, shape[1]) if lines else shape
    errors = 1 + np.float32(size) * _complex_normal(generator, drawn)
    return errors.astype(np.complex64)


def _complex_normal(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.complex64]:
    """Draw complex numbers whose real and imaginary parts have standard deviation 1."""
    parts = generator.standard_normal((*shape, 2), dtype=np.float32)
    numbers: NDArray[np.complex64] = parts.view(np.complex64)[..., 0]
    return numbers
