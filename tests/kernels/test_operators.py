"""Fourier, coil and sampling operators against numpy, and each against its adjoint."""

import numpy as np
import pytest
import torch
from adjointness import assert_adjoint, assert_linear_operator, inner
from hypothesis import given, settings
from hypothesis import strategies as st

from recond_kernels import coils
from recond_kernels.consistency import replace_measured, sample
from recond_kernels.fourier import fft2c, ifft2c
from recond_kernels.layout import CoilLayout
from recond_kernels.operators.cartesian import Fourier, Mask
from recond_kernels.operators.sense import SenseEncoding, Sensitivities
from recond_kernels.residuals import relative_residuals

AXES = (-2, -1)
sizes = st.integers(1, 13)
layouts = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(lambda counts: CoilLayout(tuple(counts)))
seeds = st.integers(0, 2**32 - 1)


def random_complex(generator, *shape):
    return torch.from_numpy(generator.standard_normal(shape) + 1j * generator.standard_normal(shape))


@settings(deadline=None, max_examples=40)
@given(rows=sizes, columns=sizes, seed=seeds)
def test_fourier_agrees_with_numpy_and_keeps_the_norm(rows, columns, seed):
    image = random_complex(np.random.default_rng(seed), 2, rows, columns)
    expected = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(image.numpy(), AXES), axes=AXES, norm="ortho"), AXES)
    kspace = fft2c(image)
    np.testing.assert_allclose(kspace.numpy(), expected, atol=1e-12)
    torch.testing.assert_close(ifft2c(kspace), image)
    torch.testing.assert_close(inner(kspace, kspace), inner(image, image))


@pytest.mark.parametrize(("rows", "columns"), [(8, 6), (7, 5), (7, 6), (1, 9)])
def test_origin_is_at_half_the_length(rows, columns):
    delta = torch.zeros(rows, columns, dtype=torch.complex128)
    delta[rows // 2, columns // 2] = 1
    flat = torch.full_like(delta, 1 / np.sqrt(rows * columns))
    torch.testing.assert_close(fft2c(delta), flat)
    torch.testing.assert_close(ifft2c(delta), flat)


@settings(deadline=None, max_examples=40)
@given(rows=sizes, columns=sizes, seed=seeds)
def test_fourier_adjointness(rows, columns, seed):
    generator = np.random.default_rng(seed)
    image, kspace = random_complex(generator, rows, columns), random_complex(generator, rows, columns)
    assert_adjoint(fft2c, ifft2c, image, kspace)
    assert_linear_operator(Fourier(), image, kspace)


@settings(deadline=None, max_examples=40)
@given(layout=layouts, rows=sizes, columns=sizes, seed=seeds)
def test_coil_operators_agree_with_numpy_and_are_adjoint(layout, rows, columns, seed):
    generator = np.random.default_rng(seed)
    images = random_complex(generator, layout.batch, rows, columns)
    maps = random_complex(generator, layout.total, rows, columns)
    coil_images = random_complex(generator, layout.total, rows, columns)
    ends = np.cumsum(layout.counts)
    segments = [slice(end - count, end) for end, count in zip(ends, layout.counts, strict=True)]

    expanded = coils.expand(images, maps, layout)
    reduced = coils.reduce(coil_images, maps, layout)
    combined = coils.root_sum_of_squares(coil_images, layout)
    for frame, segment in enumerate(segments):
        torch.testing.assert_close(expanded[segment], maps[segment] * images[frame])
        torch.testing.assert_close(reduced[frame], torch.sum(maps[segment].conj() * coil_images[segment], 0))
        magnitudes = np.linalg.norm(coil_images[segment].numpy(), axis=0)
        np.testing.assert_allclose(combined[frame].numpy(), magnitudes)
    assert_linear_operator(Sensitivities(maps, layout), images, coil_images)


@settings(deadline=None, max_examples=40)
@given(layout=layouts, rows=sizes, columns=sizes, seed=seeds)
def test_sense_encoding_is_adjoint_and_agrees_with_its_parts(layout, rows, columns, seed):
    generator = np.random.default_rng(seed)
    images = random_complex(generator, layout.batch, rows, columns)
    maps = random_complex(generator, layout.total, rows, columns)
    kspace = random_complex(generator, layout.total, rows, columns)
    masks = torch.from_numpy(generator.random((layout.batch, rows, columns)) < 0.5)
    encoding = SenseEncoding(maps, masks, layout)

    encoded = encoding(images)
    mask = Mask(masks, layout)
    assert_linear_operator(mask, kspace, random_complex(generator, *kspace.shape))
    assert_linear_operator(encoding, images, kspace)
    # The same composed of its parts, whose Gram operator is theirs.
    composed = mask @ Fourier() @ Sensitivities(maps, layout)
    assert_linear_operator(composed, images, kspace)
    torch.testing.assert_close(composed.gram(images), encoding.gram(images))
    torch.testing.assert_close(encoded, sample(fft2c(coils.expand(images, maps, layout)), masks, layout))
    torch.testing.assert_close(
        relative_residuals(encoding, images, encoded, layout), torch.zeros(layout.batch, dtype=torch.float64)
    )


def test_residual_is_relative_to_the_measured_samples():
    layout = CoilLayout((2, 1))
    generator = np.random.default_rng(3)
    masks = torch.from_numpy(generator.random((2, 6, 5)) < 0.6)
    maps, kspace = random_complex(generator, 3, 6, 5), random_complex(generator, 3, 6, 5)
    encoding = SenseEncoding(maps, masks, layout)
    zero = torch.zeros(2, 6, 5, dtype=torch.complex128)
    measured = sample(kspace, masks, layout)
    torch.testing.assert_close(relative_residuals(encoding, zero, measured, layout), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(
        relative_residuals(encoding, zero, 0 * measured, layout), torch.zeros(2, dtype=torch.float64)
    )


def test_sampling_removes_nan_and_sign_of_zero():
    layout = CoilLayout((1,))
    kspace = torch.tensor([[[complex("nan"), -1 - 1j]]], dtype=torch.complex64)
    masks = torch.tensor([[[False, False]]])
    kept = sample(kspace, masks, layout)
    assert not torch.signbit(torch.view_as_real(kept)).any()
    assert torch.equal(kept, torch.zeros_like(kept))


@settings(deadline=None, max_examples=20)
@given(layout=layouts, seed=seeds)
def test_replacing_measured_samples(layout, seed):
    generator = np.random.default_rng(seed)
    estimate, measured = random_complex(generator, layout.total, 4, 3), random_complex(generator, layout.total, 4, 3)
    masks = torch.from_numpy(generator.random((layout.batch, 4, 3)) < 0.5)
    consistent = replace_measured(estimate, measured, masks, layout)
    torch.testing.assert_close(sample(consistent, masks, layout), sample(measured, masks, layout))
    torch.testing.assert_close(sample(consistent, ~masks, layout), sample(estimate, ~masks, layout))


def test_layout_from_offsets():
    layout = CoilLayout.from_offsets(torch.tensor([0, 3, 4]))
    assert layout.counts == (3, 1)
    assert layout.owners(torch.device("cpu")).tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("offsets", [[], [0], [1, 2], [0, 2, 2], [0, 3, 1]])
def test_bad_offsets(offsets):
    with pytest.raises(ValueError, match="coil"):
        CoilLayout.from_offsets(torch.tensor(offsets, dtype=torch.int64))


def test_shapes_that_do_not_fit():
    layout = CoilLayout((2,))
    with pytest.raises(ValueError, match="layout has 2"):
        coils.sum_segments(torch.zeros(3, 4, 4), layout)
    with pytest.raises(ValueError, match="expected"):
        SenseEncoding(torch.zeros(2, 4, 4, dtype=torch.complex64), torch.ones(1, 4, 5, dtype=torch.bool), layout)
