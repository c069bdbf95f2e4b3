"""fastMRI's masks to the last line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recond_models.masks import mask_for

KNEE, BRAIN = "file1000000.h5", "file_brain_AXT2_200_2000019.h5"
BOTH = ((0.08, 0.04), (4, 8))
GOLDEN = [
    (KNEE, 368, "random", 0.08, 4, 29, 88, [4, 9, 10, 14, 23, 24, 28, 29, 32, 35], 16390),
    (KNEE, 368, "random", 0.04, 8, 15, 46, [14, 28, 29, 35, 51, 75, 81, 88, 108, 140], 8849),
    (KNEE, 368, "random", *BOTH, 15, 45, [24, 29, 30, 34, 38, 46, 85, 97, 100, 104], 8375),
    (KNEE, 368, "equispaced", 0.08, 4, 29, 114, [1, 5, 9, 13, 17, 21, 25, 29, 33, 37], 20877),
    (KNEE, 368, "equispaced_fraction", 0.08, 4, 29, 93, [1, 6, 12, 17, 23, 28, 33, 39, 44, 49], 17109),
    (BRAIN, 320, "random", 0.08, 4, 26, 81, [2, 8, 18, 29, 32, 36, 37, 39, 41, 43], 12836),
    (BRAIN, 320, "equispaced_fraction", 0.08, 4, 26, 80, [1, 6, 12, 17, 23, 28, 34, 39, 45, 50], 12727),
    (BRAIN, 320, "equispaced_fraction", 0.04, 8, 13, 40, [9, 20, 32, 43, 54, 66, 77, 89, 100, 111], 6473),
    (BRAIN, 320, "equispaced_fraction", *BOTH, 13, 40, [10, 21, 33, 44, 55, 67, 78, 90, 101, 112], 6500),
]


@pytest.mark.parametrize(
    ("name", "columns", "kind", "fraction", "acceleration", "low", "lines", "first", "total"), GOLDEN
)
def test_golden_masks(name, columns, kind, fraction, acceleration, low, lines, first, total):
    mask = mask_for(kind, columns, acceleration, fraction, name)
    indices = np.flatnonzero(mask)
    assert mask.dtype == np.bool_
    assert mask.shape == (columns,)
    assert indices.size == lines
    assert indices[:10].tolist() == first
    assert indices.sum() == total
    start = (columns - low + 1) // 2
    assert mask[start : start + low].all()


@given(
    kind=st.sampled_from(["random", "equispaced", "equispaced_fraction"]),
    columns=st.integers(40, 400),
    acceleration=st.sampled_from([2, 3, 4, 6, 8]),
    name=st.text(max_size=20),
)
def test_same_name_same_mask_and_the_caller_keeps_his_generator(kind, columns, acceleration, name):
    np.random.seed(7)
    before = np.random.get_state()[1].copy()
    first, second = (mask_for(kind, columns, acceleration, 0.32 / acceleration, name) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert 0 < first.sum() < columns


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("spiral", 320, 4, 0.08), "unknown mask 'spiral'"),
        (("random", 0, 4, 0.08), "at least one column"),
        (("random", 320, 1, 0.08), "more than 1, got 1"),
        (("random", 320, float("nan"), 0.08), "more than 1, got nan"),
        (("random", 320, 4, 1.0), "centre fraction must be"),
        (("random", 320, 4, -0.1), "centre fraction must be"),
        (("equispaced_fraction", 320, 8, 0.125), "keeps 40 of 320 lines"),
        (("equispaced", 10, 12, 0.0), "leaves no line of 10"),
        (("random", 320, (4, 8), 0.08), "as many centre fractions"),
    ],
)
def test_impossible_requests(arguments, message):
    with pytest.raises(ValueError, match=message):
        mask_for(*arguments, "file.h5")
