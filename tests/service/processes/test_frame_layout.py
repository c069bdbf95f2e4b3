import math

import numpy as np
import pytest

from recond_service.processes import FrameLayout
from recond_service.types import Frame, FrameIndex, Window


def frame(**changes: object) -> Frame:
    random = np.random.default_rng(3)
    kspace = (random.standard_normal((3, 31, 18)) + 1j * random.standard_normal((3, 31, 18))).astype(np.complex64)
    fields = {
        "index": FrameIndex(slice=2),
        "kspace": kspace,
        "mask": random.random((31, 18)) < 0.5,
        "calibration_extent": (8, 5),
        "scale": 1.0,
        "image_shape": (31, 18),
    }
    return Frame(**(fields | changes))


@pytest.mark.parametrize("apart", [False, True])
def test_frame_comes_back_from_shared_memory_as_it_was(apart):
    original = frame()
    if apart:
        original.calibration = original.kspace[:, :6, :4].copy()
    layout = FrameLayout.of(original)
    with layout.store(original) as block:
        assert block.size == layout.size
        kspace, mask, calibration = layout.arrays(block)
        np.testing.assert_array_equal(kspace, original.kspace)
        np.testing.assert_array_equal(mask, original.mask)
        expected = original.calibration if apart else original.kspace[:, 15 - 4 : 15 + 4, 9 - 2 : 9 + 3]
        np.testing.assert_array_equal(calibration, expected)


@pytest.mark.parametrize("exponent", [0, 140, -1060])
def test_a_layout_says_what_the_image_will_be(exponent):
    layout = FrameLayout.of(frame(scale=math.ldexp(1.0, exponent), image_shape=(16, 40)), complex_image=True)
    assert (layout.image_shape, layout.image_bytes, layout.exponent) == ((16, 40), 16 * 40 * 8, exponent)
    assert layout.crop == (16, 18)
    windowed = FrameLayout.of(frame(window=Window(1, 2, 20, 10), image_shape=(20, 20)))
    assert (windowed.crop, windowed.image_bytes) == ((20, 10), 20 * 20 * 4)
    assert FrameLayout.of(frame()).crop is None


@pytest.mark.parametrize(
    "change",
    [
        {"coils": 0},
        {"rows": -1},
        {"calibration_rows": 9},
        {"calibration_columns": -1},
        {"image_rows": -1},
        {"exponent": 1 << 30},
        {"window": Window(4, 0, 5, 8)},
        {"window": Window(-1, 0, 5, 8)},
        {"window": Window(0, 0, 0, 8)},
    ],
)
def test_impossible_layouts_are_refused(change):
    good = {"coils": 2, "rows": 8, "columns": 8, "calibration_rows": 4, "calibration_columns": 4}
    FrameLayout(**good)
    with pytest.raises(ValueError, match=r"impossible|does not lie"):
        FrameLayout(**(good | change))
