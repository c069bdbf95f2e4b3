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


def fit(images: Tensor, data: Tensor, weights: Tensor, normal: Operator, iterations: int) -> Tensor:
    """Fit images to the samples, starting from them.

    With few iterations the parts of the image that the samples say little about stay as proposed: an early stop regularises too.

    Parameters
    ----------
    images
        complex64 (batch, rows, columns): z.
    data
        complex64 (batch, rows, columns): ``A^H y``.
    weights
        float32 (batch,), positive: how much the proposal counts.
    normal
        ``A^H A`` for the whole batch; it must not mix frames.
    iterations
        Steps of conjugate gradients.

    Returns
    -------
    Tensor
        complex64 (batch, rows, columns). It has gradients with respect to `images` and `weights`: the equations are solved a second
        time for them, so nothing of the iteration is kept in memory.
    """
    if torch.is_grad_enabled() and (images.requires_grad or weights.requires_grad):
        fitted: Tensor = _Fit.apply(images, weights, data, normal, iterations)  # type: ignore[no-untyped-call]
        return fitted
    return images + _solve(data - normal(images), weights, normal, iterations)


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
    ) -> Tensor:
        correction = _solve(data - normal(images), weights, normal, iterations)
        ctx.save_for_backward(correction, weights)
        ctx.normal, ctx.iterations = normal, iterations
        return images + correction

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:  # noqa: ANN401
        (gradient,) = gradients
        correction, weights = ctx.saved_tensors
        adjoint = _solve(gradient.contiguous(), weights, ctx.normal, ctx.iterations)
        # x = z + M^-1 (A^H y - N z), M = N + weight: dx/dz = 1 - M^-1 N and dx/dweight = -M^-1 (x - z), both M and N Hermitian.
        for_images = gradient - ctx.normal(adjoint)
        for_weights = -torch.view_as_real(adjoint * correction.conj())[..., 0].flatten(1).sum(dim=1)
        return for_images, for_weights, None, None, None


def _solve(right_hand_side: Tensor, weights: Tensor, normal: Operator, iterations: int) -> Tensor:
    """Return ``(N + weight)^-1 b`` after so many steps of conjugate gradients."""
    factors = weights.detach()[:, None, None]

    def operator(images: Tensor) -> Tensor:
        return normal(images).add_(factors * images)

    return conjugate_gradients.solve(operator, right_hand_side, tolerance=0, max_iterations=iterations).images
