"""Lines that are brought into order as they come make the same frame as those that wait, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from recond_service.conditioning.grid import KspaceGrid
from recond_service.conditioning.readout import Placement
from recond_service.processes import FrameLayout, StagedKspace
from recond_service.types import Frame, FrameIndex

COILS, ROWS, COLUMNS = 3, 24, 80


def placement(samples: int) -> Placement:
    return Placement(0, samples, 0, reverse=False, lost=0, center_assumed=False)


def collected(readouts: np.ndarray, lines: list[np.ndarray], *, staged: bool) -> KspaceGrid:
    """A grid of readouts (columns, coils, samples), which come in pieces."""
    grid = KspaceGrid(COILS, readouts.shape[2], COLUMNS)
    if staged:
        grid.stage(ROWS)
    for columns in lines:
        grid.add(readouts[columns], placement(readouts.shape[2]), columns)
    return grid


def readouts(samples: int, scale: float = 1.0) -> np.ndarray:
    random = np.random.default_rng(1)
    parts = random.standard_normal((COLUMNS, COILS, samples, 2)).astype(np.float32) * np.float32(scale)
    return parts.view(np.complex64)[..., 0]


ORDERS = {
    "one by one": [np.array([line]) for line in range(COLUMNS)],
    "at once": [np.arange(COLUMNS)],
    "in pieces": [np.arange(first, min(first + 11, COLUMNS)) for first in range(0, COLUMNS, 11)],
    "interleaved": [np.arange(first, COLUMNS, 4) for first in (0, 2, 1, 3)],
    "undersampled": [np.arange(0, COLUMNS, 4), np.array([33, 34, 35])],
    "backwards": [np.array([line]) for line in reversed(range(COLUMNS))],
    "first and last": [np.array([0]), np.array([COLUMNS - 1])],
}


@pytest.mark.parametrize("conjugate", [False, True])
@pytest.mark.parametrize("oversampling", [1, 2])
@pytest.mark.parametrize("order", ORDERS)
def test_the_same_frame(order, oversampling, conjugate):
    data = readouts(ROWS * oversampling)
    kept = collected(data, ORDERS[order], staged=False).finish(ROWS, None, conjugate=conjugate)
    staged = collected(data, ORDERS[order], staged=True).finish(ROWS, None, conjugate=conjugate)
    assert staged.memory is not None
    assert staged.memory.holds(staged.kspace)
    assert kept.memory is None
    assert np.array_equal(staged.kspace, kept.kspace)
    assert np.array_equal(staged.mask, kept.mask)
    assert (staged.exponent, staged.finite) == (kept.exponent, kept.finite)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("oversampling", [1, 2])
def test_what_has_to_be_scaled_first_waits(oversampling, scale):
    data = readouts(ROWS * oversampling, scale)
    kept = collected(data, ORDERS["in pieces"], staged=False).finish(ROWS, None, conjugate=False)
    staged = collected(data, ORDERS["in pieces"], staged=True).finish(ROWS, None, conjugate=False)
    assert staged.memory is None
    assert np.array_equal(staged.kspace, kept.kspace)
    assert staged.exponent == kept.exponent != 0


def test_lines_that_come_again_are_averaged():
    data = readouts(ROWS)
    lines = [*ORDERS["in pieces"], np.array([40, 41])]
    kept = collected(data, lines, staged=False).finish(ROWS, None, conjugate=False)
    staged = collected(data, lines, staged=True).finish(ROWS, None, conjugate=False)
    assert staged.memory is None
    assert np.array_equal(staged.kspace, kept.kspace)


def test_lines_that_move_are_put_where_they_belong():
    data = readouts(ROWS)
    targets = np.arange(COLUMNS) - 5
    kept, staged = (
        collected(data, ORDERS["in pieces"], staged=on).finish(ROWS, None, targets, COLUMNS, conjugate=False)
        for on in (False, True)
    )
    assert staged.memory is None
    assert np.array_equal(staged.kspace, kept.kspace)


def test_readouts_that_are_cut_wait():
    grid = KspaceGrid(COILS, ROWS + 6, COLUMNS)
    before = grid.nbytes
    grid.stage(ROWS)
    assert grid.nbytes == before


def test_its_memory_is_what_the_worker_gets():
    data = readouts(ROWS)
    result = collected(data, ORDERS["in pieces"], staged=True).finish(ROWS, None, conjugate=False)
    frame = Frame(FrameIndex(), result.kspace, result.mask, (ROWS, COLUMNS), 1.0, (ROWS, COLUMNS), memory=result.memory)
    layout = FrameLayout.of(frame, complex_image=False, uncertainty=False)
    expected = result.kspace.copy()
    with layout.store(frame) as block:
        assert block.size == layout.size
        kspace, mask, _ = layout.arrays(block)
        assert np.array_equal(kspace, expected)
        assert np.array_equal(mask, result.mask)
        kspace[0, 0, 0] = 7
        assert result.kspace[0, 0, 0] == 7
    assert not result.memory.holds(result.kspace)


def test_what_was_made_of_it_is_copied():
    memory = StagedKspace((COILS, ROWS, COLUMNS))
    memory.array[:] = 1
    frame = Frame(
        FrameIndex(), memory.array * 2, np.ones((ROWS, COLUMNS), bool), (0, 0), 1.0, (ROWS, COLUMNS), memory=memory
    )
    layout = FrameLayout.of(frame, complex_image=False, uncertainty=False)
    with layout.store(frame) as block:
        assert (layout.arrays(block)[0] == 2).all()
