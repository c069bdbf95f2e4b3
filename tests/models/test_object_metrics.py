"""Figures inside the object, and references whose noise rules the background."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from recond_models import loading, metrics
from recond_models.batch import PackedBatch
from recond_models.finishing import magnitudes
from recond_models.object_metrics import inside_object, noise_floor, object_mask

MIDAS = Path(__file__).parents[3] / "shared" / "data" / "test" / "kspace" / "midas_brain_7ch.h5"
_DISC = np.hypot(*np.indices((96, 80)) - np.array([46, 40])[:, None, None]) < 26


def head(seed: int = 0, slices: int = 1) -> np.ndarray:
    """Return textured discs around a hole, dark outside: float64 (slices, 96, 80)."""
    texture = np.random.default_rng(seed).random((slices, 96, 80))
    volume = np.where(_DISC, 0.7 + 0.3 * texture, 0)
    volume[:, 40:52, 34:46] = 0
    return volume


def root_sum_of_squares(volume: np.ndarray, noise: float, coils: int = 8, seed: int = 1) -> np.ndarray:
    """Return the root sum of squares of coils of equal sensitivity with complex noise."""
    generator = np.random.default_rng(seed)
    shape = (coils, *volume.shape)
    samples = volume / np.sqrt(coils) + noise * (generator.normal(size=shape) + 1j * generator.normal(size=shape))
    return np.sqrt((np.abs(samples) ** 2).sum(axis=0))


def test_the_object_is_where_the_mean_of_windows_is_above_a_tenth_with_holes_filled() -> None:
    inside = object_mask(head()[0])
    assert inside[_DISC].all()
    assert not inside[np.hypot(*np.indices((96, 80)) - np.array([46, 40])[:, None, None]) > 31].any()
    window = np.lib.stride_tricks.sliding_window_view(head()[0], (7, 7)).mean(axis=(2, 3))
    expected = window > 0.1 * np.quantile(head()[0], 0.99)
    filled = inside[3:-3, 3:-3] & ~expected
    assert (inside[3:-3, 3:-3] >= expected).all()
    assert filled[34:52, 28:46].sum() == filled.sum() > 0, "only the hole was filled"


def test_figures_in_the_object_are_those_of_the_definitions() -> None:
    reference = head(slices=2)
    image = reference + 0.1 * np.random.default_rng(2).random(reference.shape)
    inside = object_mask(reference)
    found = inside_object(reference, image)
    maps = [
        structural_similarity(one, other, win_size=7, data_range=reference.max(), full=True)[1]
        for one, other in zip(reference, image, strict=True)
    ]
    assert found.ssim == pytest.approx(np.stack(maps)[inside].mean(), abs=1e-9)
    wrong = (reference - image)[inside]
    assert found.psnr == pytest.approx(10 * np.log10(reference.max() ** 2 / np.mean(wrong**2)))
    assert found.nmse == pytest.approx((wrong**2).sum() / (reference[inside] ** 2).sum())


def test_the_background_does_not_count() -> None:
    reference = head()
    shown = reference.copy()
    shown[:, :8] = 0.5
    found = inside_object(reference, shown)
    assert (found.ssim, found.psnr, found.nmse) == (pytest.approx(1), float("inf"), 0)
    assert metrics.ssim(reference, shown, square=False) < 0.95


def test_nothing_is_cropped() -> None:
    reference = np.concatenate([head(), np.zeros((1, 60, 80))], axis=1)
    shown = reference.copy()
    shown[:, 24:34, 30:50] *= 0.5  # in the object, beyond the square
    assert metrics.nmse(reference, shown) < inside_object(reference, shown).nmse


def test_slices_beyond_the_end_of_the_object_are_empty_and_do_not_count() -> None:
    reference = np.concatenate([head(), 0.01 * np.random.default_rng(3).random((1, 96, 80))])
    inside = object_mask(reference)
    assert inside[0].any()
    assert not inside[1].any()
    image = reference.copy()
    image[1] += 0.3
    assert inside_object(reference, image).nmse == 0


def test_an_object_of_less_than_a_hundredth_of_the_picture_is_found() -> None:
    reference = np.zeros((128, 128))
    reference[60:64, 60:64] = 5.0
    found = np.argwhere(object_mask(reference))
    # Five of the 49 pixels of a window are bright.
    assert found.min(axis=0).tolist() == [58, 58]
    assert found.max(axis=0).tolist() == [65, 65]


@pytest.mark.parametrize(
    "reference", [np.full((1, 9, 9), np.nan), np.zeros((1, 9, 9)), np.full((1, 9, 9), -1.0), np.full((1, 9, 9), np.inf)]
)
def test_references_without_an_object_are_refused(reference: np.ndarray) -> None:
    assert not object_mask(reference).any()
    with pytest.raises(metrics.MetricError):
        inside_object(reference, np.ones_like(reference))


def test_an_object_at_the_edge_alone_has_no_window() -> None:
    reference = np.zeros((1, 40, 40))
    reference[0, 0, 0] = 1
    with pytest.raises(metrics.MetricError, match="no object"):
        inside_object(reference, reference)


def test_tiny_and_misshapen_images_are_refused_as_by_the_other_figures() -> None:
    with pytest.raises(metrics.ImageTooSmallError):
        inside_object(np.ones((1, 6, 20)), np.ones((1, 6, 20)))
    with pytest.raises(metrics.ShapeMismatchError):
        inside_object(np.ones((1, 9, 9)), np.ones((1, 9, 8)))
    with pytest.raises(metrics.ShapeMismatchError):
        inside_object(np.ones((1, 9, 9)), np.ones((1, 9, 9)), np.ones((9, 9), dtype=bool))


def test_a_constant_reference_is_all_object() -> None:
    reference = np.ones((1, 9, 9))
    found = inside_object(reference, 1.1 * reference)
    assert found.psnr == pytest.approx(20)
    assert found.nmse == pytest.approx(0.01)


def test_an_image_that_is_not_finite_has_figures_that_are_not() -> None:
    reference = head()
    image = reference.copy()
    image[0, 46, 40] = np.nan
    found = inside_object(reference, image)
    assert np.isnan([found.ssim, found.psnr, found.nmse]).all()


def test_the_noise_floor_of_a_root_sum_of_squares_is_found() -> None:
    truth = head(slices=2)
    reference = root_sum_of_squares(truth, noise=0.006)
    found = noise_floor(reference, truth)
    assert found is not None
    # The mean of a chi distribution with 16 degrees of freedom.
    assert found.reference == pytest.approx(0.006 * np.sqrt(15.5) / reference.max(), rel=0.02)
    assert found.reconstruction == 0
    assert metrics.ssim(reference, truth, square=False) < 0.7
    assert inside_object(reference, truth).ssim > 0.9


@pytest.mark.parametrize("what", ["no floor", "bad image", "floor in both", "low floor", "no background"])
def test_other_references_have_no_floor(what: str) -> None:
    truth = head()
    generator = np.random.default_rng(4)
    pairs = {
        "no floor": (truth, root_sum_of_squares(truth, 0.006)),
        "bad image": (truth, truth + 0.2 * generator.random(truth.shape)),
        "floor in both": (root_sum_of_squares(truth, 0.006), root_sum_of_squares(truth, 0.006, seed=5)),
        "low floor": (root_sum_of_squares(truth, 0.0005), truth),
        "no background": (np.maximum(root_sum_of_squares(truth, 0.006), 0.2), truth),
    }
    assert noise_floor(*pairs[what]) is None


@pytest.mark.skipif(not MIDAS.is_file(), reason=f"there is no measured head at {MIDAS}")
def test_the_reference_of_a_measured_head_has_a_floor() -> None:
    with h5py.File(MIDAS) as file:
        kspace = file["kspace"][0]
    whole = np.ones(kspace.shape[1:], dtype=bool)
    rows, columns = (size // 2 - 12 for size in whole.shape)
    block = np.ascontiguousarray(kspace[:, rows : rows + 24, columns : columns + 24])
    images = {
        name: magnitudes(loading.load(name).reconstruct(PackedBatch.pack([kspace], [whole], [block]))).numpy()
        for name in ("rss", "cg-sense")
    }
    found = noise_floor(images["rss"], images["cg-sense"])
    assert found is not None
    assert found.reference == pytest.approx(0.0265, rel=0.05)
    assert metrics.ssim(images["rss"], images["cg-sense"], square=False) < 0.7
    assert inside_object(images["rss"], images["cg-sense"]).ssim > 0.95
    assert noise_floor(images["cg-sense"], images["cg-sense"]) is None
