"""Labels, probabilities and uncertainty of volumes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recond_models.heads.framing import EmptyVolumeError
from recond_models.heads.network import SliceUNet
from recond_models.heads.preparation import prepare
from recond_models.heads.segmenter import Segmentation, Segmenter, blocks_of

SPACING = (4.0, 0.8, 0.8)


def _network(classes: int = 4) -> SliceUNet:
    torch.manual_seed(1)
    return SliceUNet(classes=classes, widths=(4, 6, 8), fine=4)


def _volume() -> np.ndarray:
    volume = np.zeros((9, 90, 110), dtype=np.float32)
    volume[:, 20:70, 30:90] = np.random.default_rng(2).uniform(0.5, 1, (9, 50, 60))
    return volume


def test_blocks_make_the_same_as_the_whole() -> None:
    segmenter, prepared = Segmenter(_network(), compiled=False), prepare(_volume(), SPACING)

    whole = segmenter(_volume(), SPACING)
    parts = Segmentation.joined(segmenter.segment(blocks_of(prepared, 2)))

    assert whole.labels.shape == (9, 90, 110)
    assert whole.probabilities.shape == (4, 9, 90, 110)
    for name in ("labels", "probabilities", "uncertainty"):
        difference = np.abs(getattr(parts, name).astype(int) - getattr(whole, name).astype(int))
        assert (difference > (1 if name != "labels" else 0)).mean() < 1e-4


def test_a_block_does_not_depend_on_others_in_the_call() -> None:
    segmenter = Segmenter(_network(), compiled=False)
    first, second = prepare(_volume(), SPACING).block(2, 4), prepare(_volume()[:, :60], (2.0, 1.0, 1.0)).block(0, 3)

    alone, together = segmenter.segment([first])[0], segmenter.segment([second, first])[1]

    np.testing.assert_array_equal(alone.labels, together.labels)


def test_compiled_and_plain_agree() -> None:
    plain, compiled = (Segmenter(_network(), compiled=compiled)(_volume(), SPACING) for compiled in (False, True))

    assert (plain.labels != compiled.labels).mean() < 1e-3
    assert np.abs(plain.probabilities.astype(int) - compiled.probabilities).max() <= 2


def test_probabilities_add_up_and_uncertainty_is_their_entropy() -> None:
    found = Segmenter(_network(), compiled=False)(_volume(), SPACING)

    shares = found.probabilities.astype(float) / 255
    entropy = -(shares * np.log(np.maximum(shares, 1e-12))).sum(axis=0) / np.log(4)
    assert np.abs(shares.sum(axis=0) - 1).max() < 4 / 255
    assert np.abs(found.uncertainty / 255 - entropy).max() < 0.06
    most = np.take_along_axis(shares, found.labels[None].astype(int), axis=0)[0]
    assert (most >= shares.max(axis=0) - 1.5 / 255).all()


def test_outside_of_what_was_seen_there_is_background() -> None:
    volume = np.zeros((5, 300, 300), dtype=np.float32)
    volume[:, 130:170, 130:170] = 1
    found = Segmenter(_network(), compiled=False)(volume, (3.0, 1.0, 1.0))

    assert not found.labels[:, :60].any()
    assert (found.probabilities[0, :, :60] == 255).all()
    assert not found.uncertainty[:, :60].any()


def test_classes_are_merged() -> None:
    all_, merged = (
        Segmenter(_network(), merged, compiled=False)(_volume(), SPACING) for merged in (None, (0, 1, 1, 2))
    )

    together = all_.probabilities[1].astype(int) + all_.probabilities[2]
    assert len(merged.probabilities) == 3
    assert np.abs(merged.probabilities[1] - together).max() <= 2


def test_a_higher_temperature_is_less_sure() -> None:
    cold, hot = (Segmenter(_network(), temperature=value, compiled=False)(_volume(), SPACING) for value in (1.0, 4.0))

    assert hot.uncertainty.mean() > cold.uncertainty.mean()
    assert (hot.labels == cold.labels).mean() > 0.99


@pytest.mark.parametrize("merged", [(0, 1), (0, 1, 3, 3)])
def test_a_merge_that_leaves_classes_out_is_refused(merged: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="merged"):
        Segmenter(_network(), merged)


def test_an_empty_volume_says_so() -> None:
    with pytest.raises(EmptyVolumeError):
        Segmenter(_network(), compiled=False)(np.zeros((5, 40, 40), dtype=np.float32), SPACING)
