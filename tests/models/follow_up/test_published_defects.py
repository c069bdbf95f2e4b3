"""Defects of the metrics published with NYUMets-Brain (github.com/nyumets/nyumets, nyumets/metrics), which must not be here.

There, the volume metrics leave the spacing at its default of 1 mm, so they report voxels; the count takes lesions *above* the size
threshold away; the volumes per lesion end before the last one; and a scan without a prior is told by a volume of -1.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from follow_up_phantoms import CENTRE, ellipsoid, grid_of, visit

from recond_models.follow_up import Registration, compare
from recond_models.follow_up.quality import Quality
from recond_models.heads.measurements import measure_lesions

SHAPE, SPACING = (20, 90, 90), (5.0, 0.9, 0.9)
GRID = grid_of(SPACING, SHAPE)
PLACES = ((-20, -10, 0), (20, -10, 0), (0, 25, 10))
STILL = Registration(np.eye(4), Quality(1.0, 1.0, 0.7, None, 0.0))


def lesions(*radii):
    mask = np.zeros(SHAPE, dtype=bool)
    for at, radius in zip(PLACES, radii, strict=False):
        mask |= ellipsoid(GRID, SHAPE, CENTRE + np.array(at), radius, samples=3)
    return mask


def test_volumes_are_millilitres_and_not_voxels():
    found = measure_lesions(lesions(12), GRID)
    truth = 4 / 3 * np.pi * 12**3 / 1000
    assert found.total_ml == pytest.approx(truth, rel=0.05)
    voxels = np.count_nonzero(found.labels)
    assert voxels / 1000 == pytest.approx(truth / (5 * 0.9 * 0.9), rel=0.05)  # what 1 mm would make of it: a quarter


def test_a_size_threshold_takes_small_lesions_away_and_keeps_the_large_ones():
    found = measure_lesions(lesions(12, 8, 4), GRID, minimum_ml=1.0)
    assert [round(one.diameters.in_plane_mm / 8) for one in found.lesions] == [3, 2]
    assert len(measure_lesions(lesions(12, 8, 4), GRID).lesions) == 3


def test_the_last_lesion_counts():
    found = measure_lesions(lesions(12, 8, 6), GRID)
    assert len(found.lesions) == 3
    assert found.lesions[-1].volume_ml == pytest.approx(4 / 3 * np.pi * 6**3 / 1000, rel=0.12)
    assert found.total_ml == pytest.approx(sum(one.volume_ml for one in found.lesions))
    change = compare(
        visit(lesions(12, 8, 6), date(2024, 1, 1), "prior", GRID),
        visit(lesions(12, 8, 9), date(2024, 2, 1), "current", GRID),
        registration=STILL,
    ).lesions["lesion"]
    assert [one.status for one in change.changes] == ["stable", "stable", "grown"]


def test_no_prior_is_no_number():
    total = compare(None, visit(lesions(12), date(2024, 1, 1), "current", GRID)).lesions["lesion"].total
    assert (total.prior, total.absolute, total.percent, total.per_month) == (None, None, None, None)


@pytest.mark.parametrize("growth", [0.1, 0.2, 0.5, -0.3])
def test_planted_growth_is_measured_within_five_per_cent_of_the_truth(growth):
    """On voxels of 1 mm and another grid after it."""
    shape = (60, 60, 60)
    first, second = grid_of((1, 1, 1), shape), grid_of((1.2, 0.9, 0.9), shape)
    radius = 12.0
    before = ellipsoid(first, shape, CENTRE, radius, samples=2)
    after = ellipsoid(second, shape, CENTRE, radius * (1 + growth) ** (1 / 3), samples=2)
    (change,) = compare(
        visit(before, None, "prior", first), visit(after, None, "current", second), registration=STILL
    ).lesions["lesion"].changes  # fmt: skip
    assert change.volume.current / change.volume.prior == pytest.approx(1 + growth, rel=0.05)
