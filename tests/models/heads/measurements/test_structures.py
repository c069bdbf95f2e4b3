import json

import numpy as np
import pytest

from recond_models.heads.measurements import (
    MEASUREMENTS,
    Grid,
    LabelMapError,
    SpacingUnknownError,
    estimate,
    measure_structures,
    structure_code,
)

GRID = Grid.from_spacing((5, 0.5, 0.8))
NAMES = {"grey matter": 2, "white matter": 3, "brain": (2, 3)}


def labels():
    found = np.zeros((4, 10, 12), dtype=np.uint8)
    found[1, 2:6, 3:8] = 2  # 20 voxels
    found[2, 2:6, 3:5] = 3  # 8 voxels
    return found


def test_volumes_are_millilitres_of_real_spacing():
    found = measure_structures(labels(), NAMES, GRID)
    voxel = 5 * 0.5 * 0.8 / 1000
    assert found.volume_ml("grey matter") == pytest.approx(20 * voxel)
    assert found.volume_ml("brain") == pytest.approx(28 * voxel)
    assert found.volume_ml("pineal gland") is None
    answer = json.loads(json.dumps(found.to_json()))
    assert answer["labels"] == {"grey matter": 2, "white matter": 3, "brain": [2, 3]}
    assert answer["volumes_ml"]["white matter"] == pytest.approx(8 * voxel)
    assert "intervals_ml" not in answer


def test_a_structure_that_is_not_there_has_no_volume():
    assert measure_structures(labels(), {"cerebellum": 9}, GRID).volume_ml("cerebellum") == 0


def test_the_interval_grows_with_doubt_and_holds_the_expected_volume():
    sure = np.where(labels() == 2, 0.99, 0.0)
    unsure = np.where(labels() == 2, 0.6, 0.0)
    found = measure_structures(labels(), {"grey matter": 2}, GRID, {"grey matter": unsure}).structures[0]
    assert found.estimate.expected_ml == pytest.approx(0.6 * found.volume_ml)
    low, high = found.estimate.interval_ml
    assert 0 <= low < found.estimate.expected_ml < high
    certain = estimate(sure, GRID)
    assert certain.deviation_ml < found.estimate.deviation_ml
    assert estimate((labels() == 2).astype(float), GRID).deviation_ml == 0


def test_the_deviation_does_not_vanish_with_smaller_voxels():
    """Neighbours are wrong together: eight voxels in place of one tell nothing new."""
    coarse = np.full((6, 6, 6), 0.5)
    fine = np.full((12, 12, 12), 0.5)
    first = estimate(coarse, Grid.from_spacing((2, 2, 2)))
    second = estimate(fine, Grid.from_spacing((1, 1, 1)))
    assert first.expected_ml == pytest.approx(second.expected_ml)
    assert first.deviation_ml == pytest.approx(second.deviation_ml)
    assert estimate(coarse, Grid.from_spacing((5, 5, 5))).deviation_ml == pytest.approx(0.125 * np.sqrt(216 * 0.25))


def test_unknown_spacing_and_wrong_input_are_refused():
    with pytest.raises(SpacingUnknownError, match="give the spacing"):
        measure_structures(labels(), NAMES, None)
    with pytest.raises(LabelMapError, match="background"):
        measure_structures(labels(), {"air": 0}, GRID)
    with pytest.raises(LabelMapError, match="one grid"):
        measure_structures(labels(), {"grey matter": 2}, GRID, {"grey matter": np.zeros((4, 10, 11))})
    with pytest.raises(LabelMapError, match="softmax"):
        measure_structures(labels(), {"grey matter": 2}, GRID, {"grey matter": 3.0 * labels()})
    with pytest.raises(LabelMapError, match="not probabilities"):
        measure_structures(labels() * 0.3, NAMES, GRID)
    with pytest.raises(LabelMapError, match="slices, rows and columns"):
        measure_structures(labels()[0], NAMES, GRID)
    with pytest.raises(LabelMapError, match="negative"):
        measure_structures(labels().astype(np.int16) - 1, NAMES, GRID)


def test_labels_of_any_type_are_read():
    expected = measure_structures(labels(), NAMES, GRID).to_json()
    for kind in (np.uint16, np.int32, np.uint64, np.float32):
        assert measure_structures(labels().astype(kind), NAMES, GRID).to_json() == expected
    assert measure_structures(labels() == 2, {"grey matter": 1}, GRID).volume_ml("grey matter") == pytest.approx(0.04)


def test_terms_are_coded():
    assert structure_code("gray-matter").value == "389081007"
    assert structure_code("CSF") == structure_code("cerebrospinal_fluid")
    assert structure_code("Brainstem").meaning == "Brain stem"
    assert structure_code("left foot") is None
    assert {one.unit.value for one in MEASUREMENTS.values()} == {"mL", "mm"}
    assert MEASUREMENTS["volume_ml"].concept.value == "118565006"
