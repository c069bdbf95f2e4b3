"""Total variation: adjointness, the proximal map against its definition, and independence of frames."""

import numpy as np
import torch
from adjointness import assert_adjoint
from hypothesis import given, settings
from hypothesis import strategies as st

from recond_kernels import total_variation as tv

sizes = st.integers(1, 12)


def random_complex(seed, *shape):
    generator = np.random.default_rng(seed)
    return torch.from_numpy(generator.standard_normal(shape) + 1j * generator.standard_normal(shape))


@settings(deadline=None, max_examples=40)
@given(rows=sizes, columns=sizes, seed=st.integers(0, 2**32 - 1))
def test_differences_agree_with_numpy_and_are_adjoint(rows, columns, seed):
    images, fields = random_complex(seed, 2, rows, columns), random_complex(seed + 1, 2, 2, rows, columns)
    slopes = tv.differences(images)
    np.testing.assert_allclose(slopes[:, 0, :-1].numpy(), np.diff(images.numpy(), axis=1))
    np.testing.assert_allclose(slopes[:, 1, :, :-1].numpy(), np.diff(images.numpy(), axis=2))
    assert not slopes[:, 0, -1].any()
    assert not slopes[:, 1, :, -1].any()
    assert_adjoint(tv.differences, tv.adjoint_differences, images, fields)


def objective(images, target, weights):
    return 0.5 * (images - target).abs().square().sum(dim=(1, 2)) + weights * tv.norms(images)


def test_proximal_map_is_the_minimum():
    target = random_complex(0, 2, 9, 7)
    weights = torch.tensor([0.3, 1.0], dtype=torch.float64)
    result = tv.proximal(target, weights, iterations=3000).images
    least = objective(result, target, weights)
    for seed in range(20):
        other = result + 0.01 * random_complex(seed, 2, 9, 7)
        assert (objective(other, target, weights) > least).all()
    # Strong duality: the value of the dual problem is the same.
    dual = tv.proximal(target, weights, iterations=3000).dual
    field = tv.adjoint_differences(torch.complex(dual[:, :, 0], dual[:, :, 1]))
    value = 0.5 * (target.abs().square() - (target - field).abs().square()).sum(dim=(1, 2))
    torch.testing.assert_close(value, least, rtol=1e-5, atol=0)


def test_limits_of_the_weight():
    target = random_complex(1, 2, 8, 8)
    nothing, everything = tv.proximal(target, torch.tensor([0.0, 100.0]), iterations=4000).images
    assert torch.equal(nothing, target[0])
    # An infinite weight leaves the mean.
    torch.testing.assert_close(everything, target[1].mean().expand(8, 8), rtol=0, atol=1e-3)


def test_a_start_from_the_last_dual_goes_on():
    target = random_complex(2, 1, 20, 20)
    weights = torch.tensor([0.8], dtype=torch.float64)
    dual = None
    for _ in range(40):
        result = tv.proximal(target, weights, dual, iterations=3)
        dual = result.dual
    best = objective(tv.proximal(target, weights, iterations=2000).images, target, weights)
    cold = objective(tv.proximal(target, weights, iterations=3).images, target, weights)
    warm = objective(result.images, target, weights)
    assert warm - best < 0.05 * (cold - best)


def test_a_frame_does_not_depend_on_its_batch():
    images = random_complex(3, 3, 11, 14).to(torch.complex64)
    weights = torch.tensor([0.1, 0.5, 0.2])
    together = tv.proximal(images, weights)
    alone = tv.proximal(images[1:2], weights[1:2])
    assert torch.equal(together.images[1], alone.images[0])
    assert torch.equal(together.dual[1], alone.dual[0])
    precise = tv.proximal(images.to(torch.complex128), weights.double()).images
    torch.testing.assert_close(together.images, precise.to(torch.complex64), rtol=0, atol=1e-5)
