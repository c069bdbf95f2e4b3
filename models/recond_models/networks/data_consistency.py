"""The step of an unrolled network that makes an image fit the samples, with its derivative.

Given what a network proposes, z, it solves ``argmin_x ||A x - y||^2 + weight ||x - z||^2``, that is ``(A^H A + weight) x = A^H y +
weight z``, by conjugate gradients (Aggarwal, Mani and Jacob 2019, MoDL, doi:10.1109/TMI.2018.2865356).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recond_kernels import conjugate_gradients

Operator = Callable[[Tensor], Tensor]


def fit(
    images: Tensor,
    data: Tensor,
    weights: Tensor,
    normal: Operator,
    iterations: int,
    profile: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
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
    profile
        float32 (batch, rows, columns), positive: factors of the weights for every frequency, the lowest in the corner; None for
        the same at all. A proposal that is right in what is coarse and wrong in what is fine counts accordingly.

    Returns
    -------
    images
        complex64 (batch, rows, columns). They have gradients with respect to `images`, `weights` and `profile`: the steps of the
        iteration are made a second time for them, so hardly anything of it is kept in memory.
    misfits
        complex64 (batch, rows, columns): ``A^H A x - A^H y`` of these images, without gradients.
    """
    if torch.is_grad_enabled() and (images.requires_grad or weights.requires_grad):
        fitted, misfits = _Fit.apply(images, weights, profile, data, normal, iterations)  # type: ignore[no-untyped-call]
        return fitted, misfits
    penalty = _Penalty(weights, profile)
    solution = _solve(data - normal(images), penalty, normal, iterations)
    return images + solution.images, _misfits(solution, penalty)


def first_fit(data: Tensor, weights: Tensor, normal: Operator, iterations: int) -> tuple[Tensor, Tensor]:
    """Return what `fit` makes of images of zeros, without gradients."""
    penalty = _Penalty(weights, None)
    solution = _solve(data, penalty, normal, iterations)
    return solution.images, _misfits(solution, penalty)


class _Fit(torch.autograd.Function):
    """`fit` for autograd."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch gives its own
        images: Tensor,
        weights: Tensor,
        profile: Tensor | None,
        data: Tensor,
        normal: Operator,
        iterations: int,
    ) -> tuple[Tensor, Tensor]:
        penalty = _Penalty(weights, profile)
        solution = _solve(data - normal(images), penalty, normal, iterations)
        ctx.save_for_backward(weights, profile)
        misfits = _misfits(solution, penalty)
        ctx.mark_non_differentiable(misfits)
        ctx.normal, ctx.solution = normal, solution
        return images + solution.images, misfits

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        *gradients: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor | None, None, None, None]:
        gradient = gradients[0]  # that of the images
        weights, profile = ctx.saved_tensors
        # x = z + P (A^H y - N z), P the polynomial of M = N + W that the iteration has built, near the inverse of M, and
        # Hermitian as N is: dx/dz = 1 - P N, and nearly dx = -P dW (x - z).
        operator = _damped(ctx.normal, _Penalty(weights, profile))
        adjoint = conjugate_gradients.replay(operator, gradient.contiguous(), ctx.solution)
        for_images = gradient - ctx.normal(adjoint)
        with torch.enable_grad():
            leaves = [one.detach().requires_grad_() for one in (weights, profile) if one is not None]
            change = _Penalty(*leaves, *(() if profile is not None else (None,)))(ctx.solution.images)
            for_leaves = torch.autograd.grad(-torch.view_as_real(adjoint.conj() * change)[..., 0].sum(), leaves)
        return for_images, for_leaves[0], None if profile is None else for_leaves[1], None, None, None


@dataclass(frozen=True, slots=True)
class _Penalty:
    """W: ``weight``, or ``weight^(1/2) F^H profile F weight^(1/2)``.

    Parameters
    ----------
    weights, profile
        As for `fit`.
    """

    weights: Tensor
    profile: Tensor | None

    def __call__(self, images: Tensor) -> Tensor:
        """Apply it to complex64 (batch, rows, columns)."""
        factors = self.weights[:, None, None] if self.weights.dim() == 1 else self.weights
        if self.profile is None:
            return factors * images
        roots = factors.sqrt()
        weighted: Tensor = roots * torch.fft.ifft2(self.profile * torch.fft.fft2(roots * images))
        return weighted


def _misfits(solution: conjugate_gradients.Solution, penalty: _Penalty) -> Tensor:
    """Return ``A^H A x - A^H y``, which the iteration knows without another use of A.

    The residual of ``(N + W) d = A^H y - N z`` is ``A^H y - N (z + d) - W d``, and x is ``z + d``.
    """
    return -(solution.residuals + penalty(solution.images)).detach()


def _solve(
    right_hand_side: Tensor, penalty: _Penalty, normal: Operator, iterations: int
) -> conjugate_gradients.Solution:
    """Solve ``(N + W) d = b`` with so many steps of conjugate gradients."""
    with torch.no_grad():
        return conjugate_gradients.solve(
            _damped(normal, penalty), right_hand_side, tolerance=0, max_iterations=iterations
        )


def _damped(normal: Operator, penalty: _Penalty) -> Operator:
    """Return ``N + W``."""
    return lambda images: normal(images).add_(penalty(images))
