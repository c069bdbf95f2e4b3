"""Batched conjugate gradients against dense solves, and the independence of frames."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recond_kernels import conjugate_gradients
from recond_kernels.layout import CoilLayout
from recond_kernels.operators.sense import SenseEncoding


def random_complex(generator, *shape):
    return torch.from_numpy(generator.standard_normal(shape) + 1j * generator.standard_normal(shape))


def sense_system(seed, counts, dtype=torch.complex128, rows=6, columns=5):
    generator = np.random.default_rng(seed)
    layout = CoilLayout(tuple(counts))
    maps = random_complex(generator, layout.total, rows, columns).to(dtype)
    masks = torch.from_numpy(generator.random((layout.batch, rows, columns)) < 0.6)
    encoding = SenseEncoding(maps, masks, layout)
    return encoding, encoding.adjoint(random_complex(generator, layout.total, rows, columns).to(dtype))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), counts=st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_agrees_with_a_dense_solve(seed, counts):
    encoding, right_hand_side = sense_system(seed, counts)

    def operator(images):
        return encoding.gram(images) + 0.1 * images

    solution = conjugate_gradients.solve(operator, right_hand_side, tolerance=1e-12, max_iterations=300)
    for frame in range(len(counts)):
        units = torch.eye(30, dtype=torch.complex128).reshape(30, 6, 5)
        matrix = torch.zeros(30, 30, dtype=torch.complex128)
        for column, unit in enumerate(units):
            batch = torch.zeros_like(right_hand_side)
            batch[frame] = unit
            matrix[:, column] = operator(batch)[frame].reshape(-1)
        expected = torch.linalg.solve(matrix, right_hand_side[frame].reshape(-1)).reshape(6, 5)
        torch.testing.assert_close(solution.images[frame], expected, atol=1e-8, rtol=1e-8)
    assert (solution.relative_residuals <= 1e-12).all()


def test_a_frame_does_not_depend_on_its_batch():
    easy = torch.ones(6, 6, dtype=torch.complex64)
    generator = np.random.default_rng(1)
    weights = torch.from_numpy(generator.uniform(0.01, 1, (6, 6))).to(torch.float32)
    hard = random_complex(generator, 6, 6).to(torch.complex64)
    spectra = torch.stack([torch.ones(6, 6), weights])

    together = conjugate_gradients.solve(lambda x: spectra * x, torch.stack([easy, hard]), max_iterations=40)
    alone = conjugate_gradients.solve(lambda x: spectra[:1] * x, easy[None], max_iterations=40)
    hard_alone = conjugate_gradients.solve(lambda x: spectra[1:] * x, hard[None], max_iterations=40)
    assert torch.equal(together.images[0], alone.images[0])
    assert torch.equal(together.images[1], hard_alone.images[0])
    assert together.iterations[0] == 1
    assert together.iterations[1] > 5


def test_zero_right_hand_side_gives_zero():
    solution = conjugate_gradients.solve(lambda x: x, torch.zeros(2, 3, 3, dtype=torch.complex64))
    assert torch.equal(solution.images, torch.zeros(2, 3, 3, dtype=torch.complex64))
    assert solution.iterations.tolist() == [0, 0]
    assert solution.relative_residuals.tolist() == [0, 0]


def test_singular_operator_stops_without_nan():
    right_hand_side = torch.ones(1, 2, 2)
    solution = conjugate_gradients.solve(torch.zeros_like, right_hand_side)
    assert torch.isfinite(solution.images).all()
    assert solution.relative_residuals.item() == 1


@pytest.mark.parametrize("arguments", [{"tolerance": -1.0}, {"max_iterations": 0}])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match="need tolerance"):
        conjugate_gradients.solve(lambda x: x, torch.ones(1, 2, 2), **arguments)


def test_replayed_steps_are_a_hermitian_operator_that_gives_the_solution():
    generator = torch.Generator().manual_seed(4)
    factor = torch.randn(20, 20, dtype=torch.complex64, generator=generator)
    matrix = factor @ factor.mH / 20 + 0.1 * torch.eye(20)

    def operator(images):
        return (images.reshape(2, 20) @ matrix.T).reshape(images.shape)

    first, second = (torch.randn(2, 4, 5, dtype=torch.complex64, generator=generator) for _ in range(2))
    solution = conjugate_gradients.solve(operator, first, tolerance=0, max_iterations=3)
    torch.testing.assert_close(solution.residuals, first - operator(solution.images), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(conjugate_gradients.replay(operator, first, solution), solution.images)
    left = (conjugate_gradients.replay(operator, second, solution).conj() * first).sum()
    right = (second.conj() * solution.images).sum()
    torch.testing.assert_close(left, right, atol=1e-4, rtol=1e-4)
