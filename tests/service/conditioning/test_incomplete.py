"""Scans of which a part never came, and those whose sampling only looks like that."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from field_scans import COLUMNS, FULL, lines, step_limit, xml

from recond_models.registry import available
from recond_models.sampling import Sampling
from recond_models.selection import choose
from recond_service.doctor import _coverage


def codes(found) -> set[str]:
    return {finding.code for finding in found.findings}


@pytest.mark.parametrize("came", [range(1), range(19), range(22), range(0, 18, 2), range(20, COLUMNS)])
def test_a_scan_that_was_cut_off_is_warned_about(read, came: Sequence[int]) -> None:
    assert "lines-never-came" in read(xml(), lines(FULL, came)).warnings


@pytest.mark.parametrize(
    "came", [range(27), range(9, COLUMNS), range(COLUMNS), *(range(0, COLUMNS, r) for r in (2, 4, 8))]
)
def test_partial_fourier_and_undersampling_are_no_incomplete_scans(read, came: Sequence[int]) -> None:
    assert "lines-never-came" not in codes(read(xml(), lines(FULL, came)))


def test_a_partial_fourier_scan_that_announces_what_it_measures_is_complete(read) -> None:
    header = xml(limits=step_limit(20, 3))
    assert "lines-never-came" not in codes(read(header, lines(FULL[:, :, 15:])))


@pytest.mark.parametrize("acceleration", [2, 3, 4, 5, 8])
def test_undersampling_is_no_partial_fourier(read, acceleration: int) -> None:
    chosen = range(0, COLUMNS, acceleration)
    assert "partial-fourier" not in codes(read(xml(), lines(FULL, chosen)))
    measured = np.isin(np.arange(COLUMNS), chosen)
    assert _coverage(measured) == 1
    assert _coverage(measured & (np.arange(COLUMNS) < 27)) < 0.9


@pytest.mark.parametrize("lines_measured", [1, 26, 48])
def test_no_model_is_called_exact_for_a_part_of_k_space(lines_measured: int) -> None:
    mask = np.broadcast_to(np.arange(48) < lines_measured, (64, 48))
    reason = choose(Sampling.of(mask, (0, 0), 4), available()).reason
    assert ("so rss is exact" in reason) is (lines_measured == 48)
    assert ("exact but for the" in reason and "taken as zero" in reason) is (lines_measured < 48)
