"""Figures against the golden values and against scikit-image, which fastMRI itself uses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from recond_models import metrics


def golden_pair():
    generator = np.random.RandomState(0)
    reference = generator.rand(3, 32, 24).astype(np.float32)
    return reference, (reference + 0.1 * generator.randn(3, 32, 24)).astype(np.float32)


def square(volume):
    start = (volume.shape[1] - volume.shape[2]) // 2
    return volume[:, start : start + volume.shape[2]]


def test_golden_values():
    reference, image = golden_pair()
    assert metrics.ssim(reference, image, square=False) == pytest.approx(0.9457044932, abs=1e-9)
    assert metrics.psnr(reference, image, square=False) == pytest.approx(20.1720796507, abs=1e-6)
    assert metrics.nmse(reference, image, square=False) == pytest.approx(0.0282089747, abs=1e-8)
    assert metrics.ssim_per_slice_range(reference, image, square=False) == pytest.approx(0.9457041457, abs=1e-7)


def test_scores_the_square_of_the_columns():
    reference, image = golden_pair()
    cropped = square(reference), square(image)
    assert cropped[0].shape == (3, 24, 24)
    for figure in (metrics.ssim, metrics.psnr, metrics.nmse, metrics.ssim_per_slice_range):
        assert figure(reference, image) == figure(*cropped, square=False)
        assert figure(reference, image) != figure(reference, image, square=False)
    turned = reference.swapaxes(1, 2), image.swapaxes(1, 2)
    assert metrics.nmse(*turned) == pytest.approx(metrics.nmse(reference, image), rel=1e-12)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    slices=st.integers(1, 3),
    rows=st.integers(7, 20),
    columns=st.integers(7, 20),
    scale=st.floats(1e-6, 1e6),
)
def test_ssim_agrees_with_scikit_image(seed, slices, rows, columns, scale):
    generator = np.random.default_rng(seed)
    reference = scale * (5 + generator.random((slices, rows, columns)))
    image = reference * generator.uniform(0.8, 1.2) + 0.3 * scale * generator.standard_normal(reference.shape)
    expected = np.mean(
        [structural_similarity(a, b, data_range=reference.max()) for a, b in zip(reference, image, strict=True)]
    )
    assert metrics.ssim(reference, image, square=False) == pytest.approx(expected, abs=1e-9)


def test_equal_volumes():
    reference, _ = golden_pair()
    assert metrics.ssim(reference, reference) == pytest.approx(1, abs=1e-12)
    assert metrics.psnr(reference, reference) == float("inf")
    assert metrics.nmse(reference, reference) == 0


def test_arguments_stay_as_they_are():
    reference, image = golden_pair()
    before = reference.copy(), image.copy()
    metrics.ssim(reference, image)
    metrics.psnr(reference, image)
    metrics.noise_level(image)
    np.testing.assert_array_equal(reference, before[0])
    np.testing.assert_array_equal(image, before[1])


@pytest.mark.parametrize("figure", [metrics.ssim, metrics.psnr, metrics.nmse, metrics.ssim_per_slice_range])
def test_volumes_that_cannot_be_compared(figure):
    with pytest.raises(metrics.ShapeMismatchError, match=r"\(1, 9, 9\) and \(1, 9, 8\)"):
        figure(np.ones((1, 9, 9)), np.ones((1, 9, 8)))
    with pytest.raises(metrics.ShapeMismatchError):
        figure(np.ones((9, 9)), np.ones((9, 9)))
    with pytest.raises(metrics.ImageTooSmallError, match="9 x 6"):
        figure(np.ones((1, 9, 6)), np.ones((1, 9, 6)))
    with pytest.raises(metrics.MetricError, match="positive"):
        figure(np.zeros((1, 9, 9)), np.ones((1, 9, 9)))


@pytest.mark.parametrize("deviation", [0.002, 0.01, 0.03])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_noise_level_of_known_noise(deviation, scale):
    generator = np.random.default_rng(5)
    y, x = np.mgrid[-1:1:160j, -1:1:150j]
    smooth = np.where(x**2 + y**2 < 0.8, 0.7 + 0.3 * np.cos(2 * x + y), 0)
    noise = deviation * (generator.standard_normal((2, 3, 160, 150)))
    volume = np.abs(smooth + noise[0] + 1j * noise[1])
    assert metrics.noise_level(scale * volume) * volume.max() == pytest.approx(deviation, rel=0.06)


def test_noise_level_without_signal_or_size():
    assert metrics.noise_level(np.zeros((2, 16, 16))) == 0
    assert metrics.noise_level(np.ones((2, 16, 16))) == pytest.approx(0, abs=1e-12)
    with pytest.raises(metrics.ImageTooSmallError):
        metrics.noise_level(np.ones((1, 7, 16)))
    with pytest.raises(metrics.ShapeMismatchError):
        metrics.noise_level(np.ones((16, 16)))
