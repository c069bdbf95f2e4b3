"""Soft data consistency, and the coil operators with the ramp of a plain DFT."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recond_kernels import coils, consistency
from recond_kernels.fourier import fft2c, ifft2c, ramp
from recond_kernels.layout import CoilLayout
from recond_kernels.operators.sense import SenseEncoding

layouts = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(lambda counts: CoilLayout(tuple(counts)))
seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 9)


def random_complex(generator, *shape):
    return torch.from_numpy(generator.standard_normal(shape) + 1j * generator.standard_normal(shape))


@settings(deadline=None, max_examples=30)
@given(layout=layouts, rows=sizes, columns=sizes, weight=st.floats(0, 1), seed=seeds)
def test_soft_consistency_agrees_with_numpy(layout, rows, columns, weight, seed):
    generator = np.random.default_rng(seed)
    estimate, measured = (random_complex(generator, layout.total, rows, columns) for _ in range(2))
    masks = torch.from_numpy(generator.random((layout.batch, rows, columns)) < 0.5)
    result = consistency.approach_measured(estimate, measured, masks, weight, layout)
    known = np.repeat(masks.numpy(), layout.counts, axis=0)
    expected = np.where(known, (1 - weight) * estimate.numpy() + weight * measured.numpy(), estimate.numpy())
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-12)
    hard = consistency.approach_measured(estimate, measured, masks, 1.0, layout)
    torch.testing.assert_close(hard, consistency.replace_measured(estimate, measured, masks, layout))


@settings(deadline=None, max_examples=30)
@given(layout=layouts, rows=sizes, columns=sizes, seed=seeds)
def test_chain_around_plain_transforms_is_the_centred_one(layout, rows, columns, seed):
    generator = np.random.default_rng(seed)
    images = random_complex(generator, layout.batch, rows, columns)
    maps, measured = (random_complex(generator, layout.total, rows, columns) for _ in range(2))
    masks = torch.from_numpy(generator.random((layout.batch, rows, columns)) < 0.5)
    wave = ramp(rows, columns, torch.complex128, images.device)
    torch.testing.assert_close(wave.abs(), torch.ones(rows, columns, dtype=torch.float64))
    torch.testing.assert_close(ramp(rows, columns, wave.dtype, wave.device, conjugate=True), wave.conj().resolve_conj())

    raw = torch.fft.fft2(coils.expand(images, maps, layout, wave), norm="ortho")
    updated = consistency.approach_measured(raw, measured, masks, 0.4, layout, wave)
    centred = fft2c(coils.expand(images, maps, layout))
    torch.testing.assert_close(updated, consistency.approach_measured(centred, measured, masks, 0.4, layout))

    combined = coils.reduce(torch.fft.ifft2(wave.conj() * measured, norm="ortho"), maps, layout, wave)
    torch.testing.assert_close(combined, coils.reduce(ifft2c(measured), maps, layout))


def test_what_was_not_measured_may_be_anything():
    layout = CoilLayout((1,))
    measured = torch.tensor([[[complex("nan"), 2]]])
    result = consistency.approach_measured(
        torch.ones_like(measured), measured, torch.tensor([[[False, True]]]), 0.5, layout
    )
    torch.testing.assert_close(result, torch.tensor([[[1, 1.5]]], dtype=measured.dtype))


@settings(deadline=None, max_examples=20)
@given(layout=layouts, rows=sizes, columns=sizes, seed=seeds)
def test_normal_operator_with_whole_lines_beside_scattered_samples(layout, rows, columns, seed):
    generator = np.random.default_rng(seed)
    maps, images = (
        random_complex(generator, layout.total, rows, columns),
        random_complex(generator, layout.batch, rows, columns),
    )
    masks = torch.from_numpy(generator.random((layout.batch, rows, columns)) < 0.5)
    masks[::2] = masks[::2, :1]
    encoding = SenseEncoding(maps, masks, layout)
    torch.testing.assert_close(encoding.gram(images), encoding.adjoint(encoding(images)))
    for frame, place in enumerate(layout.segments()):
        one = SenseEncoding(maps[place], masks[frame : frame + 1], CoilLayout((layout.counts[frame],)))
        assert torch.equal(one.gram(images[frame : frame + 1])[0], encoding.gram(images)[frame])


def test_wrong_number_of_coils():
    with pytest.raises(ValueError, match="layout has 2"):
        consistency.approach_measured(
            torch.zeros(3, 2, 2), torch.zeros(3, 2, 2), torch.ones(1, 2, 2) > 0, 1.0, CoilLayout((2,))
        )
