"""Conjugate gradients for several independent systems at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recond_kernels import interruption


@dataclass(frozen=True, slots=True)
class Solution:
    """Result of `solve`.

    Parameters
    ----------
    images
        (batch, rows, columns), dtype of the right-hand side.
    residuals
        (batch, rows, columns): ``b - M x`` as the recursion knows it.
    steps, momenta
        float64 (updates, batch): lengths of the steps, and how much of each direction went into the next. They are what `replay`
        needs.
    iterations
        int64 (batch,): how many updates each system took.
    relative_residuals
        float64 (batch,): ``||M x - b|| / ||b||`` as the recursion knows it; 0 where b is zero.
    """

    images: Tensor
    residuals: Tensor
    steps: Tensor
    momenta: Tensor
    iterations: Tensor
    relative_residuals: Tensor


def solve(
    operator: Callable[[Tensor], Tensor],
    right_hand_side: Tensor,
    *,
    tolerance: float = 1e-5,
    max_iterations: int = 50,
) -> Solution:
    """Solve ``M x = b`` for every frame of a batch, M Hermitian and positive definite (Hestenes and Stiefel 1952).

    Every system has its own step lengths and stops by itself when its residual is below `tolerance`; from then on its image does
    not change. So an image does not depend on which others are solved beside it.

    Parameters
    ----------
    operator
        M for the whole batch; it must not mix frames.
    right_hand_side
        Complex or real (batch, rows, columns); b.
    tolerance
        Stop at ``||M x - b|| <= tolerance * ||b||``. With 0 all updates are made, and a GPU is never waited for.
    max_iterations
        Most updates of a system.

    Returns
    -------
    Solution
        The solutions, starting from zero.

    Raises
    ------
    ValueError
        `tolerance` is negative or `max_iterations` is less than 1.
    """
    if tolerance < 0 or max_iterations < 1:
        raise ValueError(f"need tolerance >= 0 and max_iterations >= 1, got {tolerance} and {max_iterations}")
    images = torch.zeros_like(right_hand_side)
    residual = right_hand_side.clone()
    direction = residual.clone()
    energy = _dot(residual, residual)
    goal = tolerance**2 * energy
    start = energy.clone()
    iterations = torch.zeros(energy.shape, dtype=torch.int64, device=energy.device)
    steps, momenta = [], []
    for _ in range(max_iterations):
        interruption.checkpoint()
        active = energy > goal
        if tolerance > 0 and not bool(active.any()):
            break
        product = operator(direction)
        curvature = _dot(direction, product)
        active = active & (curvature > 0)
        # A finished frame takes steps of length 0: its image stays as it is, to the last bit.
        step = torch.where(active, energy / torch.where(active, curvature, 1), 0)
        images = images + _scale(step, direction)
        residual = residual - _scale(step, product)
        new_energy = torch.where(active, _dot(residual, residual), energy)
        momentum = torch.where(active, new_energy / torch.where(energy > 0, energy, 1), 0)
        direction = residual + _scale(momentum, direction)
        energy = new_energy
        iterations += active
        steps.append(step)
        momenta.append(momentum)
    relative = torch.where(start > 0, (energy / torch.where(start > 0, start, 1)).sqrt(), 0)
    none = energy.new_zeros((0, energy.shape[0]))
    return Solution(
        images,
        residual,
        torch.stack(steps) if steps else none,
        torch.stack(momenta) if momenta else none,
        iterations,
        relative,
    )


def replay(operator: Callable[[Tensor], Tensor], right_hand_side: Tensor, solution: Solution) -> Tensor:
    """Apply to another right-hand side what an earlier `solve` applied to its own.

    After so many steps, `solve` has multiplied its right-hand side by a polynomial of M. With the coefficients held fixed that is a
    Hermitian operator: the derivative of an iteration that was stopped early, where the inverse of M would be that of another.

    Parameters
    ----------
    operator
        M, as in `solve`.
    right_hand_side
        Complex or real (batch, rows, columns).
    solution
        Of the earlier call.

    Returns
    -------
    Tensor
        (batch, rows, columns).
    """
    images = torch.zeros_like(right_hand_side)
    residual = direction = right_hand_side
    for step, momentum in zip(solution.steps, solution.momenta, strict=True):
        images = images + _scale(step, direction)
        residual = residual - _scale(step, operator(direction))
        direction = residual + _scale(momentum, direction)
    return images


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Return float64 (batch,): real part of the inner product of each frame, accumulated in double precision."""
    if left.is_complex():
        left, right = torch.view_as_real(left), torch.view_as_real(right)
    return (left * right).flatten(1).sum(dim=1, dtype=torch.float64)


def _scale(factors: Tensor, images: Tensor) -> Tensor:
    """Multiply each frame by its own float64 factor without leaving the precision of the images."""
    real = images.real.dtype if images.is_complex() else images.dtype
    return factors.to(real)[:, None, None] * images
