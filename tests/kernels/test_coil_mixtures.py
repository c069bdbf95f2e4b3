"""Coil compression and noise whitening against numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recond_kernels import compression, whitening
from recond_kernels.layout import CoilLayout


def random_complex(seed, *shape):
    generator = np.random.default_rng(seed)
    return torch.from_numpy(generator.standard_normal(shape) + 1j * generator.standard_normal(shape))


@settings(deadline=None, max_examples=30)
@given(real=st.integers(1, 10), wanted=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_virtual_coils_are_the_singular_vectors(real, wanted, seed):
    samples = random_complex(seed, real, 6, 7)
    mixture = compression.find(samples, coils=wanted)
    kept = min(real, wanted)
    singular = np.linalg.svd(samples.reshape(real, -1).numpy(), compute_uv=False)
    norms = torch.linalg.vector_norm(mixture.apply(samples), dim=(1, 2))
    np.testing.assert_allclose(norms.numpy(), singular[:kept], atol=1e-9)
    torch.testing.assert_close(mixture.weights @ mixture.weights.mH, torch.eye(kept, dtype=torch.complex128))
    assert mixture.energy == pytest.approx(np.sum(singular[:kept] ** 2) / np.sum(singular**2))


@pytest.mark.parametrize(("energy", "coils"), [(0.5, 1), (0.9, 2), (0.999, 3), (1.0, 4)])
def test_fraction_of_the_energy(energy, coils):
    powers = torch.tensor([8.0, 1.5, 0.499, 0.001, 0.0], dtype=torch.float64)
    basis = torch.linalg.qr(random_complex(1, 5, 5)).Q
    samples = basis @ torch.diag(powers.sqrt()).to(torch.complex128)
    mixture = compression.find(samples * 1e-7, energy=energy)
    assert mixture.weights.shape[0] == coils
    assert mixture.energy >= energy - 1e-12
    assert compression.find(samples, energy=energy, coils=2).weights.shape[0] == min(2, coils)


def test_frames_of_a_batch():
    layout = CoilLayout((4, 2, 5))
    kspace = random_complex(2, layout.total, 6, 5).to(torch.complex64)
    frames = torch.split(kspace, list(layout.counts))
    mixtures = [compression.find(frame, coils=3) for frame in frames]
    virtual, counts = compression.compress(kspace, mixtures, layout)
    assert counts.counts == (3, 2, 3)
    assert virtual.dtype == torch.complex64
    for mixture, frame, place in zip(mixtures, frames, counts.segments(), strict=True):
        assert torch.equal(virtual[place], mixture.apply(frame))
    with pytest.raises(ValueError, match="mixtures are for"):
        compression.compress(kspace, mixtures[::-1], layout)


def test_samples_of_zeros_keep_the_first_coils():
    mixture = compression.find(torch.zeros(3, 4, dtype=torch.complex64), coils=2)
    assert torch.equal(mixture.weights, torch.eye(3, dtype=torch.complex128)[:2])


@pytest.mark.parametrize("options", [{}, {"coils": 0}, {"energy": 0.0}, {"energy": 1.1}])
def test_mixtures_that_make_no_sense(options):
    with pytest.raises(ValueError, match=r"virtual coils|fraction"):
        compression.find(torch.ones(2, 2, dtype=torch.complex64), **options)


@settings(deadline=None, max_examples=20)
@given(coils=st.integers(1, 8), seed=st.integers(0, 2**32 - 1))
def test_noise_is_white_after_whitening(coils, seed):
    mixing = random_complex(seed, coils, coils) + 2 * coils * torch.eye(coils)
    noise = mixing @ random_complex(seed + 1, coils, 4000)
    white = whitening.whiten(noise[:, :, None], [whitening.factor(noise)], CoilLayout((coils,)))[..., 0]
    covariance = white @ white.mH / noise.shape[1]
    torch.testing.assert_close(covariance, 2 * torch.eye(coils, dtype=torch.complex128), atol=1e-9, rtol=0)


def test_whitening_of_a_batch_agrees_with_numpy():
    layout = CoilLayout((3, 1))
    kspace = random_complex(3, 4, 5, 6)
    factors = [whitening.factor(random_complex(seed, count, 50)) for seed, count in ((4, 3), (5, 1))]
    white = whitening.whiten(kspace.to(torch.complex64), factors, layout)
    assert white.dtype == torch.complex64
    for lower, place in zip(factors, layout.segments(), strict=True):
        expected = np.linalg.solve(lower.numpy(), kspace[place].flatten(1).numpy()).reshape(-1, 5, 6)
        np.testing.assert_allclose(white[place].numpy(), expected, atol=1e-5)
    with pytest.raises(ValueError, match="factors are for"):
        whitening.whiten(kspace, factors[::-1], layout)


def test_noise_that_cannot_whiten():
    noise = random_complex(6, 3, 40)
    with pytest.raises(ValueError, match="do not determine"):
        whitening.factor(noise[:, :3])
    for broken in (torch.cat([noise, noise[:1]]), torch.cat([noise, torch.zeros(1, 40)])):
        with pytest.raises(ValueError, match="singular"):
            whitening.factor(broken)
    assert torch.isfinite(whitening.factor(torch.cat([noise, 1e-9 * random_complex(7, 1, 40)])).abs()).all()
