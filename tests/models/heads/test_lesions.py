import numpy as np
import pytest

from recond_models.heads.lesions import DetectionRules, detect


def volume() -> np.ndarray:
    """A ring with a core, two parts one pixel apart, and a single sure voxel."""
    probability = np.zeros((10, 40, 40), np.uint8)
    probability[2:5, 5:12, 5:12] = 230
    probability[2:5, 7:10, 7:10] = 10
    probability[6:8, 20:30, 20:22] = 200
    probability[6:8, 20:30, 23:25] = 180
    probability[9, 0, 0] = 255
    return probability


def test_lesions_are_numbered_by_size_with_their_core_and_what_is_too_small_is_left_out():
    detection = detect(volume(), (3.0, 1.0, 1.0))
    # The core of the ring counts; parts that are one pixel apart are one lesion; a voxel of 3 mm3 is none.
    assert [lesion.volume_mm3 for lesion in detection.lesions] == [7 * 7 * 3 * 3.0, 2 * 40 * 3.0]
    assert detection.labels.dtype == np.uint16
    assert detection.labels[3, 8, 8] == 1
    assert set(np.unique(detection.labels[6:8, 20:30])) == {0, 2}
    assert detection.labels[9, 0, 0] == 0
    assert detection.lesions[0].confidence > detection.lesions[1].confidence


def test_distances_are_in_mm_not_voxels():
    # At pixels of 3 mm the two parts are too far from each other, and the single voxel is large enough.
    detection = detect(volume(), (3.0, 3.0, 3.0))
    assert len(detection.lesions) == 4
    assert min(lesion.volume_mm3 for lesion in detection.lesions) == 27.0


def test_a_lesion_needs_a_sure_voxel_and_confidence():
    faint = np.zeros((3, 10, 10), np.uint8)
    faint[1, 2:8, 2:8] = 140
    assert detect(faint, (1.0, 1.0, 1.0)).lesions == ()
    assert len(detect(faint, (1.0, 1.0, 1.0), DetectionRules(seed=0.5)).lesions) == 1
    confident = DetectionRules(seed=0.5, confidence=0.7)
    assert detect(faint, (1.0, 1.0, 1.0), confident).lesions == ()


def test_larger_and_thicker_lesions_can_count_as_more_certain():
    rules = DetectionRules(coefficients=(-6.0, 0.5, 0.0, 1.0, 0.5))
    first, second = detect(volume(), (3.0, 1.0, 1.0), rules).lesions
    assert first.confidence > second.confidence
    # By hand: intercept, logit of the surest voxels, ln of the volume, ln of the number of slices.
    total = -6 + 0.5 * np.log((200 / 255) / (1 - 200 / 255)) + np.log(240) + 0.5 * np.log(2)
    assert second.confidence == pytest.approx(1 / (1 + np.exp(-total)), abs=0.01)


def test_an_empty_volume_has_no_lesion():
    detection = detect(np.zeros((4, 8, 8), np.uint8), (1.0, 1.0, 1.0))
    assert detection.lesions == ()
    assert not detection.labels.any()


def test_rules_go_through_json_and_wrong_ones_are_refused():
    rules = DetectionRules(extent=0.4, seed=0.5, confidence=0.3, coefficients=(1.0, 2.0, 3.0, 4.0, 5.0))
    assert DetectionRules.from_json(rules.to_json()) == rules
    with pytest.raises(ValueError, match="extent"):
        DetectionRules(extent=0.8, seed=0.5)
    with pytest.raises(ValueError, match="coefficients"):
        DetectionRules(coefficients=(1.0,))
    with pytest.raises(ValueError, match="colour"):
        DetectionRules.from_json({"colour": 1})


def test_what_is_no_volume_of_probabilities_is_refused():
    with pytest.raises(ValueError, match="uint8"):
        detect(np.zeros((3, 4, 4), np.float32), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="mm"):
        detect(np.zeros((3, 4, 4), np.uint8), (1.0, 0.0, 1.0))


def test_each_kind_has_its_own_least_confidence():
    probability = volume()
    kinds = np.where(probability > 0, 2, 0).astype(np.uint8)
    sure = detect(probability, (3.0, 1.0, 1.0), DetectionRules(confidence=1.0, confidences=(1.0, 0.0)), kinds).lesions
    assert {each.kind for each in sure} == {2}
    assert len(sure) == len(detect(probability, (3.0, 1.0, 1.0)).lesions)
    strict = DetectionRules(confidences=(0.0, 1.0))
    assert detect(probability, (3.0, 1.0, 1.0), strict, kinds).lesions == ()
    assert detect(probability, (3.0, 1.0, 1.0), strict).lesions[0].kind == 0
    assert DetectionRules.from_json(strict.to_json()) == strict
    with pytest.raises(ValueError, match="kinds"):
        detect(probability, (3.0, 1.0, 1.0), strict, kinds[:1])
