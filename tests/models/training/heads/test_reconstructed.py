"""Stacks that recond has reconstructed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recond_models.training.heads import tissue
from recond_models.training.heads.label_maps import LabelMap
from recond_models.training.heads.reconstructed import MODELS, reconstruct
from recond_models.training.heads.stack import Stack, load_bank
from recond_models.training.heads.tissue import TissueSamples

SIZE = (64, 64)


def _slices() -> np.ndarray:
    """Return a disc with a darker one in it, in five slices."""
    down, across = np.meshgrid(np.arange(64) - 32, np.arange(64) - 32, indexing="ij")
    radius = np.hypot(down, across)
    image = np.where(radius < 26, 1.0, 0.0) - np.where(radius < 12, 0.5, 0.0)
    return np.repeat(image[None], 5, axis=0).astype(np.float32)


@pytest.mark.parametrize("model", ["rss", "cg-sense"])
def test_slices_are_measured_and_reconstructed(model: str) -> None:
    slices = _slices()

    images, acceleration = reconstruct(np.random.default_rng(3), slices, model)
    again, _ = reconstruct(np.random.default_rng(3), slices, model)

    assert images.shape == slices.shape
    assert 1.5 < acceleration < 12
    assert np.corrcoef(images.ravel(), slices.ravel())[0, 1] > 0.8
    assert not np.array_equal(images[0], images[1])  # each slice has its own noise
    np.testing.assert_allclose(images, again, rtol=1e-4, atol=1e-5)


def test_the_models_of_the_bank_are_shares() -> None:
    assert sum(MODELS.values()) == pytest.approx(1.0)


def test_a_stack_comes_back_from_disk(tmp_path: Path) -> None:
    target = np.random.default_rng(0).integers(0, 8, SIZE).astype(np.uint8)
    Stack(_slices(), target, "tv", 4.5).save(tmp_path / "00000.npz")

    (stack,) = load_bank(tmp_path)

    np.testing.assert_array_equal(stack.target, target)
    np.testing.assert_allclose(stack.slices, _slices(), atol=1e-3)
    assert (stack.model, stack.acceleration) == ("tv", 4.5)
    assert load_bank(tmp_path / "nothing") == []


def test_samples_are_cut_from_the_bank(label_map: LabelMap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tissue, "_BANK_SHARE", 1.0)
    slices = _slices()
    target = (7 * (slices[2] == 0.5)).astype(np.uint8)
    samples = TissueSamples([label_map], (48, 48), bank=[Stack(slices, target, "tv", 4.0)])

    for seed in range(4):
        sample = samples.draw(np.random.default_rng(seed))
        inner = sample.image[2][sample.target == 7]
        assert sample.target.shape == (48, 48)
        assert len(inner) > 100
        assert inner.std() < 0.02 * inner.mean()
        assert inner.mean() == pytest.approx(0.5 * sample.image[2].max(), rel=0.02)
