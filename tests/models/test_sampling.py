"""The description of a sampling."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recond_models.masks import mask_for
from recond_models.sampling import Sampling


def lines(columns, rows=10):
    return np.broadcast_to(columns, (rows, len(columns)))


def every(spacing, columns=64, offset=0, centre=0):
    mask = np.zeros(columns, dtype=bool)
    mask[offset::spacing] = True
    start = columns // 2 - centre // 2
    mask[start : start + centre] = True
    return mask


def describe(mask, calibration=(0, 0), coils=8):
    return Sampling.of(mask, calibration, coils)


def test_full():
    sampling = describe(np.ones((10, 64), dtype=bool), (10, 64))
    assert (sampling.pattern, sampling.spacing, sampling.acceleration) == ("full", 1, 1)
    assert sampling.calibration == (10, 64)


def test_partial_fourier_is_full_within_its_limits():
    mask = np.ones(64, dtype=bool)
    mask[:20] = False
    sampling = describe(lines(mask))
    assert sampling.pattern == "full"
    assert sampling.acceleration == pytest.approx(64 / 44)


@given(spacing=st.integers(2, 6), offset=st.integers(0, 5), centre=st.integers(0, 24), columns=st.integers(60, 80))
def test_every_rth_line_with_or_without_a_filled_centre(spacing, offset, centre, columns):
    mask = every(spacing, columns, offset % spacing, centre)
    sampling = describe(lines(mask))
    assert (sampling.pattern, sampling.spacing) == ("uniform", spacing)
    assert sampling.acceleration == pytest.approx(columns / mask.sum())


def test_uniform_with_partial_fourier_and_zero_filled_edges():
    mask = every(3, 96, 1, 12)
    mask[:25] = False
    mask[90:] = False
    sampling = describe(lines(mask))
    assert (sampling.pattern, sampling.spacing) == ("uniform", 3)


@pytest.mark.parametrize("kind", ["random", "equispaced_fraction"])
def test_irregular(kind):
    sampling = describe(lines(mask_for(kind, 320, 4, 0.08, "file.h5")))
    assert (sampling.pattern, sampling.spacing) == ("irregular", 0)
    assert sampling.acceleration == pytest.approx(4, rel=0.05)


def test_fastmri_equispaced_is_uniform():
    assert describe(lines(mask_for("equispaced", 320, 4, 0.08, "file.h5"))).pattern == "uniform"


def test_one_line_on_each_side_is_no_pattern():
    mask = np.zeros(64, dtype=bool)
    mask[[3, 60]] = True
    mask[28:36] = True
    assert describe(lines(mask)).pattern == "irregular"


def test_asymmetric_echo_stays_a_line_pattern():
    mask = lines(every(2), 20).copy()
    mask[:5] = False
    sampling = describe(mask)
    assert (sampling.pattern, sampling.spacing, sampling.acceleration) == ("uniform", 2, 2)


def test_two_dimensional():
    mask = np.random.default_rng(0).random((32, 32)) < 0.3
    sampling = describe(mask)
    assert sampling.pattern == "two-dimensional"
    assert sampling.acceleration == pytest.approx(mask.size / mask.sum(), rel=0.01)


def test_crosses_json():
    sampling = describe(lines(every(4, centre=16)), (10, 16))
    assert Sampling.from_json(json.loads(json.dumps(sampling.to_json()))) == sampling


def test_bad_json():
    good = describe(lines(every(4))).to_json()
    with pytest.raises(ValueError, match="spiral"):
        Sampling.from_json(good | {"pattern": "spiral"})
    with pytest.raises(ValueError, match="lacks the field 'coils'"):
        Sampling.from_json({name: value for name, value in good.items() if name != "coils"})


@pytest.mark.parametrize(
    ("mask", "message"), [(np.ones(8, dtype=bool), "shape"), (np.zeros((4, 4), dtype=bool), "nothing was measured")]
)
def test_bad_masks(mask, message):
    with pytest.raises(ValueError, match=message):
        describe(mask)


def test_lines_along_rows_of_two_phase_encodes():
    """A frame of a 3-D scan that skips phase encodes and no partition is undersampled, not full."""
    mask = lines(every(3, centre=12), 20).T
    sampling = describe(mask)
    assert (sampling.pattern, sampling.spacing) == ("uniform", 3)
    assert sampling.acceleration == pytest.approx(mask.size / mask.sum(), rel=0.05)


def test_lattice_of_two_phase_encodes():
    mask = np.outer(every(2), every(2))
    sampling = describe(mask)
    assert sampling.pattern == "two-dimensional"
    assert sampling.acceleration == pytest.approx(4, rel=0.05)
