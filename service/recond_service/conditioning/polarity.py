"""How far readouts that were measured backwards lie off those between them, as the samples tell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recond_service.conditioning.grid import KspaceGrid
from recond_service.conditioning.volume import VolumeGrid
from recond_service.fourier import kspace_to_image

_UNCLEAR = 0.15  # of a sample about the middle between both ways
_BEYOND = 3.0  # samples: reversed readouts that lie farther off have another cause
_FEWER = 0.02  # by which the sums of the magnitudes of both images must differ
_COHERENT = 0.5  # share of the phase differences along the readout that has to agree


def is_as_measured(grid: KspaceGrid | VolumeGrid, shape: tuple[int, int]) -> bool | None:
    """Tell whether the reversed readouts have to be moved by one row to fit the others; None where the samples do not tell.

    A shift along the readout is a linear phase of its image. The phase between a readout and its neighbour holds that of the object
    too, which has the opposite sign between the readout and its neighbour on the other side: the product of both has the shift
    alone. Where readouts of one direction lie side by side, as those of several shots do, the way with fewer ghosts is right.

    Parameters
    ----------
    grid
        What was collected; `turned` tells which readouts were reversed.
    shape
        Counters of both phase encodes.
    """
    backwards = ((grid.turned > 0) & (grid.turned == grid.lines)).reshape(shape)
    forwards = ((grid.turned == 0) & (grid.lines > 0)).reshape(shape)
    measured = np.flatnonzero((backwards | forwards).any(axis=1))
    distance = int(np.diff(measured).min(initial=shape[0]))
    if 2 * distance < shape[0]:
        middle = backwards[distance:-distance] & forwards[: -2 * distance] & forwards[2 * distance :]
        if 2 * middle.sum() > backwards.sum():
            shift = _shift(grid, middle, distance)
            clear = shift is not None and _UNCLEAR < abs(shift - 0.5) < _BEYOND
            return shift > 0.5 if clear and shift is not None else None
    return _fewer_ghosts(grid, backwards, forwards)


def _fewer_ghosts(
    grid: KspaceGrid | VolumeGrid, backwards: NDArray[np.bool_], forwards: NDArray[np.bool_]
) -> bool | None:
    """Compare the sums of the magnitudes of both images: ghosts spread the same energy over more pixels."""
    partition = int(np.argmax((backwards & forwards.any(axis=0)).sum(axis=0)))
    steps = np.flatnonzero((backwards | forwards)[:, partition])
    values = grid.values_of(steps * backwards.shape[1] + partition)
    kspace = np.zeros((len(backwards), *values.shape[1:]), np.complex64)
    sums = []
    for shift in (0, 1):
        kspace[steps] = np.where(backwards[steps, partition][:, None, None], np.roll(values, shift, axis=2), values)
        image = kspace_to_image(kspace, axes=(0, 2))
        sums.append(float(np.sqrt((np.abs(image) ** 2).sum(axis=1)).sum()))
    if abs(sums[0] - sums[1]) <= _FEWER * max(sums):
        return None
    return sums[1] < sums[0]


def _shift(grid: KspaceGrid | VolumeGrid, middle: NDArray[np.bool_], distance: int) -> float | None:
    partitions = middle.shape[1]
    products = [np.zeros(0, np.complex128)] * 2
    for partition in np.flatnonzero(middle.any(axis=0)):
        steps = np.flatnonzero(middle[:, partition])
        before, here, after = (
            kspace_to_image(grid.values_of((steps + offset) * partitions + partition), axes=(2,))
            for offset in (0, distance, 2 * distance)
        )
        found = [(here * other.conj()).sum(axis=(0, 1), dtype=np.complex128) for other in (before, after)]
        products = [total + one if total.size else one for total, one in zip(products, found, strict=True)]
    both = products[0] * products[1]
    both = both / np.sqrt(np.maximum(np.abs(both), np.finfo(np.float64).tiny))
    steps_of_phase = both[1:] * both[:-1].conj()
    size = float(np.abs(steps_of_phase).sum())
    if not size or abs(steps_of_phase.sum()) < _COHERENT * size:
        return None
    return float(-np.angle(steps_of_phase.sum()) * len(both) / (4 * np.pi))
