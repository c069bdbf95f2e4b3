"""Total variation: finite differences, their adjoint, and the proximal map."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recond_kernels import interruption

# The norm of the differences is below sqrt(8).
_STEP = 1 / 8


@dataclass(frozen=True, slots=True)
class Denoised:
    """Result of `proximal`.

    Parameters
    ----------
    images
        Complex (batch, rows, columns).
    dual
        Real (batch, 2, 2, rows, columns), axes: direction of the difference, real and imaginary part. A start for the next call
        with similar images; its length is at most the weight.
    """

    images: Tensor
    dual: Tensor


def differences(images: Tensor) -> Tensor:
    """Return what every pixel lacks to its next neighbour.

    Parameters
    ----------
    images
        Complex (batch, rows, columns).

    Returns
    -------
    Tensor
        Complex (batch, 2, rows, columns): along rows and along columns; 0 at the last row, the last column. The image does not
        continue on its other side.
    """
    result = images.new_zeros((images.shape[0], 2, *images.shape[1:]))
    result[:, 0, :-1] = images[:, 1:] - images[:, :-1]
    result[:, 1, :, :-1] = images[:, :, 1:] - images[:, :, :-1]
    return result


def adjoint_differences(fields: Tensor) -> Tensor:
    """Apply the adjoint of `differences`: the negative divergence.

    Parameters
    ----------
    fields
        Complex (batch, 2, rows, columns).

    Returns
    -------
    Tensor
        Complex (batch, rows, columns).
    """
    down, across = fields[:, 0], fields[:, 1]
    result = torch.zeros_like(down)
    result[:, :-1] -= down[:, :-1]
    result[:, 1:] += down[:, :-1]
    result[:, :, :-1] -= across[:, :, :-1]
    result[:, :, 1:] += across[:, :, :-1]
    return result


def norms(images: Tensor) -> Tensor:
    """Return real (batch,): the isotropic total variation of complex images (batch, rows, columns).

    Rudin et al. 1992, doi:10.1016/0167-2789(92)90242-F; the differences of real and imaginary part count together.
    """
    lengths: Tensor = torch.linalg.vector_norm(differences(images), dim=1)
    return lengths.sum(dim=(-2, -1))


def proximal(images: Tensor, weights: Tensor, dual: Tensor | None = None, *, iterations: int = 10) -> Denoised:
    """Approach the image x of smallest ``1/2 ||x - images||^2 + weight * TV(x)``.

    Fast gradient projection on the dual problem (Beck and Teboulle 2009, doi:10.1109/TIP.2009.2028250). A few iterations from the
    dual of a similar image go as far as many from zero.

    Parameters
    ----------
    images
        Complex (batch, rows, columns).
    weights
        Real (batch,), in units of the images, at least 0.
    dual
        From an earlier call; None for zero.
    iterations
        Gradient steps, at least 1.

    Returns
    -------
    Denoised
        The images and the dual for the next call. A frame does not depend on the others.
    """
    target = torch.view_as_real(images).movedim(-1, 1).contiguous()
    limits = weights.to(target.dtype)[:, None, None]
    current = target.new_zeros((target.shape[0], 2, *target.shape[1:])) if dual is None else dual
    ahead, momentum = current, 1.0
    for _ in range(iterations):
        interruption.checkpoint()
        latest = _ascend(ahead, _primal(target, ahead))
        lengths = _lengths(latest)
        latest *= (limits / torch.maximum(lengths, limits).clamp_min_(torch.finfo(limits.dtype).tiny))[:, None, None]
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = torch.lerp(current, latest, 1 + (momentum - 1) / following)
        current, momentum = latest, following
    parts = _primal(target, current)
    return Denoised(torch.complex(parts[:, 0], parts[:, 1]), current)


def _primal(target: Tensor, dual: Tensor) -> Tensor:
    """Return ``target - adjoint_differences(dual)`` for real (batch, 2, rows, columns) and (batch, 2, 2, rows, columns)."""
    down, across = dual[:, 0, :, :-1], dual[:, 1, :, :, :-1]
    result = target.clone()
    result[:, :, :-1] += down
    result[:, :, 1:] -= down
    result[..., :-1] += across
    result[..., 1:] -= across
    return result


def _ascend(dual: Tensor, primal: Tensor) -> Tensor:
    """Return ``dual + differences(primal) / 8``."""
    result = dual.clone()
    result[:, 0, :, :-1].add_(primal[:, :, 1:], alpha=_STEP).sub_(primal[:, :, :-1], alpha=_STEP)
    result[:, 1, :, :, :-1].add_(primal[..., 1:], alpha=_STEP).sub_(primal[..., :-1], alpha=_STEP)
    return result


def _lengths(dual: Tensor) -> Tensor:
    """Return real (batch, rows, columns): the length of real (batch, 2, 2, rows, columns)."""
    squares = dual[:, 0, 0].square()
    for direction, part in ((0, 1), (1, 0), (1, 1)):
        squares.addcmul_(dual[:, direction, part], dual[:, direction, part])
    return squares.sqrt_()
