"""From a volume to what networks see, and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from recond_models.heads import framing, preparation
from recond_models.heads.framing import MULTIPLE
from recond_models.heads.preparation import prepare


def _head(slices: int = 7, rows: int = 120, columns: int = 100, noise: float = 0.0) -> NDArray[np.float32]:
    """Return an ellipsoid with a smooth texture, in air."""
    generator = np.random.default_rng(3)
    grids = np.meshgrid(*(np.linspace(-1, 1, size) for size in (slices, rows, columns)), indexing="ij")
    inside = (grids[0] / 1.5) ** 2 + (grids[1] / 0.7) ** 2 + (grids[2] / 0.6) ** 2 < 1
    texture = ndimage.gaussian_filter(generator.random((slices, rows, columns)), (0, 4, 4))
    made = inside * (0.5 + texture / texture.max()) + noise * np.abs(generator.normal(size=texture.shape))
    return made.astype(np.float32)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e12])
def test_the_scale_of_the_volume_does_not_matter(scale: float) -> None:
    head = _head()

    prepared, scaled = prepare(head, (3.0, 1.0, 1.0)), prepare(head * np.float32(scale), (3.0, 1.0, 1.0))

    np.testing.assert_allclose(scaled.images, prepared.images, rtol=1e-4, atol=1e-5)
    assert scaled.framing.scale == pytest.approx(scale * prepared.framing.scale, rel=1e-4)
    assert 0.8 < np.percentile(prepared.images[prepared.images > 0.1], 90) < 1.1


@pytest.mark.parametrize("spacing", [(3.0, 1.0, 1.0), (5.0, 0.7, 0.9), (2.0, 1.9, 1.4)])
def test_values_come_back_to_their_place(spacing: tuple[float, float, float]) -> None:
    head = _head(rows=round(120 / spacing[1]), columns=round(100 / spacing[2]))
    prepared = prepare(head, spacing)

    came = preparation.back(torch.from_numpy(prepared.images)[:, None], prepared.framing, 0.0)[:, 0].numpy()
    came *= prepared.framing.scale

    inside = ndimage.binary_erosion(head > 0.3, np.ones((1, 7, 7)))
    assert came.shape == head.shape
    assert np.abs(came - head)[inside].max() < 0.06


def test_the_object_is_cropped_to_multiples() -> None:
    prepared = prepare(_head(rows=300, columns=260), (3.0, 1.0, 1.0))

    rows, columns = prepared.framing.seen
    assert rows % MULTIPLE == columns % MULTIPLE == 0
    assert rows < 300
    assert columns < 260
    # All of the object is there.
    assert (prepared.images > 0.3).sum() == pytest.approx((_head(rows=300, columns=260) > 0.3).sum(), rel=0.02)


@pytest.mark.parametrize("turn", ["rows", "columns", "quarter"])
def test_a_turned_volume_is_prepared_alike(turn: str) -> None:
    head = _head(rows=128, columns=128)
    turned = {"rows": head[:, ::-1], "columns": head[:, :, ::-1], "quarter": np.rot90(head, axes=(1, 2))}[turn]

    straight, other = prepare(head, (3.0, 1.0, 1.0)).images, prepare(turned, (3.0, 1.0, 1.0)).images

    back = {"rows": other[:, ::-1], "columns": other[:, :, ::-1], "quarter": np.rot90(other, -1, axes=(1, 2))}[turn]
    assert back.shape == straight.shape
    shifts = [
        np.abs(np.roll(back, shift, (1, 2)) - straight).max()
        for shift in [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1)]
    ]
    assert min(shifts) < 1e-5


def test_blocks_bring_the_slices_on_either_side() -> None:
    prepared = prepare(_head(), (3.0, 1.0, 1.0))

    stacks = prepared.block(0, 7).stacks().numpy()
    part = prepared.block(3, 5).stacks().numpy()

    np.testing.assert_array_equal(part, stacks[3:5])
    np.testing.assert_array_equal(stacks[3], prepared.images[1:6])
    np.testing.assert_array_equal(stacks[0], prepared.images[[0, 0, 0, 1, 2]])
    with pytest.raises(IndexError):
        prepared.block(5, 9)


def test_a_spike_does_not_decide_about_brightness() -> None:
    head = _head(noise=0.02)
    usual = framing.brightness(head)
    head[3, 60, 50] = 1e6

    assert framing.brightness(head) == pytest.approx(usual, rel=0.02)


@pytest.mark.parametrize(
    ("volume", "spacing", "error", "message"),
    [
        (np.zeros((5, 20, 20)), (3, 1, 1), framing.EmptyVolumeError, "empty"),
        (-np.ones((5, 20, 20)), (3, 1, 1), framing.EmptyVolumeError, "empty"),
        (np.full((5, 20, 20), np.nan), (3, 1, 1), framing.NotFiniteError, "NaN"),
        (np.ones((20, 20)), (3, 1, 1), framing.ShapeError, "slices, rows, columns"),
        (np.ones((5, 20, 20)), (0, 1, 1), framing.SpacingError, "mm"),
        (np.ones((5, 20, 20)), (3, 1, float("nan")), framing.SpacingError, "mm"),
        (np.ones((1, 20, 20)), (3, 1, 1), framing.TooFewSlicesError, "3 neighbouring slices, got 1"),
        (np.ones((5, 20, 20)), (3, 4, 4), framing.TooCoarseError, "3 mm"),
        (np.ones((5, 20, 20)), (20, 1, 1), framing.TooCoarseError, "8 mm"),
    ],
)
def test_what_cannot_be_prepared_says_why(
    volume: NDArray[np.float64], spacing: tuple[float, float, float], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        prepare(volume, spacing)
