"""Artefacts are looked for where they were made: in k-space."""

import numpy as np
import pytest

from recond_models.heads.series_network import ARTEFACTS
from recond_models.training.fields import to_kspace
from recond_models.training.heads import artefacts

SIZE = (96, 80)


def disc() -> np.ndarray:
    rows, columns = np.indices(SIZE)
    away = np.hypot((rows - 48) / 36, (columns - 40) / 26)
    return ((away < 1) * (1 + 0.3 * np.sin(rows / 3) * np.cos(columns / 4))).astype(np.complex64)


def energy(image: np.ndarray) -> float:
    return float((np.abs(image) ** 2).sum())


def test_all_artefacts_are_simulated():
    assert set(artefacts.SIMULATED) == set(ARTEFACTS)


@pytest.mark.parametrize("name", ["motion", "noise", "spike", "failed reconstruction"])
def test_severe_is_worse_than_mild_and_the_same_generator_does_the_same(name):
    simulate = artefacts.SIMULATED[name]
    changes = []
    for grade in (1, 2):
        made = [simulate(np.random.default_rng([seed, grade]), disc(), grade) for seed in range(8)]
        assert all(image.shape == SIZE for image in made)
        changes.append(np.mean([energy(np.abs(image) - np.abs(disc())) for image in made]))
        again = simulate(np.random.default_rng([0, grade]), disc(), grade)
        assert np.array_equal(again, made[0])
    assert 0 < changes[0] < changes[1]


def test_motion_leaves_the_size_of_samples_of_a_breathing_head_and_changes_their_phase():
    before = to_kspace(disc())
    seen = 0
    for seed in range(12):
        after = to_kspace(artefacts.motion(np.random.default_rng(seed), disc(), 2))
        if np.allclose(np.abs(after), np.abs(before), atol=1e-3):
            seen += 1
            assert not np.allclose(after, before, atol=0.1)
        else:
            # A jump: columns before it are as they were.
            assert np.allclose(after[:, 0], before[:, 0], atol=1e-3)
    assert 0 < seen < 12


def test_wrap_keeps_all_signal_in_fewer_columns():
    for grade, low, high in ((1, 0.85, 0.97), (2, 0.5, 0.82)):
        folded = artefacts.wrap(np.random.default_rng(1), disc(), grade)
        assert folded.shape[0] == SIZE[0]
        assert low < folded.shape[1] / 52 < high
        assert folded.sum() == pytest.approx(disc().sum(), rel=1e-4)


def test_a_spike_is_a_single_sample():
    change = np.abs(to_kspace(artefacts.spike(np.random.default_rng(3), disc(), 1)) - to_kspace(disc()))
    assert (change > 1e-2 * change.max()).sum() == 1
    rows, columns = np.unravel_index(change.argmax(), change.shape)
    assert (rows, columns) != (SIZE[0] // 2, SIZE[1] // 2)


def test_noise_is_white():
    added = artefacts.noise(np.random.default_rng(0), disc(), 2) - disc()
    spectrum = np.abs(to_kspace(added)) ** 2
    assert spectrum[:24].mean() == pytest.approx(spectrum[36:60].mean(), rel=0.15)


def test_lines_left_out_are_empty_in_k_space():
    empty = []
    for seed in range(12):
        kspace = np.abs(to_kspace(artefacts.failed_reconstruction(np.random.default_rng(seed), disc(), 2)))
        columns = (kspace**2).sum(axis=0)
        empty.append(float((columns < 1e-6 * columns.max()).mean()))
    assert max(empty) >= 0.4
