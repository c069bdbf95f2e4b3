"""From reconstructions to finished images: cut, interpolated with phase, scaled; and the phase that models give."""

import numpy as np
import pytest
import torch

from recond_kernels.fourier import fft2c, ifft2c
from recond_kernels.layout import CoilLayout
from recond_models import loading, registry, selection
from recond_models.batch import CoilImages, PackedBatch, Reconstruction
from recond_models.finishing import Finishing, finish, interpolate, magnitudes
from recond_models.model import ModelInfo, NoPhaseError, UnsuitableModelError
from recond_models.sampling import centre_block

SHAPE = (64, 48)
FINE = (96, 72)
ODD = (97, 75)
FITTING = ["cg-sense", "l1-wavelet", "tv"]


def signed_object(shape=SHAPE):
    """Return a smooth-edged object that is negative on its left half, float64."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, size, endpoint=False) for size in shape), indexing="ij")
    inside = 1 / (1 + np.exp(30 * (np.hypot(y / 0.7, x / 0.75) - 1)))
    return inside * (1 + 0.4 * np.cos(4 * y) * np.cos(3 * x)) * np.where(x < 0, -1.0, 1.0)


def sensitivities(coils, shape=SHAPE):
    """Return smooth complex sensitivities (coils, rows, columns) of root sum of squares 1, each with a phase of its own."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, size, endpoint=False) for size in shape), indexing="ij")
    angles = 2 * np.pi * np.arange(coils)[:, None, None] / coils
    magnitude = np.exp(-0.5 * ((y - np.sin(angles)) ** 2 + (x - np.cos(angles)) ** 2))
    phase = 2.1 * np.arange(coils)[:, None, None] + 0.5 * (y * np.cos(angles) + x * np.sin(angles))
    maps = magnitude * np.exp(1j * phase)
    return maps / np.sqrt((np.abs(maps) ** 2).sum(axis=0))


def kspace_of(coil_images):
    return fft2c(torch.from_numpy(coil_images.astype(np.complex64)))


def packed(kspace, scale=1.0, extent=(24, 24)):
    block = torch.from_numpy(centre_block(kspace.numpy(), extent))
    return PackedBatch.pack([kspace * scale], [np.ones(kspace.shape[1:], np.bool_)], [block])


def zero_filled(kspace, shape):
    """Return the magnitudes of zero-filled k-space, pixel values kept."""
    wide = torch.zeros((kspace.shape[0], *shape), dtype=torch.complex64)
    top, left = (shape[axis] // 2 - kspace.shape[axis + 1] // 2 for axis in (0, 1))
    wide[:, top : top + kspace.shape[1], left : left + kspace.shape[2]] = kspace
    gain = np.sqrt(np.prod(shape) / np.prod(kspace.shape[1:]))
    return ifft2c(wide).abs().square().sum(dim=0).sqrt() * gain


def relative(found, expected):
    return float(torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected))


def one(result, finishing, *, is_complex=False):
    (image,) = finish(result, [finishing], complex_images=[is_complex])
    return image


@pytest.mark.parametrize("coils", [1, 4, 11])
@pytest.mark.parametrize("shape", [FINE, ODD, (64, 90)])
def test_coil_images_are_zero_filled_before_they_are_combined(coils, shape):
    weights = sensitivities(coils) if coils > 1 else np.ones((1, *SHAPE))
    kspace = kspace_of(signed_object() * weights)
    image = one(loading.load("rss").reconstruct(packed(kspace)), Finishing(shape))
    assert image.shape == shape
    assert image.dtype == torch.float32
    assert relative(image, zero_filled(kspace, shape)) < 1e-6


@pytest.mark.parametrize("size", [(63, 48), (64, 47), (33, 35)])
def test_odd_sizes_keep_their_centre(size):
    kspace = kspace_of(signed_object(size)[None])
    image = one(loading.load("rss").reconstruct(packed(kspace)), Finishing(ODD))
    assert relative(image, zero_filled(kspace, ODD)) < 1e-6


def test_sense_images_are_interpolated_with_their_phase():
    kspace = kspace_of(signed_object() * sensitivities(6))
    result = loading.load("cg-sense").reconstruct(packed(kspace))
    found, expected = one(result, Finishing(FINE)), zero_filled(kspace, FINE)
    of_magnitudes = one(Reconstruction(magnitudes(result)), Finishing(FINE))
    # What is left is regularisation and the edge of the maps.
    assert relative(found, expected) < 0.02
    assert relative(of_magnitudes, expected) > 0.05


@pytest.mark.parametrize("window", [None, (4, 3, 40, 30), (0, 0, 64, 48)])
def test_windows_are_cut_out_before_images_are_interpolated(window):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(1, *SHAPE, dtype=torch.complex64, generator=generator)
    first_row, first_column, rows, columns = window or (0, 0, *SHAPE)
    part = images[0, first_row : first_row + rows, first_column : first_column + columns]
    expected = zero_filled(fft2c(part)[None], FINE)
    assert relative(one(Reconstruction(images), Finishing(FINE, window)), expected) < 1e-5
    coil = CoilImages(torch.fft.ifft2(fft2c(images) * _wave(SHAPE).conj(), norm="ortho"), CoilLayout((1,)))
    assert relative(one(Reconstruction(coil), Finishing(FINE, window)), expected) < 1e-5


def _wave(shape):
    from recond_kernels.fourier import ramp

    return ramp(*shape, torch.complex64, torch.device("cpu"))


def test_the_middle_is_cut_out_about_its_centre():
    images = torch.arange(30.0).reshape(1, 5, 6)
    assert torch.equal(one(Reconstruction(images), Finishing((3, 4))), images[0, 1:4, 1:5])
    assert torch.equal(one(Reconstruction(images), Finishing((5, 6))), images[0])
    assert torch.equal(one(Reconstruction(images), Finishing((2, 3), (1, 2, 2, 3))), images[0, 1:3, 2:5])
    with pytest.raises(ValueError, match="does not lie within the image of 5 x 6"):
        one(Reconstruction(images), Finishing((3, 4), (3, 0, 3, 4)))


def test_a_window_larger_than_the_finished_image_is_brought_to_it_by_cutting_k_space():
    kspace = torch.zeros(1, 40, 40, dtype=torch.complex64)
    kspace[:, 14:26, 14:26] = torch.randn(12, 12, dtype=torch.complex64, generator=torch.Generator().manual_seed(2))
    image = one(Reconstruction(ifft2c(kspace)), Finishing((20, 16), (0, 0, 40, 40)))
    assert relative(image, ifft2c(kspace[:, 10:30, 12:28])[0].abs() * np.sqrt(20 * 16 / 1600)) < 1e-6


def test_magnitudes_without_phase_never_ring_below_zero():
    images = torch.zeros(1, 20, 20)
    images[:, 5:15, 5:15] = 1
    image = one(Reconstruction(images), Finishing((30, 30)))
    assert image.min() == 0
    assert float(image.mean()) == pytest.approx(0.25, rel=0.1)


@pytest.mark.parametrize("name", ["rss", *FITTING])
@pytest.mark.parametrize("exponent", [0, 5, -30, 140, -140])
@pytest.mark.parametrize("shape", [SHAPE, FINE])
def test_exponents_beyond_float32_are_divided_out(name, exponent, shape):
    """K-space of any magnitude times 2**exponent is near 1; its image divided by that is right wherever float32 can hold it."""
    result = loading.load(name).reconstruct(packed(kspace_of(signed_object() * sensitivities(4))))
    plain = one(result, Finishing(shape)).double()
    finished = one(result, Finishing(shape, exponent=exponent))
    expected = (plain * 2.0**-exponent).float()
    assert torch.equal(finished, expected)
    assert torch.isinf(finished).any() == (exponent == -140)
    assert not torch.isnan(finished).any()


@pytest.mark.parametrize("scale", [2.0**-126, 1e-6, 1e12, 2.0**120])
def test_scale_of_the_input_and_exponent_cancel(scale):
    kspace = kspace_of(signed_object() * sensitivities(4))
    for name in ("rss", "cg-sense"):
        model = loading.load(name)
        plain = one(model.reconstruct(packed(kspace)), Finishing(FINE))
        exponent = int(np.log2(scale))
        scaled = one(model.reconstruct(packed(kspace, np.float32(scale))), Finishing(FINE, exponent=exponent))
        assert relative(scaled, plain * (scale / 2.0**exponent)) < 1e-4


def test_frames_that_were_withdrawn_have_no_image_and_each_frame_has_its_own_finishing():
    kspace = kspace_of(signed_object() * sensitivities(5))
    batch = PackedBatch.pack([kspace, kspace[:2], kspace[:3]], [np.ones(SHAPE, np.bool_)] * 3)
    result = loading.load("rss").reconstruct(batch)
    images = finish(result, [Finishing(FINE), None, Finishing((32, 32))], complex_images=[False] * 3)
    assert images[1] is None
    assert [tuple(images[0].shape), tuple(images[2].shape)] == [FINE, (32, 32)]
    assert relative(images[2], magnitudes(result)[2, 16:48, 8:40]) < 1e-6
    with pytest.raises(ValueError, match=r"shorter|longer"):
        finish(result, [None], complex_images=[False])


@pytest.mark.parametrize("name", FITTING)
def test_complex_images_have_the_magnitudes_of_the_others(name):
    result = loading.load(name).reconstruct(packed(kspace_of(signed_object() * sensitivities(6)), 2.0**40))
    for shape in (SHAPE, FINE):
        plain = one(result, Finishing(shape, exponent=40))
        image = one(result, Finishing(shape, exponent=40), is_complex=True)
        assert image.dtype == torch.complex64
        assert relative(image.abs(), plain) < 1e-6


def phase_step(image, truth):
    """Return the phase difference across the sign change of an object, pixel by pixel along it, radians in [0, pi]."""
    middle = truth.shape[1] // 2
    rows = slice(truth.shape[0] // 4, 3 * truth.shape[0] // 4)
    right, left = image[rows, middle + 1], image[rows, middle - 2]
    return np.abs(np.angle(right * left.conj()))


@pytest.mark.parametrize("name", [*FITTING, "unrolled-brain", "unrolled-brain-fast"])
@pytest.mark.parametrize("coils", [4, 8, 20])
def test_a_change_of_sign_comes_out_as_pi(name, coils):
    truth = signed_object((96, 80))
    image = one(
        loading.load(name).reconstruct(packed(kspace_of(truth * sensitivities(coils, (96, 80))))),
        Finishing((96, 80)),
        is_complex=True,
    ).numpy()
    assert np.abs(phase_step(image, truth) - np.pi).max() < 0.15
    # But for the sign of the object the phase is smooth: neighbours differ by little.
    smooth = image * np.sign(truth)
    bright = np.abs(truth) > 0.5
    for axis in (0, 1):
        steps = np.angle(np.roll(smooth, -1, axis) * smooth.conj())[bright & np.roll(bright, -1, axis)]
        assert np.abs(steps).max() < 0.25


@pytest.mark.parametrize("name", FITTING)
def test_the_phase_of_the_object_is_recovered(name):
    """With coils of a common smooth phase the image has the phase of the object, up to that phase and a constant."""
    shape = (96, 80)
    y, x = np.meshgrid(*(np.linspace(-1, 1, size, endpoint=False) for size in shape), indexing="ij")
    truth = np.abs(signed_object(shape)) * np.exp(1j * (2 * y + 1.5 * x**2))
    weights = np.abs(sensitivities(8, shape)) * np.exp(0.7j * np.arange(8))[:, None, None]
    result = loading.load(name).reconstruct(packed(kspace_of(truth * weights)))
    image = one(result, Finishing(shape), is_complex=True).numpy()
    bright = np.abs(truth) > 0.3
    left = np.angle(image * truth.conj() / np.vdot(truth, image))[bright]
    assert np.abs(left).max() < 0.05


@pytest.mark.parametrize("name", ["rss", "bench"])
def test_models_without_phase_refuse_complex_images(name):
    info = ModelInfo(name, "1", "-", "network", "-", needs_calibration=False, fits_samples=False)
    assert not info.has_phase
    with pytest.raises(
        NoPhaseError, match=f"{name} makes magnitude images.*choose cg-sense, l1-wavelet, tv.*unrolled-brain"
    ):
        selection.check_phase(info, registry.available())
    for images in (torch.ones(1, 8, 8), CoilImages(torch.ones(3, 8, 8, dtype=torch.complex64), CoilLayout((3,)))):
        with pytest.raises(UnsuitableModelError, match="magnitudes only"):
            one(Reconstruction(images), Finishing((8, 8)), is_complex=True)


def test_models_that_give_complex_images_say_so():
    batch = packed(kspace_of(signed_object() * sensitivities(6)))
    for info in registry.available():
        images = loading.load(info.name).reconstruct(batch).images
        assert info.has_phase == (isinstance(images, torch.Tensor) and images.is_complex())
        if info.has_phase:
            selection.check_phase(info, registry.available())


def test_interpolation_and_its_way_back():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, *SHAPE, dtype=torch.complex64, generator=generator)
    assert relative(interpolate(interpolate(images, ODD), SHAPE), images) < 1e-5


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.parametrize("shape", [SHAPE, FINE])
@pytest.mark.parametrize("name", ["rss", *FITTING])
def test_images_of_a_gpu_are_finished_there_and_come_back(name, shape):
    batch = packed(kspace_of(signed_object() * sensitivities(5)), 2.0**30)
    finishing = Finishing(shape, exponent=30)
    expected = one(loading.load(name).reconstruct(batch), finishing)
    found = one(loading.load(name, device="cuda").reconstruct(batch), finishing)
    assert found.device.type == "cpu"
    assert relative(found, expected) < 1e-2
