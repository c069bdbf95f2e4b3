"""Accelerated proximal gradients for several independent problems at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recond_kernels import interruption


@dataclass(frozen=True, slots=True)
class Minimum:
    """Result of `minimise`.

    Parameters
    ----------
    images
        Complex (batch, rows, columns).
    iterations
        int64 (batch,): how many steps each frame took.
    """

    images: Tensor
    iterations: Tensor


def minimise(
    gradient: Callable[[Tensor], Tensor],
    proximal: Callable[[Tensor, int], Tensor],
    start: Tensor,
    *,
    tolerance: float,
    max_iterations: int,
    round_length: int = 1,
) -> Minimum:
    """Minimise the sum of a smooth function, whose gradient has Lipschitz constant 1 at most, and one with a proximal map.

    FISTA (Beck and Teboulle 2009, doi:10.1137/080716542), restarted where the momentum points uphill (O'Donoghue and Candes 2015,
    doi:10.1007/s10208-013-9150-3). Every frame has its own momentum and stops by itself when a round of steps changes it by less
    than `tolerance`; from then on its image stays. So an image does not depend on which others are computed beside it.

    Parameters
    ----------
    gradient
        Gradient of the smooth function for the whole batch; must not mix frames.
    proximal
        Proximal map with step 1; gets the number of the step. Must not mix frames.
    start
        Complex (batch, rows, columns).
    tolerance
        Stop at ``||change|| <= tolerance * ||image||``, the change being that of a whole round.
    max_iterations
        Most steps of a frame.
    round_length
        Steps of a round. For proximal maps that differ from step to step and come back after as many.

    Returns
    -------
    Minimum
        The images.

    Raises
    ------
    ValueError
        `tolerance` is negative, or `max_iterations` or `round_length` is less than 1.
    """
    if tolerance < 0 or min(max_iterations, round_length) < 1:
        raise ValueError(
            f"need tolerance >= 0, max_iterations >= 1 and round_length >= 1, got {tolerance}, {max_iterations}, {round_length}"
        )
    images, ahead, before = start, start, start
    active = torch.ones(start.shape[0], dtype=torch.bool, device=start.device)
    momentum = torch.ones(start.shape[0], dtype=torch.float64, device=start.device)
    iterations = torch.zeros(start.shape[0], dtype=torch.int64, device=start.device)
    for step in range(max_iterations):
        interruption.checkpoint()
        latest = proximal(ahead - gradient(ahead), step)
        change = latest - images
        restart = _dot(ahead - latest, change) > 0
        momentum = torch.where(restart, 1.0, momentum)
        following = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
        pace = torch.where(restart, 0.0, (momentum - 1) / following).to(start.real.dtype)[:, None, None]
        iterations += active
        # A frame that has finished keeps its image to the last bit.
        running = active[:, None, None]
        images = torch.where(running, latest, images)
        ahead = torch.where(running, latest + pace * change, ahead)
        momentum = following
        if (step + 1) % round_length == 0:
            moved = images - before
            active = active & (_dot(moved, moved) > tolerance**2 * _dot(images, images))
            before = images
            if not bool(active.any()):
                break
    return Minimum(images, iterations)


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Return float64 (batch,): real part of the inner product of each frame, accumulated in double precision."""
    products = torch.view_as_real(left) * torch.view_as_real(right)
    return products.sum(dim=(-3, -2, -1), dtype=torch.float64)
