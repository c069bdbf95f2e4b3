"""The iterative models on encodings other than Cartesian SENSE: coils only, a mask made of parts, points of a trajectory."""

import math

import numpy as np
import pytest
import torch
from adjointness import assert_linear_operator

from recond_kernels.layout import CoilLayout
from recond_kernels.operators.cartesian import Fourier, Mask
from recond_kernels.operators.linear import LinearOperator
from recond_kernels.operators.sense import SenseEncoding, Sensitivities
from recond_models.classical import cg_sense, sparse
from recond_models.classical.inverse_problem import InverseProblem

ROWS, COLUMNS, COILS = 24, 20, 6
LAYOUT = CoilLayout((COILS,))


class Trajectory(LinearOperator):
    """Coil images, complex (coils, rows, columns), to their spectrum at points of k-space, by an explicit matrix.

    Parameters
    ----------
    points
        Real (points, 2): frequencies along rows and columns, cycles a pixel, -0.5 to 0.5.
    """

    def __init__(self, points):
        rows = torch.arange(ROWS, dtype=torch.float64) - ROWS // 2
        columns = torch.arange(COLUMNS, dtype=torch.float64) - COLUMNS // 2
        turns = points[:, 0, None, None] * rows[:, None] + points[:, 1, None, None] * columns
        matrix = torch.polar(torch.ones_like(turns), -2 * math.pi * turns).flatten(1)
        self.matrix = matrix / torch.linalg.matrix_norm(matrix, ord=2)

    def __call__(self, images):
        return images.flatten(1) @ self.matrix.to(images.dtype).T

    def adjoint(self, samples):
        return (samples @ self.matrix.to(samples.dtype).conj()).unflatten(1, (ROWS, COLUMNS))


def truth():
    y, x = torch.meshgrid(torch.linspace(-1, 1, ROWS), torch.linspace(-1, 1, COLUMNS), indexing="ij")
    disc = ((y / 0.8) ** 2 + (x / 0.7) ** 2 < 1).to(torch.float32)
    return torch.polar(disc * (1 + 0.5 * (x > 0.2)), 1.5 * y)[None]


def maps():
    y, x = np.meshgrid(np.linspace(-1, 1, ROWS), np.linspace(-1, 1, COLUMNS), indexing="ij")
    angles = 2 * np.pi * np.arange(COILS)[:, None, None] / COILS
    values = np.exp(-((y - np.sin(angles)) ** 2) - (x - np.cos(angles)) ** 2 + 1j * angles)
    return torch.from_numpy((values / np.linalg.norm(values, axis=0)).astype(np.complex64))


def mask_of_lines():
    lines = torch.zeros(COLUMNS, dtype=torch.bool)
    lines[::2] = True
    lines[7:13] = True
    return lines.expand(1, ROWS, COLUMNS).clone()


def spiral():
    radius = torch.linspace(0, 1, 500, dtype=torch.float64).sqrt()
    angle = 24 * 2 * math.pi * radius
    return 0.5 * radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)


ENCODINGS = {
    "coils-only": lambda maps: Fourier() @ Sensitivities(maps, LAYOUT),
    "parts": lambda maps: Mask(mask_of_lines(), LAYOUT) @ Fourier() @ Sensitivities(maps, LAYOUT),
    "sense": lambda maps: SenseEncoding(maps, mask_of_lines(), LAYOUT),
    "spiral": lambda maps: Trajectory(spiral()) @ Sensitivities(maps, LAYOUT),
}


def problem_of(name):
    encoding = ENCODINGS[name](maps())
    return InverseProblem(
        encoding,
        encoding(truth()),
        noise=torch.zeros(1, dtype=torch.float64),
        fractions=torch.ones(1),
        support=torch.ones(1, ROWS, COLUMNS, dtype=torch.bool),
    )


def error(images):
    return float(torch.linalg.vector_norm(images - truth()) / torch.linalg.vector_norm(truth()))


@pytest.mark.parametrize(("name", "limit"), [("coils-only", 1e-3), ("parts", 0.02), ("sense", 0.02), ("spiral", 0.1)])
def test_conjugate_gradients_take_any_encoding(name, limit):
    assert error(cg_sense.iterate(problem_of(name), tolerance=1e-5, max_iterations=200)) < limit


@pytest.mark.parametrize("name", ENCODINGS)
def test_sparse_models_take_any_encoding(name):
    images = sparse.minimise(problem_of(name), 0.1, lambda _weights: lambda images, _step: images)
    assert error(images) < 0.15


def test_an_encoding_of_parts_and_the_fast_one_give_the_same_image():
    images = [cg_sense.iterate(problem_of(name), tolerance=1e-6, max_iterations=100) for name in ("parts", "sense")]
    torch.testing.assert_close(*images, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ENCODINGS)
def test_encodings_are_linear_operators(name):
    encoding = ENCODINGS[name](maps().to(torch.complex128))
    generator = torch.Generator().manual_seed(4)
    images = torch.randn(1, ROWS, COLUMNS, dtype=torch.complex128, generator=generator)
    samples = torch.randn(encoding(images).shape, dtype=torch.complex128, generator=generator)
    assert_linear_operator(encoding, images, samples)
