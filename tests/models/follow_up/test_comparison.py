import json
from datetime import date

import numpy as np
import pytest
from follow_up_phantoms import CENTRE, SHAPE, SPACING, ellipsoid, grid_of, visit

from recond_models.follow_up import (
    DAYS_OF_A_MONTH,
    Change,
    HeadResult,
    Noise,
    Registration,
    Visit,
    VisitError,
    VisitOrderError,
    compare,
)
from recond_models.follow_up.quality import Quality

GRID = grid_of((2.0, 1.0, 1.0), (40, 90, 90))
BOX = (40, 90, 90)
STILL = Registration(np.eye(4), Quality(1.0, 1.0, 0.7, None, 0.0))
"""The two scans lie on each other: what is tested here is not the registration."""


def balls(*parts, grid=GRID, shape=BOX, pose=None):
    found = np.zeros(shape, dtype=bool)
    for at, radius in parts:
        found |= ellipsoid(grid, shape, CENTRE + np.array(at), radius, pose)
    return found


def compared(before, after, **options):
    first = None if before is None else visit(before, date(2024, 1, 1), "prior", GRID)
    return compare(first, visit(after, date(2024, 3, 1), "current", GRID), registration=STILL, **options).lesions[
        "lesion"
    ]


A, B, C = ((-20, 0, 0), 8.0), ((18, 10, 5), 6.0), ((5, -25, -10), 5.0)


def test_statuses_of_lesions():
    found = compared(balls(A, B, C), balls(A, ((18, 10, 5), 8.0), ((5, -25, -10), 3.0), ((20, -20, 15), 4.0)))
    assert [(one.status, one.trend) for one in found.changes] == [
        ("stable", "stable"), ("grown", "grown"), ("shrunk", "shrunk"), ("new", None),
    ]  # fmt: skip
    assert found.statuses() == {"stable": 1, "grown": 1, "shrunk": 1, "new": 1}
    assert found.count.absolute == 1
    assert found.total.absolute == pytest.approx(found.current.total_ml - found.prior.total_ml)


def test_a_vanished_lesion_ends_at_zero_and_a_new_one_has_no_percentage():
    found = compared(balls(A), balls(B))
    gone, new = found.changes
    assert (gone.status, gone.volume.current, gone.volume.percent, gone.diameter.current) == (
        "vanished",
        0.0,
        -100.0,
        None,
    )
    assert (new.status, new.volume.prior, new.volume.percent, new.diameter.prior) == ("new", 0.0, None, None)
    assert new.volume.absolute == new.current[0].volume_ml


def test_growth_is_measured_in_percent_millimetres_and_per_month():
    found = compared(balls(A), balls(((-20, 0, 0), 10.0)))
    (one,) = found.changes
    assert one.volume.percent == pytest.approx(100 * ((10 / 8) ** 3 - 1), rel=0.05)
    assert one.diameter.absolute == pytest.approx(4, abs=0.7)
    assert one.volume.per_month == pytest.approx(one.volume.absolute / (60 / DAYS_OF_A_MONTH))


def test_merged_and_split():
    apart, together = balls(((-6, 0, 0), 5.0), ((6, 0, 0), 5.0)), balls(((-5, 0, 0), 6.0), ((5, 0, 0), 6.0))
    (merged,) = compared(apart, together).changes
    assert (merged.status, len(merged.prior), len(merged.current)) == ("merged", 2, 1)
    assert merged.volume.prior == pytest.approx(sum(one.volume_ml for one in merged.prior))
    (split,) = compared(together, apart).changes
    assert (split.status, split.trend, len(split.prior), len(split.current)) == ("split", "shrunk", 1, 2)


def test_a_small_lesion_that_a_millimetre_puts_beside_itself_is_the_same():
    found = compared(balls(((0, 0, 0), 1.5)), balls(((3.5, 0, 0), 1.5)))
    assert [one.status for one in found.changes] == ["stable"]
    far = compared(balls(((0, 0, 0), 1.5)), balls(((8, 0, 0), 1.5)))
    assert [one.status for one in far.changes] == ["vanished", "new"]


def test_neighbours_that_touch_across_stay_two():
    before = np.where(balls(((-5.4, 0, 0), 5.0)), 1, np.where(balls(((5.4, 0, 0), 5.0)), 2, 0)).astype(np.uint8)
    after = np.where(balls(((-2.9, 0, 0), 5.0)), 1, np.where(balls(((7.9, 0, 0), 5.0)), 2, 0)).astype(np.uint8)
    found = compared(before, after)
    assert sorted((one.prior[0].number, one.current[0].number) for one in found.changes) == [(1, 1), (2, 2)]


def test_what_lies_outside_the_other_field_of_view_is_neither_new_nor_vanished():
    low = grid_of((2.0, 1.0, 1.0), BOX)
    affine = low.affine.copy()
    affine[2, 3] += 30  # the current scan begins 30 mm higher
    high = type(low)(affine)
    below, above = ((0, 0, -30), 6.0), ((0, 0, 55), 6.0)
    before = visit(balls(A, below), date(2024, 1, 1), "prior", low)
    after = visit(balls(A, above, grid=high), date(2024, 3, 1), "current", high)
    result = compare(before, after, registration=STILL)
    found = result.lesions["lesion"]
    assert sorted(one.status for one in found.changes) == ["not_covered", "not_covered", "stable"]
    assert [one.volume.absolute for one in found.changes if one.status == "not_covered"] == [None, None]
    assert found.total.absolute == pytest.approx(0, abs=1e-9)
    assert [one.code for one in result.notes] == ["lesions-not-covered"]


def test_no_prior_is_null_and_not_zero():
    result = compare(None, visit(balls(A), date(2024, 3, 1), "current", GRID))
    answer = json.loads(json.dumps(result.to_json()))
    found = answer["lesions"]["lesion"]
    assert answer["prior"] is None
    assert answer["months"] is None
    assert answer["registration"] is None
    assert found["lesions"] is None
    assert found["prior"] is None
    assert found["count"] == {"prior": None, "current": 1, "change": None}
    assert [found["total"][key] for key in ("prior_ml", "change_ml", "change_percent", "ml_per_month", "trend")] == [
        None
    ] * 5
    assert found["total"]["current_ml"] > 0


def test_a_head_that_did_not_run_before_is_null_too():
    before = Visit("prior", np.zeros(BOX, dtype=np.float32), GRID, {}, date(2024, 1, 1))
    result = compare(before, visit(balls(A), date(2024, 3, 1), "current", GRID), registration=STILL)
    assert result.lesions["lesion"].changes is None
    assert result.lesions["lesion"].total.prior is None
    assert [one.code for one in result.notes] == ["head-not-compared"]


def test_no_lesions_before_is_zero_without_a_percentage():
    found = compared(balls(), balls(A))
    assert (found.total.prior, found.total.percent, found.trend) == (0.0, None, "grown")
    assert found.statuses() == {"new": 1}


def test_volumes_are_those_of_each_scan_and_not_of_a_resampled_one():
    """One lesion on two grids: its volume on each is that of the voxels there, though they are matched on one grid."""
    coarse_shape, coarse = (16, 60, 60), grid_of((5.0, 1.5, 1.5), (16, 60, 60))
    lesion = ((-20, 0, 0), 8.0)
    before, after = balls(lesion), balls(lesion, grid=coarse, shape=coarse_shape)
    result = compare(visit(before, None, "prior", GRID), visit(after, None, "current", coarse), registration=STILL)
    (one,) = result.lesions["lesion"].changes
    assert one.volume.prior == pytest.approx(before.sum() * 2.0 / 1000)
    assert one.volume.current == pytest.approx(after.sum() * 5 * 1.5 * 1.5 / 1000)
    assert one.volume.per_month is None


def test_changes_within_noise_are_stable_by_millilitres_and_by_percent():
    noise = Noise(volume_ml=0.05, percent=15)
    assert noise.trend(Change(0.02, 0.06)) == "stable"  # +200 %, but 0.04 ml
    assert noise.trend(Change(10, 11.4)) == "stable"  # 1.4 ml, but 14 %
    assert noise.trend(Change(10, 11.6)) == "grown"
    assert noise.trend(Change(0.2, 0.1)) == "shrunk"
    assert noise.trend(Change(None, 1)) is None
    strict = compared(balls(A), balls(((-20, 0, 0), 8.3)), lesion_noise=Noise(0.0, 0.0))
    assert strict.changes[0].status == "grown"
    assert compared(balls(A), balls(((-20, 0, 0), 8.3))).changes[0].status == "stable"


def structured(lesions, cut, day):
    structures = np.ones(BOX, dtype=np.uint8)
    structures[:, :, cut:] = 2
    names = {"grey matter": 1, "white matter": 2}
    heads = {"lesion": HeadResult("lesions", lesions), "tissue": HeadResult("structures", structures, names)}
    return Visit(f"scan {cut}", np.zeros(BOX, dtype=np.float32), GRID, heads, day)


def test_structures_change_and_locate_lesions():
    before, after = structured(balls(A, B), 45, date(2024, 1, 1)), structured(balls(A, B), 48, date(2024, 7, 1))
    result = compare(before, after, registration=STILL)
    grey, white = result.structures["tissue"]
    assert grey.volume.absolute == pytest.approx(3 * 40 * 90 * 2 / 1000)
    assert white.volume.percent == pytest.approx(-100 * 3 / 45)
    assert (grey.trend, white.trend) == ("grown", "shrunk")
    assert {one.location for one in result.lesions["lesion"].changes} == {"grey matter", "white matter"}
    answer = json.loads(json.dumps(result.to_json()))
    assert answer["structures"]["tissue"]["grey matter"]["change_ml"] == pytest.approx(21.6)
    assert answer["lesions"]["lesion"]["current"]["load"]["grey matter"]["lesion_ml"] > 0


def test_what_cannot_be_compared_is_refused():
    one = visit(balls(A), date(2024, 3, 1), "a", GRID, "P1")
    with pytest.raises(VisitOrderError, match="older"):
        compare(one, visit(balls(A), date(2024, 1, 1), "b", GRID, "P1"), registration=STILL)
    with pytest.raises(VisitOrderError, match="two patients"):
        compare(one, visit(balls(A), date(2024, 5, 1), "b", GRID, "P2"), registration=STILL)
    with pytest.raises(VisitError, match="slices, rows and columns"):
        visit(None, grid=grid_of(SPACING, SHAPE), image=np.zeros((3, 3)))
    with pytest.raises(VisitError, match="one grid"):
        Visit("a", np.zeros(SHAPE), GRID, {"lesion": HeadResult("lesions", np.zeros((2, 2, 2), dtype=int))})
    with pytest.raises(VisitError, match="without names"):
        Visit("a", np.zeros((2, 2, 2)), GRID, {"tissue": HeadResult("structures", np.zeros((2, 2, 2), dtype=int))})


def test_scans_of_one_day_have_no_rate():
    assert Change(1, 2, 0.0).per_month is None
