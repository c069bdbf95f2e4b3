"""Samples that are set aside, and what candidates predict of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from undersampled import batch_of, undersampled

from recond_kernels import interruption
from recond_models import loading
from recond_models.classical import parallel
from recond_models.ensemble import held_out
from recond_models.model import UnsuitableModelError


@pytest.fixture(scope="module")
def trial():
    return loading.load("held-out-trial")


@pytest.mark.parametrize("points", [False, True], ids=["lines", "points"])
def test_a_small_part_outside_the_calibration_block_is_hidden(points):
    _, mask = undersampled(points=points)
    hidden = held_out.draw(mask, (16, 16), 1)
    assert not (hidden & ~mask).any()
    block = (slice(None) if not points else slice(40, 56), slice(32, 48))
    assert not hidden[block].any()
    outside = mask.copy()
    outside[block] = False
    assert 0.05 <= hidden.sum() / outside.sum() <= 0.11
    assert not np.array_equal(hidden, held_out.draw(mask, (16, 16), 2))
    np.testing.assert_array_equal(hidden, held_out.draw(mask, (16, 16), 1))
    if not points:
        assert (hidden == hidden[:1]).all()


def test_hidden_lines_are_spread_from_edge_to_edge():
    mask = np.zeros((64, 400), dtype=bool)
    mask[:, ::2] = True
    lines = np.flatnonzero(held_out.draw(mask, (24, 24), 5)[0])
    assert len(lines) >= 10
    assert lines[0] < 50
    assert lines[-1] > 350
    assert np.diff(lines).max() < 110


def test_candidates_do_not_see_what_they_predict():
    kspace, mask = undersampled()
    hidden = held_out.draw(mask, (16, 16), 3)
    changed = kspace.copy()
    changed[:, hidden] *= -3
    predictions = []
    for samples in (kspace, changed):
        info = loading.load("tv").info
        posed = parallel.pose(batch_of((samples, mask)), info, torch.device("cpu"))
        where = torch.from_numpy(hidden)[None]
        rest = held_out.without(posed, where)
        predictions.append(held_out.predict(posed, loading.load("tv").solve(rest), where) * posed.scales[0])
    torch.testing.assert_close(predictions[0], predictions[1])


def test_the_trial_tells_errors_of_every_candidate(trial):
    kspace, mask = undersampled()
    result = trial.reconstruct(batch_of((kspace, mask)))
    (found,) = result.trials
    assert set(found.errors) == {"ensemble", "unrolled-brain", "tv", "l1-wavelet"}
    assert all(0 < found.relative(name) < 0.9 for name in found.errors)
    # The prediction of the mean is the mean of the predictions: never worse than the mean of the squared errors.
    assert found.errors["ensemble"] <= (found.errors["unrolled-brain"] + found.errors["tv"]) / 2
    assert result.images.shape == (1, 96, 80)


def test_the_scale_of_a_frame_does_not_matter_and_other_frames_hide_other_samples(trial):
    kspace, mask = undersampled(points=True)
    (alone,) = trial.reconstruct(batch_of((kspace, mask))).trials
    twice = trial.reconstruct(batch_of((kspace, mask), undersampled(points=True, seed=1, coils=3))).trials
    assert twice[0] == alone
    assert twice[1].energy != alone.energy


def test_a_frame_with_nothing_but_calibration_cannot_be_tried(trial):
    kspace, mask = undersampled()
    mask = np.zeros_like(mask)
    mask[:, 32:48] = True
    with pytest.raises(UnsuitableModelError, match="held out"):
        trial.reconstruct(batch_of((np.where(mask, kspace, 0), mask)))


def test_a_trial_that_nobody_waits_for_stops(trial):
    batch = batch_of(undersampled())
    with pytest.raises(interruption.Interrupted), interruption.watching(lambda _: True, 1):
        trial.reconstruct(batch)
