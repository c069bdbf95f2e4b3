"""What the models of compressed sensing share: minimise ``1/2 ||A x - y||^2 + weight * penalty(x)``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from recond_kernels import proximal_gradient
from recond_models.classical import cg_sense
from recond_models.classical.inverse_problem import InverseProblem
from recond_models.classical.scale import bright_pixels

ROUND = 8
"""Steps after which random shifts repeat and the image is compared with that of the round before."""

_SMALLEST_WEIGHT = 1e-4
_TOLERANCE = 5e-3
_ITERATIONS = 12 * ROUND
_START_TOLERANCE = 2e-4
_START_ITERATIONS = 12

Proximal = Callable[[Tensor, int], Tensor]


def minimise(problem: InverseProblem, regularisation: float, make_proximal: Callable[[Tensor], Proximal]) -> Tensor:
    """Start from a few steps of iterative SENSE and go on with accelerated proximal gradients.

    The penalty alone decides about pixels that A does not see: they are held at zero, or the image would never come to rest there.

    Parameters
    ----------
    problem
        Normalised.
    regularisation
        The weight as a multiple of the standard deviation of the noise at the edge of k-space, so that it holds at every scale and
        noise level. At least 1e-4 of the bright pixels.
    make_proximal
        Gets the weights float64 (batch,); returns the proximal map of the weighted penalty, called with the images and the number
        of the step.

    Returns
    -------
    Tensor
        complex64 (batch, rows, columns), zero outside the support of the sensitivities.
    """
    data = problem.encoding.adjoint(problem.samples)
    gram = problem.encoding.gram
    proximal = make_proximal(torch.maximum(regularisation * problem.noise, _SMALLEST_WEIGHT * bright_pixels(data)))
    support = problem.support.to(data.dtype)
    return proximal_gradient.minimise(
        lambda images: gram(images).sub_(data),
        lambda images, step: proximal(images, step).mul_(support),
        cg_sense.iterate(problem, tolerance=_START_TOLERANCE, max_iterations=_START_ITERATIONS),
        tolerance=_TOLERANCE,
        max_iterations=_ITERATIONS,
        round_length=ROUND,
    ).images
