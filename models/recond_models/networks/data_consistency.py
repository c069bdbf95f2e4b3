"""The step of an unrolled network that makes an image fit the samples, with its derivative.

Given what a network proposes, z, it solves ``argmin_x ||A x - y||^2 + weight ||x - z||^2``, that is ``(A^H A + weight) x = A^H y +
weight z``, by conjugate gradients (Aggarwal, Mani and Jacob 2019, MoDL, doi:10.1109/TMI.2018.2865356).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recond_kernels import conjugate_gradients

Operator = Callable[[Tensor], Tensor]


def fit(images: Tensor, data: Tensor, weights: Tensor, normal: Operator, iterations: int) -> tuple[Tensor, Tensor]:
    """Fit images to the samples, starting from them.

    With few iterations the parts of the image that the samples say little about stay as proposed: an early stop regularises too.

    Parameters
    ----------
    images
        complex64 (batch, rows, columns): z.
    data
        complex64 (batch, rows, columns): ``A^H y``.
    weights
        float32 (batch,) or (batch, rows, columns), positive: how much the proposal counts.
    normal
        ``A^H A`` for the whole batch; it must not mix frames.
    iterations
        Steps of conjugate gradients.

    Returns
    -------
    images
        complex64 (batch, rows, columns). They have gradients with respect to `images` and `weights`: the steps of the iteration
        are made a second time for them, so hardly anything of it is kept in memory.
    misfits
        complex64 (batch, rows, columns): ``A^H A x - A^H y`` of these images, without gradients.
    """
    if torch.is_grad_enabled() and (images.requires_grad or weights.requires_grad):
        fitted, misfits = _Fit.apply(images, weights, data, normal, iterations)  # type: ignore[no-untyped-call]
        return fitted, misfits
    solution = _solve(data - normal(images), weights, normal, iterations)
    return images + solution.images, _misfits(solution, weights)


def first_fit(data: Tensor, weights: Tensor, normal: Operator, iterations: int) -> tuple[Tensor, Tensor]:
    """Return what `fit` makes of images of zeros, without gradients."""
    solution = _solve(data, weights, normal, iterations)
    return solution.images, _misfits(solution, weights)


class _Fit(torch.autograd.Function):
    """`fit` for autograd."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch gives its own
        images: Tensor,
        weights: Tensor,
        data: Tensor,
        normal: Operator,
        iterations: int,
    ) -> tuple[Tensor, Tensor]:
        solution = _solve(data - normal(images), weights, normal, iterations)
        misfits = _misfits(solution, weights)
        ctx.save_for_backward(weights)
        ctx.mark_non_differentiable(misfits)
        ctx.normal, ctx.solution = normal, solution
        return images + solution.images, misfits

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:  # noqa: ANN401
        gradient = gradients[0]  # that of the images
        (weights,) = ctx.saved_tensors
        # x = z + P (A^H y - N z), P the polynomial of M = N + weight that the iteration has built, near the inverse of M, and
        # Hermitian as N is: dx/dz = 1 - P N, and nearly dx/dweight = -P (x - z).
        adjoint = conjugate_gradients.replay(_damped(ctx.normal, weights), gradient.contiguous(), ctx.solution)
        for_images = gradient - ctx.normal(adjoint)
        for_weights = -torch.view_as_real(adjoint * ctx.solution.images.conj())[..., 0]
        if weights.dim() == 1:
            for_weights = for_weights.flatten(1).sum(dim=1)
        return for_images, for_weights, None, None, None


def _misfits(solution: conjugate_gradients.Solution, weights: Tensor) -> Tensor:
    """Return ``A^H A x - A^H y``, which the iteration knows without another use of A.

    The residual of ``(N + weight) d = A^H y - N z`` is ``A^H y - N (z + d) - weight d``, and x is ``z + d``.
    """
    return -(solution.residuals + _per_pixel(weights) * solution.images)


def _solve(right_hand_side: Tensor, weights: Tensor, normal: Operator, iterations: int) -> conjugate_gradients.Solution:
    """Solve ``(N + weight) d = b`` with so many steps of conjugate gradients."""
    return conjugate_gradients.solve(_damped(normal, weights), right_hand_side, tolerance=0, max_iterations=iterations)


def _damped(normal: Operator, weights: Tensor) -> Operator:
    """Return ``N + weight``."""
    factors = _per_pixel(weights)
    return lambda images: normal(images).add_(factors * images)


def _per_pixel(weights: Tensor) -> Tensor:
    """Return weights that multiply images, without gradients."""
    weights = weights.detach()
    return weights[:, None, None] if weights.dim() == 1 else weights
