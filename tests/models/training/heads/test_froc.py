import numpy as np
import pytest

from recond_models.training.heads.froc import Matched, curve, match, sensitivity_at


def test_detections_are_matched_by_overlap():
    truth, labels = np.zeros((1, 8, 8), np.uint8), np.zeros((1, 8, 8), np.uint16)
    truth[0, 0:2, 0:2] = 1
    truth[0, 4:6, 4:6] = 2
    labels[0, 1:3, 1:3] = 1  # touches the first
    labels[0, 0, 0] = 3  # so does this
    labels[0, 7, 0] = 2  # touches none
    matched = match(truth, labels, [0.4, 0.8, 0.9], voxel_ml=0.5)
    assert matched == Matched((2.0, 2.0), (0.9, -np.inf), (2.5, 0.0), (0.8,))


def test_the_curve_by_hand():
    # Two volumes: three lesions, found with 0.9, 0.5 and never; false ones with 0.7 and 0.3.
    first = Matched((1.0, 0.2), (0.9, 0.5), (1.0, 0.2), (0.7,))
    second = Matched((5.0,), (-np.inf,), (0.0,), (0.3,))
    points = [(point.confidence, point.false_positives, point.sensitivity) for point in curve([first, second])]
    assert points == [(0.9, 0.0, 1 / 3), (0.7, 0.5, 1 / 3), (0.5, 0.5, 2 / 3), (0.3, 1.0, 2 / 3)]
    assert sensitivity_at(curve([first, second]), 0.25) == pytest.approx(1 / 3)
    assert sensitivity_at(curve([first, second]), 0.5) == pytest.approx(2 / 3)
    # Sizes choose among the true ones only.
    small = curve([first, second], largest_ml=0.5)
    assert [point.sensitivity for point in small] == [0.0, 1.0, 1.0]
    assert sensitivity_at(small, 0.25) == 0.0


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match="shapes"):
        match(np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 3), np.uint8), [], 1.0)
    with pytest.raises(ValueError, match="confidences"):
        match(np.zeros((1, 2, 2), np.uint8), np.ones((1, 2, 2), np.uint8), [], 1.0)
    with pytest.raises(ValueError, match="size"):
        curve([Matched((), (), (), (0.5,))])
