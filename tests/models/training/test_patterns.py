import numpy as np
import pytest

from recond_models.sampling import Sampling
from recond_models.training.patterns import KINDS, draw_pattern, variable_density


@pytest.fixture(scope="module")
def patterns():
    generator = np.random.default_rng(4)
    return [draw_pattern(generator, (192, 160), (4.0, 4.0001)) for _ in range(400)]


def test_acceleration_is_met_on_average(patterns):
    for kind in ("random", "equispaced_fraction", "poisson", "gaussian"):
        reached = [pattern.acceleration for pattern in patterns if pattern.kind == kind]
        assert len(reached) > 15
        # Random patterns meet it in the mean of their numbers of lines only.
        assert 1 / np.mean(1 / np.array(reached)) == pytest.approx(4, rel=0.06), kind
    equispaced = [pattern.acceleration for pattern in patterns if pattern.kind == "equispaced"]
    assert 2.3 < np.mean(equispaced) < 4


def test_every_kind_comes_with_calibration_in_the_centre(patterns):
    kinds = {pattern.kind.removesuffix(", partial Fourier") for pattern in patterns}
    assert kinds == set(KINDS)
    centred = 0
    for pattern in patterns:
        rows, columns = pattern.calibration
        top, left = 96 - rows // 2, 80 - columns // 2
        centred += bool(pattern.mask[top : top + rows, left : left + columns].all())
    assert 0.85 * len(patterns) < centred < len(patterns)


def test_partial_fourier_leaves_out_one_side(patterns):
    cut = [pattern for pattern in patterns if pattern.kind == "full, partial Fourier"]
    assert cut
    for pattern in cut:
        rows, columns = pattern.mask.any(axis=1), pattern.mask.any(axis=0)
        shares = [rows.mean(), columns.mean()]
        assert max(shares) == 1
        assert 0.64 <= min(shares) <= 0.86
        assert rows[0] != rows[-1] or columns[0] != columns[-1]


def test_lines_are_lines(patterns):
    for pattern in patterns:
        if pattern.kind in {"random", "equispaced", "equispaced_fraction"}:
            assert Sampling.of(pattern.mask, pattern.calibration, 8).pattern in {"uniform", "irregular"}
        if pattern.kind in {"poisson", "gaussian", "grid"}:
            assert Sampling.of(pattern.mask, pattern.calibration, 8).pattern == "two-dimensional"


@pytest.mark.parametrize("shape", [(230, 180), (96, 384), (97, 131)])
def test_points_keep_apart_and_meet_the_acceleration(shape):
    mask = variable_density(np.random.default_rng(3), shape, 8.0)
    rows, columns = shape
    assert mask.size / mask.sum() == pytest.approx(8, rel=0.05)
    assert mask[rows // 2 - 12 : rows // 2 + 12, columns // 2 - 12 : columns // 2 + 12].all()
    down = (np.arange(rows) - rows // 2)[:, None] / (rows / 2)
    across = (np.arange(columns) - columns // 2)[None, :] / (columns / 2)
    radius = np.hypot(down, across)
    assert not mask[radius > 1].any()
    ring = (radius > 0.6) & (radius < 0.9)
    density = mask[ring].mean()
    beside = np.roll(mask, -1, axis=1)[ring & mask].mean()
    # Chance would give the density; points of a Poisson disc are hardly ever neighbours.
    assert beside < 0.35 * density
