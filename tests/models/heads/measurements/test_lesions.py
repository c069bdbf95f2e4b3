import json

import numpy as np
import pytest
from follow_up_phantoms import CENTRE, ellipsoid, grid_of

from recond_models.heads.measurements import (
    Grid,
    LabelMapError,
    SpacingUnknownError,
    count_lesions,
    measure_lesions,
    number_lesions,
)

SHAPE, SPACING = (24, 70, 80), (2.5, 0.9, 0.8)
GRID = grid_of(SPACING, SHAPE)
BALLS = (((0, 0, 0), 9.0), ((20, 12, 5), 5.0), ((-18, -15, 10), 3.0))


def mask():
    return np.logical_or.reduce([ellipsoid(GRID, SHAPE, CENTRE + np.array(at), size) for at, size in BALLS])


def test_lesions_come_with_volume_diameter_and_place_the_largest_first():
    found = measure_lesions(mask(), GRID)
    assert [one.number for one in found.lesions] == [1, 2, 3]
    for one, (at, radius) in zip(found.lesions, BALLS, strict=True):
        assert one.volume_ml == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.12)
        assert one.diameters.longest_mm == pytest.approx(2 * radius, abs=1.3)
        assert np.allclose(one.centre_mm, CENTRE + at, atol=0.7)
        assert one.confidence is None
        assert one.estimate is None
    assert found.total_ml == pytest.approx(mask().sum() * 2.5 * 0.9 * 0.8 / 1000)


def test_the_answer_is_what_the_issue_shows():
    answer = json.loads(json.dumps(measure_lesions(mask(), GRID).to_json()))
    assert answer["count"] == 3
    assert set(answer) == {"count", "total_ml", "lesions"}
    assert {"volume_ml", "diameter_mm", "centre_mm", "confidence", "location"} <= set(answer["lesions"][0])


def test_nothing_is_an_empty_table():
    found = measure_lesions(np.zeros(SHAPE, dtype=np.uint8), GRID)
    assert found.to_json() == {"count": 0, "total_ml": 0, "lesions": []}


def test_voxels_that_touch_at_a_corner_are_one_lesion():
    corner = np.zeros((4, 4, 4), dtype=bool)
    corner[0, 0, 0] = corner[1, 1, 1] = corner[3, 3, 0] = True
    assert count_lesions(corner) == 2


def test_numbered_lesions_keep_their_numbers_also_where_they_touch():
    labels = np.zeros((3, 8, 8), dtype=np.uint16)
    labels[1, 2:4, 2:4] = 7
    labels[1, 4:7, 2:4] = 3
    found = measure_lesions(labels, Grid.from_spacing((1, 1, 1)))
    assert [one.number for one in found.lesions] == [3, 7]
    assert found.labels.dtype == np.uint16


def test_the_minimum_takes_small_lesions_away_and_no_large_ones():
    found = measure_lesions(mask(), GRID, minimum_ml=0.3)
    assert [one.number for one in found.lesions] == [1, 2]
    assert found.labels.max() == 2
    assert measure_lesions(mask(), GRID, minimum_ml=5).lesions == ()


def test_without_spacing_there_are_counts_but_no_millimetres():
    assert count_lesions(mask()) == 3
    with pytest.raises(SpacingUnknownError):
        measure_lesions(mask(), None)
    with pytest.raises(SpacingUnknownError):
        number_lesions(mask(), None, minimum_ml=0.1)


def test_confidence_and_expected_volume_from_probabilities():
    probability = np.where(number_lesions(mask()) == 1, 0.9, np.where(mask(), 0.6, 0.0))
    found = measure_lesions(mask(), GRID, probabilities=probability)
    assert [round(one.confidence, 6) for one in found.lesions] == [0.9, 0.6, 0.6]
    for one in found.lesions:
        assert one.estimate.expected_ml == pytest.approx(one.confidence * one.volume_ml)
        low, high = one.estimate.interval_ml
        assert low < one.estimate.expected_ml < high
    assert found.to_json()["lesions"][0]["volume_interval_ml"] == list(found.lesions[0].estimate.interval_ml)


def test_probability_around_a_lesion_counts_for_it_and_that_of_its_neighbour_does_not():
    labels = np.zeros((5, 20, 30), dtype=np.uint8)
    labels[2, 5:10, 5:10] = 1
    labels[2, 5:10, 12:17] = 2
    probability = np.where(labels > 0, 1.0, 0.0)
    probability[2, 5:10, 10] = 0.5
    found = measure_lesions(labels, Grid.from_spacing((1, 1, 1)), probabilities=probability)
    assert found.lesions[0].estimate.expected_ml == pytest.approx((25 + 2.5) / 1000)


def test_lesions_are_located_and_loads_are_measured_by_another_head():
    structures = np.zeros(SHAPE, dtype=np.uint8)
    structures[:, :, :40] = 2
    structures[:, :, 40:] = 3
    structures[ellipsoid(GRID, SHAPE, CENTRE + np.array([-18, -15, 10]), 6.0)] = 0
    names = {"grey matter": 2, "white matter": 3, "brain": (2, 3)}
    found = measure_lesions(mask(), GRID, structures=structures, structure_names=names)
    first, second, third = found.lesions
    assert third.location is None
    assert second.location in {"grey matter", "white matter"}
    assert "brain" not in second.inside_ml
    assert sum(first.inside_ml.values()) == pytest.approx(first.volume_ml)
    load = {one.name: one for one in found.load}
    assert load["brain"].lesion_ml == pytest.approx(first.volume_ml + second.volume_ml)
    assert load["brain"].percent == pytest.approx(100 * load["brain"].lesion_ml / load["brain"].structure_ml)
    assert found.to_json()["load"]["brain"]["lesion_ml"] == load["brain"].lesion_ml


def test_what_does_not_fit_is_refused():
    with pytest.raises(LabelMapError, match="one grid"):
        measure_lesions(mask(), GRID, probabilities=np.zeros((2, 2, 2)))
    with pytest.raises(LabelMapError, match="one grid"):
        measure_lesions(mask(), GRID, structures=np.zeros((2, 2, 2), dtype=int), structure_names={"brain": 1})
    with pytest.raises(LabelMapError, match="names"):
        measure_lesions(mask(), GRID, structures=np.zeros(SHAPE, dtype=int))
