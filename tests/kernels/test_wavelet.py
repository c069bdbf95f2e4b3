"""The wavelet transform: isometry, adjoint, known coefficients, and shrinkage."""

import numpy as np
import pytest
import pywt
import torch
from adjointness import assert_adjoint
from hypothesis import given, settings
from hypothesis import strategies as st

from recond_kernels import wavelet
from recond_kernels.wavelet import Coefficients

sizes = st.integers(1, 40)


def random_complex(seed, *shape):
    generator = np.random.default_rng(seed)
    return torch.from_numpy(generator.standard_normal(shape) + 1j * generator.standard_normal(shape))


def flat(coefficients):
    return torch.cat([part.flatten() for part in (coefficients.coarse, *coefficients.details)])


@settings(deadline=None, max_examples=60)
@given(rows=sizes, columns=sizes, levels=st.integers(0, 4), step=st.integers(0, 1000))
def test_isometry_inverse_and_adjoint_for_every_size_and_shift(rows, columns, levels, step):
    images = random_complex(step, 2, rows, columns)
    shift = wavelet.random_shift(1, step, levels)
    coefficients = wavelet.decompose(images, levels, shift)
    energy = coefficients.coarse.square().sum() + sum(detail.square().sum() for detail in coefficients.details)
    torch.testing.assert_close(energy, images.abs().square().sum())
    torch.testing.assert_close(wavelet.compose(coefficients, (rows, columns), shift), images)

    generator = torch.Generator().manual_seed(step)

    def unflat(values):
        parts = (coefficients.coarse, *coefficients.details)
        pieces = torch.split(values, [part.numel() for part in parts])
        coarse, *details = (piece.reshape(part.shape) for piece, part in zip(pieces, parts, strict=True))
        return Coefficients(coarse, tuple(details))

    assert_adjoint(
        lambda parts: flat(wavelet.decompose(torch.view_as_complex(parts), levels, shift)),
        lambda values: torch.view_as_real(wavelet.compose(unflat(values), (rows, columns), shift)),
        torch.view_as_real(images),
        torch.randn(flat(coefficients).shape, dtype=torch.float64, generator=generator),
    )


def test_one_level_agrees_with_another_library():
    image = random_complex(0, 1, 16, 24)
    ours = wavelet.decompose(image, 1)
    # Both keep every coefficient that the image touches; the other library counts its windows from one pixel further on.
    low, (down, across, both) = pywt.dwt2(image[0].real.numpy(), "db2", mode="zero")
    expected = {round(float(np.sum(band**2)), 9) for band in (low, down, across, both)}
    bands = (ours.coarse[0, 0], *ours.details[0][0, 0])
    found = {round(float(band.square().sum()), 9) for band in bands}
    shifted = wavelet.decompose(image, 1, (1, 1))
    moved = {round(float(b.square().sum()), 9) for b in (shifted.coarse[0, 0], *shifted.details[0][0, 0])}
    assert expected in (found, moved)


def test_smooth_images_have_small_details():
    ramp = torch.arange(64, dtype=torch.float64)
    image = torch.complex(ramp[:, None] + 2 * ramp[None, :], ramp[None, :] - ramp[:, None])[None]
    finest = wavelet.decompose(image, 1).details[-1]
    # Two vanishing moments: nothing but the borders sees a plane.
    assert finest[..., 2:-2, 2:-2].abs().max() < 1e-9


def test_soft_threshold_is_the_proximal_map_of_one_scale():
    images = random_complex(3, 2, 16, 16)
    limits = torch.tensor([0.5, 0.0])
    before, after = (wavelet.decompose(x, 2) for x in (images, wavelet.soft_threshold(images, limits, 2)))
    torch.testing.assert_close(wavelet.soft_threshold(images, limits, 2)[1], images[1])
    # The image is a part of the grid, so the transform of the result is close to, not equal to, what was shrunk.
    magnitudes = before.details[-1][0].norm(dim=0)
    shrunk = after.details[-1][0].norm(dim=0)
    assert shrunk[magnitudes > 1].mean() == pytest.approx(float(magnitudes[magnitudes > 1].mean()) - 0.5, abs=0.1)
    assert shrunk[magnitudes < 0.4].mean() < 0.5 * magnitudes[magnitudes < 0.4].mean()


def test_a_frame_does_not_depend_on_its_batch():
    images = random_complex(4, 3, 30, 23).to(torch.complex64)
    limits = torch.tensor([0.1, 0.7, 0.3])
    together = wavelet.soft_threshold(images, limits)
    for frame in range(3):
        alone = wavelet.soft_threshold(images[frame : frame + 1], limits[frame : frame + 1])
        torch.testing.assert_close(together[frame], alone[0], rtol=1e-6, atol=1e-6)


def test_single_and_double_precision_agree():
    images = random_complex(5, 1, 37, 50)
    limits = torch.tensor([0.4], dtype=torch.float64)
    single = wavelet.soft_threshold(images.to(torch.complex64), limits)
    assert single.dtype == torch.complex64
    torch.testing.assert_close(single, wavelet.soft_threshold(images, limits).to(torch.complex64), rtol=0, atol=1e-5)


def test_shifts_repeat_and_differ():
    shifts = [wavelet.random_shift(7, step, 4) for step in range(20)]
    assert shifts == [wavelet.random_shift(7, step, 4) for step in range(20)]
    assert len(set(shifts)) > 10
    assert wavelet.random_shift(7, 0, 0) == (0, 0)


@pytest.mark.parametrize(
    ("shape", "levels"), [((1, 1), 0), ((8, 400), 0), ((16, 400), 1), ((64, 64), 3), ((640, 320), 4)]
)
def test_number_of_levels(shape, levels):
    assert wavelet.levels_for(*shape) == levels


@pytest.mark.parametrize(("levels", "shift"), [(-1, (0, 0)), (2, (4, 0)), (2, (0, -1))])
def test_bad_arguments(levels, shift):
    with pytest.raises(ValueError, match="need levels"):
        wavelet.decompose(random_complex(0, 1, 8, 8), levels, shift)
