"""fastMRI's U-Net on packed batches, and the normalisation that goes with it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from network_builders import INFO, frame_of, packed, relative, unet

from recond_kernels.coils import root_sum_of_squares
from recond_kernels.fourier import ifft2c
from recond_models.batch import PackedBatch
from recond_models.finishing import magnitudes
from recond_models.model import UnsuitableModelError
from recond_models.networks import norm_unet
from recond_models.networks.families import FAMILIES
from recond_models.networks.unet import Unet
from recond_models.networks.unet_reconstructor import UnetReconstructor


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch_of(frames, crops=()):
    batch = packed(frames)
    return PackedBatch(batch.kspace, batch.coil_offsets, batch.masks, batch.calibrations, tuple(crops))


@pytest.fixture(scope="module")
def network():
    return unet()


@pytest.fixture(scope="module")
def model(network):
    return UnetReconstructor(INFO, network, compiled=False)


@pytest.mark.parametrize(("crop", "corner"), [((24, 30), (8, 4)), ((25, 31), (7, 3)), ((40, 38), (0, 0))])
def test_shown_part_is_normalised_by_itself(network, model, crop, corner):
    kspace, lines = frame_of(3, 40, 38, generator())
    image = magnitudes(model.reconstruct(batch_of([(kspace, lines)], [crop])))[0]
    zero_filled = ifft2c(kspace).abs().square().sum(0).sqrt()
    inside = slice(corner[0], corner[0] + crop[0]), slice(corner[1], corner[1] + crop[1])
    shown = zero_filled[inside]
    normalised = ((shown - shown.mean()) / shown.std()).clamp(-6, 6)
    with torch.inference_mode():
        expected = network(normalised[None, None])[0, 0] * shown.std() + shown.mean()
    assert relative(image[inside], expected) < 1e-5
    outside = torch.ones(40, 38, dtype=torch.bool)
    outside[inside] = False
    torch.testing.assert_close(image[outside], zero_filled[outside])


@settings(max_examples=8, deadline=None)
@given(coils=st.lists(st.integers(1, 5), min_size=2, max_size=4), seed=st.integers(0, 2**31))
def test_image_does_not_depend_on_the_batch(model, coils, seed):
    source = generator(seed)
    frames = [frame_of(count, 30, 41, source) for count in coils]
    crops = [(20, 20 + number) for number in range(len(coils))]
    together = magnitudes(model.reconstruct(batch_of(frames, crops)))
    for number, frame in enumerate(frames):
        alone = magnitudes(model.reconstruct(batch_of([frame], crops[number : number + 1])))[0]
        assert relative(together[number], alone) < 1e-5


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e12, 1e30])
def test_scale(model, scale):
    frame = frame_of(2, 32, 32, generator())
    expected = magnitudes(model.reconstruct(packed([frame]))).double()
    assert relative(magnitudes(model.reconstruct(packed([frame], scale))).double() / scale, expected) < 1e-5


def test_image_of_zeros(model):
    kspace = torch.zeros(2, 32, 32, dtype=torch.complex64)
    result = model.reconstruct(PackedBatch.pack([kspace], [torch.ones(32, 32, dtype=torch.bool)]))
    assert not magnitudes(result).any()
    assert [note.code for note in result.notes[0]] == ["constant-image"]


def test_too_small(model):
    with pytest.raises(UnsuitableModelError, match="8 x 8 and more, got 7 x 30"):
        model.reconstruct(batch_of([frame_of(1, 32, 32, generator())], [(7, 30)]))


def test_crop_outside_of_the_image():
    with pytest.raises(ValueError, match=r"crops\[0\] is \(33, 32\)"):
        batch_of([frame_of(1, 32, 32, generator())], [(33, 32)])
    with pytest.raises(ValueError, match="2 crops for 1 frames"):
        batch_of([frame_of(1, 32, 32, generator())], [None, None])


def test_wrong_channels():
    with pytest.raises(ValueError, match="got 2 and 2"):
        UnetReconstructor(INFO, Unet(2, 2, 4, 2))


def test_architecture_is_known_by_the_weights():
    architecture = {"family": "unet", "in_channels": 1, "out_channels": 1, "channels": 6, "pools": 3}
    state = FAMILIES["unet"].build(architecture).state_dict()
    assert len(state) == 19
    assert FAMILIES["unet"].infer(state) == architecture
    assert FAMILIES["varnet"].infer(state) is None


class TestNormalisation:
    @given(rows=st.integers(1, 70), columns=st.integers(1, 70))
    def test_padding_is_to_multiples_of_16_smaller_half_first(self, rows, columns):
        left, right, top, bottom = norm_unet.padding(rows, columns)
        assert (rows + top + bottom) % 16 == (columns + left + right) % 16 == 0
        assert 0 <= right - left <= 1
        assert 0 <= bottom - top <= 1
        assert left + right < 16

    @given(rows=st.integers(2, 40), columns=st.integers(1, 40), seed=st.integers(0, 2**31))
    def test_restore_undoes_normalise(self, rows, columns, seed):
        images = torch.randn(2, rows, columns, dtype=torch.complex64, generator=generator(seed)) * 5 + 3
        normalised = norm_unet.normalise(images)
        torch.testing.assert_close(norm_unet.restore(normalised.channels, normalised, rows, columns), images)

    def test_part_that_is_the_same_everywhere(self):
        images = torch.complex(torch.randn(1, 20, 20, generator=generator()), torch.full((1, 20, 20), 2.0))
        normalised = norm_unet.normalise(images)
        assert not normalised.channels[:, 1].any()
        noise = torch.randn(1, 2, 32, 32, generator=generator())
        torch.testing.assert_close(norm_unet.restore(noise, normalised, 20, 20).imag, images.imag)


def test_root_sum_of_squares_of_the_batch_is_that_of_the_kernels(model):
    frame = frame_of(3, 32, 32, generator())
    batch = packed([frame])
    zero_filled = root_sum_of_squares(ifft2c(frame[0]), batch.layout)[0]
    outside = magnitudes(model.reconstruct(batch_of([frame], [(16, 16)])))[0]
    torch.testing.assert_close(outside[:8], zero_filled[:8])
