from typing import get_args

import numpy as np
import pytest

from recond_models.training.heads.lesions import BRIGHT, ENHANCING, Kind, draw_lesion, draw_volume


def grid(half: float, step: float) -> np.ndarray:
    line = np.arange(-half, half + step / 2, step, dtype=np.float32)
    return np.stack(np.meshgrid(line, line, line, indexing="ij"))


def test_every_kind_is_of_one_contrast():
    assert {*ENHANCING, *BRIGHT} == set(get_args(Kind))
    assert not set(ENHANCING) & set(BRIGHT)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_volumes_are_about_those_wanted_and_shares_are_shares(kind):
    generator = np.random.default_rng(4)
    points = grid(32, 1.6)
    ratios = []
    for _ in range(6):
        lesion = draw_lesion(generator, kind, 4.0, np.zeros(3))
        parts = lesion.parts(points)
        ratios.append(float(parts.body.sum()) * 1.6**3 / 4000)
        for share in (parts.body, parts.core, parts.oedema, parts.body + parts.oedema):
            assert share.min() >= 0
            assert share.max() <= 1.0001
        # The core lies within.
        assert (parts.core <= parts.body + 1e-3).all()
    assert 0.75 < np.mean(ratios) < 1.25


def test_rings_have_a_core_cysts_a_larger_one_and_solid_lesions_none():
    generator = np.random.default_rng(5)
    points = grid(26, 1.3)

    def core(kind: Kind) -> float:
        parts = [draw_lesion(generator, kind, 8.0, np.zeros(3)).parts(points) for _ in range(6)]
        return float(np.mean([part.core.sum() / part.body.sum() for part in parts]))

    assert core("solid") == 0
    assert 0.1 < core("ring") < core("cyst") < 0.95


def test_nothing_of_a_lesion_lies_beyond_its_extent():
    generator = np.random.default_rng(6)
    points = grid(60, 4.0)
    away = np.sqrt((points**2).sum(axis=0))
    for kind in get_args(Kind):
        lesion = draw_lesion(generator, kind, 2.0, np.zeros(3))
        parts = lesion.parts(points)
        outside = away > lesion.extent
        assert not parts.body[outside].any()
        assert not parts.oedema[outside].any()


def test_tissue_is_pushed_outwards_and_less_so_further_away():
    lesion = draw_lesion(np.random.default_rng(1), "solid", 10.0, np.zeros(3))
    assert lesion.push > 0
    points = np.array([[15.0, 25.0, 60.0], [0, 0, 0], [0, 0, 0]], dtype=np.float32)
    moved = points[0] - lesion.source(points)[0]
    assert moved[0] > moved[1] > moved[2] > -1e-6
    assert moved[0] > 0.5
    assert moved[2] < 0.5
    # Nothing passes through the middle.
    near = np.array([[0.5], [0], [0]], dtype=np.float32)
    assert 0 < lesion.source(near)[0, 0] < 0.5


def test_volumes_are_log_uniform():
    generator = np.random.default_rng(0)
    drawn = np.log([draw_volume(generator, 0.1, 10.0) for _ in range(600)])
    assert drawn.min() >= np.log(0.1)
    assert drawn.max() <= np.log(10)
    assert abs(float(np.mean(drawn < 0)) - 0.5) < 0.07


def test_the_same_generator_makes_the_same_lesion_and_none_has_no_volume():
    first, second = (draw_lesion(np.random.default_rng(9), "ring", 1.0, np.ones(3)) for _ in range(2))
    points = grid(10, 2.0)
    assert np.array_equal(first.parts(points).body, second.parts(points).body)
    with pytest.raises(ValueError, match="ml"):
        draw_lesion(np.random.default_rng(0), "ring", 0.0, np.ones(3))
