"""What is reconstructed: slices of held-out heads, measured in every cell with the same coils, phase and noise."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recond_models.masks import mask_for
from recond_models.training import arrays, details
from recond_models.training.collection import denoised
from recond_models.training.fields import to_kspace, upsample
from recond_models.training.patterns import variable_density
from recond_models.training.planes import Plane, cut
from recond_models.training.volumes import Volume

Mask = Literal["equispaced", "random", "poisson", "partial"]

MASKS: tuple[Mask, ...] = ("equispaced", "random", "poisson", "partial")
ACCELERATIONS = (2, 4, 6, 8, 10)
COILS = (4, 8, 16, 32)
NOISES = (0.001, 0.005, 0.02)
MIDDLE = (8, 0.005)
"""Coils and noise of the cells in which the acceleration varies."""
_CROSSED = (4, 8)
_MEASURED_SHARE = 0.75
SHAPE = (224, 192)
PIXEL_MM = 1.0
"""Pixels lie on the voxels of the volumes: no interpolation smooths them, and the power in their k-space falls from the centre as
in the measured head."""

_COARSE = 18
_CALIBRATION = 24
_FEWEST_LINES = 8
# View, offset from the middle of the brain along the normal in mm, and weighting.
TEST_SLICES = (("axial", 18.0, "t1"), ("axial", -6.0, "t2-like"), ("coronal", -8.0, "t1"))
TUNING_SLICES = (("axial", 6.0, "t1"),)
"""Another slice of the same head: an advantage to what is tuned. On the smooth average head that there is to train on, penalties
come out so large at 8-fold that they lose 0.04 SSIM on this one."""
_PLANES_MM = (-1.0, 0.0, 1.0)
_VIEWS = {
    "axial": ((0, -1, 0), (-1, 0, 0), (0, 0, 1)),
    "coronal": ((0, 0, -1), (-1, 0, 0), (0, 1, 0)),
    "sagittal": ((0, 0, -1), (0, -1, 0), (1, 0, 0)),
}
# T1-weighted signal to one in which fluid is bright and white matter darker than grey; bone and air stay dark.
_T2_LIKE = ((0.0, 0.06, 0.16, 0.24, 0.45, 0.62, 0.85, 1.5), (0.0, 0.08, 0.85, 1.0, 0.72, 0.5, 0.4, 0.55))


@dataclass(frozen=True, slots=True)
class Cell:
    """One setting of the comparison.

    Parameters
    ----------
    mask, acceleration, coils
        Sampling.
    noise
        Standard deviation of real and imaginary part of the noise of a coil, as a fraction of the bright pixels.
    """

    mask: Mask
    acceleration: int
    coils: int
    noise: float

    @property
    def key(self) -> str:
        """Name in the results."""
        return f"{self.mask} {self.acceleration}x {self.coils}ch {self.noise:g}"


@dataclass(frozen=True, slots=True)
class Scene:
    """A measured slice and its truth.

    Parameters
    ----------
    kspace
        complex64 (coils, rows, columns), noise white, zero where nothing was measured.
    mask
        bool (rows, columns).
    calibration
        complex64 (coils, calibration rows, calibration columns).
    truth
        float32 (rows, columns): root sum of squares of the coil images without noise; 99th percentile 1.
    """

    kspace: NDArray[np.complex64]
    mask: NDArray[np.bool_]
    calibration: NDArray[np.complex64]
    truth: NDArray[np.float32]


def cells() -> list[Cell]:
    """Return the cells: every pattern at every acceleration, and at 4 and 8-fold every number of coils and every noise."""
    coils, noise = MIDDLE
    found = [Cell(mask, factor, coils, noise) for factor in ACCELERATIONS for mask in MASKS]
    found += [Cell(mask, factor, other, noise) for other in COILS for factor in _CROSSED for mask in MASKS]
    found += [Cell(mask, factor, coils, other) for other in NOISES for factor in _CROSSED for mask in MASKS]
    return sorted(
        dict.fromkeys(found), key=lambda cell: (cell.coils != coils, cell.noise != noise, cell.acceleration == 2)
    )


def quick_cells() -> list[Cell]:
    """Return a few cells."""
    return [cell for cell in cells() if (cell.coils, cell.noise) == MIDDLE and cell.acceleration in _CROSSED]


def tuning_cell(cell: Cell) -> Cell:
    """Return the cell in which the weights for a cell are tuned: of the same noise, the nearer of 4 and 8-fold, 8 coils."""
    mask: Mask = "equispaced" if cell.mask == "partial" else cell.mask
    return Cell(mask, 4 if cell.acceleration < 6 else 8, MIDDLE[0], cell.noise)


def magnitude(volume: Volume, view: str, offset: float, weighting: str) -> NDArray[np.float32]:
    """Cut a slice, float32 (rows, columns), largest value 1.

    The noise of the volume is no truth: three planes are averaged, as a slice is thick, and half of what is left goes by non-local
    means. All of it would take the texture along.
    """
    rows, columns = (np.arange(size, dtype=np.float64) for size in SHAPE)
    thick = np.zeros(SHAPE, dtype=np.float32)
    for step in _PLANES_MM:
        points = plane_of(view, offset + step).points(SHAPE, rows, columns)
        signal = cut(volume, points.astype(np.float32))[0]
        thick += np.interp(signal, *_T2_LIKE) if weighting == "t2-like" else signal
    smooth = (thick + denoised(thick, reach=4)) / 2
    return (smooth / smooth.max()).astype(np.float32)


def plane_of(view: str, offset: float) -> Plane:
    """Return a straight plane."""
    down, across, normal = (np.asarray(vector, dtype=np.float64) for vector in _VIEWS[view])
    return Plane(view, offset * normal, down * PIXEL_MM, across * PIXEL_MM)


def coil_images(image: NDArray[np.float32], view: str, offset: float, coils: int) -> NDArray[np.complex64]:
    """Give a slice phase and coils: complex64 (coils, rows, columns), 99th percentile of the root sum of squares 1."""
    seed = zlib.crc32(f"{view} {offset} {coils}".encode())
    generator = np.random.default_rng(seed)
    with_phase = image * details.phase(generator, image)
    grid = plane_of(view, offset).points(SHAPE, *(np.linspace(0, size - 1, _COARSE) for size in SHAPE))
    images = with_phase * upsample(arrays.receive_fields(generator, coils, grid), SHAPE)
    return images / np.quantile(root_sum_of_squares(images), 0.99).astype(np.float32)


def measure(images: NDArray[np.complex64], cell: Cell, number: int) -> Scene:
    """Measure the k-space of coil images in a cell; `number` tells the slices of a cell apart."""
    mask = mask_of(cell, number)
    generator = np.random.default_rng(zlib.crc32(f"{cell.key} {number}".encode()))
    truth = to_kspace(images)
    noise = generator.standard_normal((*truth.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    measured = (truth + np.float32(cell.noise) * noise) * mask
    rows, columns = SHAPE
    height, width = calibration_extent(mask)
    top, left = rows // 2 - height // 2, columns // 2 - width // 2
    calibration = measured[:, top : top + height, left : left + width].copy()
    return Scene(measured, mask, calibration, root_sum_of_squares(images))


def mask_of(cell: Cell, number: int) -> NDArray[np.bool_]:
    """Return the mask of a slice of a cell, bool (rows, columns); see `draw_mask`."""
    return draw_mask(cell.mask, cell.acceleration, SHAPE, f"{cell.key} {number}")


def draw_mask(mask: Mask, acceleration: int, shape: tuple[int, int], seed: str) -> NDArray[np.bool_]:
    """Return a mask, bool (rows, columns).

    Lines follow fastMRI: a centre of 0.32 / R of the lines, here never fewer than 8. Partial Fourier: equispaced lines without the
    last quarter of k-space, as many in all as the acceleration says.
    """
    if mask == "poisson":
        return variable_density(np.random.default_rng(zlib.crc32(f"{seed} mask".encode())), shape, acceleration)
    columns = shape[1]
    kept = _MEASURED_SHARE if mask == "partial" else 1.0
    wanted = acceleration * kept
    kind = "random" if mask == "random" else "equispaced_fraction"
    lines = mask_for(kind, columns, wanted, max(0.32 / acceleration, _FEWEST_LINES / columns), seed).copy()
    lines[round(columns * kept) :] = False
    return np.broadcast_to(lines, shape).copy()


def calibration_extent(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Return rows and columns of the full block about the middle, at most 24 x 24."""
    rows, columns = mask.shape
    width = 0
    while width < _CALIBRATION and _block(mask, 1, width + 1).all():
        width += 1
    height = 0
    while height < _CALIBRATION:
        top, left = rows // 2 - (height + 1) // 2, columns // 2 - width // 2
        if not mask[top : top + height + 1, left : left + width].all():
            break
        height += 1
    return height, width


def root_sum_of_squares(images: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Combine (coils, rows, columns)."""
    return np.sqrt((np.abs(images) ** 2).sum(axis=0)).astype(np.float32)


def _block(mask: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """Return the block of a mask about its middle."""
    top, left = mask.shape[0] // 2 - height // 2, mask.shape[1] // 2 - width // 2
    return mask[top : top + height, left : left + width]
