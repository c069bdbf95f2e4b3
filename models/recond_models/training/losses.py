"""What a network in training is told to improve: structural similarity and squared error, as it will be judged."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from recond_models.metrics import WINDOW

_K1, _K2 = 0.01, 0.03
_SMALLEST = 1e-8
_OBJECT_FROM = 0.1
_BACKGROUND_WEIGHT = 0.05
_MAGNITUDE_WEIGHT = 0.5


def similarity(reference: Tensor, images: Tensor, counted: Tensor | None = None) -> Tensor:
    """Return the structural similarity (Wang et al. 2004, doi:10.1109/TIP.2003.819861), differentiable.

    `recond_models.metrics.ssim` on single slices without the crop, in float32.

    Parameters
    ----------
    reference, images
        float32 (batch, rows, columns).
    counted
        float32 (batch, rows, columns): how much the window around each pixel counts; None for all alike.

    Returns
    -------
    Tensor
        float32 (batch,).
    """
    level = reference.flatten(1).amax(dim=1)[:, None, None]
    samples = WINDOW * WINDOW
    planes = torch.stack([reference, images, reference.square(), images.square(), reference * images], dim=1)
    means = functional.avg_pool2d(planes, WINDOW, stride=1)
    first, second, first_square, second_square, product = means.unbind(dim=1)
    unbiased = samples / (samples - 1)
    first_variance = unbiased * (first_square - first.square())
    second_variance = unbiased * (second_square - second.square())
    covariance = unbiased * (product - first * second)
    small, large = (_K1 * level).square(), (_K2 * level).square()
    numerator = (2 * first * second + small) * (2 * covariance + large)
    denominator = (first.square() + second.square() + small) * (first_variance + second_variance + large)
    values = (numerator / denominator).flatten(1)
    if counted is None:
        return values.mean(dim=1)
    edge = WINDOW // 2
    shares = counted[:, edge:-edge, edge:-edge].flatten(1)
    return (values * shares).sum(dim=1) / shares.sum(dim=1).clamp_min(1)


def object_weights(magnitudes: Tensor) -> Tensor:
    """Return 1 in the object and a little outside, float32 (batch, rows, columns).

    The object is where the mean over 7 x 7 pixels of the true magnitude, whose 99th percentile is 1, is above a tenth.
    """
    means = functional.avg_pool2d(magnitudes[:, None], WINDOW, stride=1, padding=WINDOW // 2)[:, 0]
    return (means > _OBJECT_FROM).to(magnitudes.dtype) * (1 - _BACKGROUND_WEIGHT) + _BACKGROUND_WEIGHT


def loss(
    rounds: list[Tensor],
    proposals: list[Tensor],
    images: Tensor,
    magnitudes: Tensor,
    earlier: float,
    *,
    inside: bool = False,
) -> Tensor:
    """Return the mean loss of a batch: ``1 - SSIM + relative error``, and inside the object half the error of the magnitude.

    The error is a root: its gradient has the same size for clean and for noisy data, whose errors differ by orders of magnitude.

    Parameters
    ----------
    rounds
        complex64 (batch, rows, columns): the image after every round.
    proposals
        The same before they were fitted to the samples.
    images
        complex64 (batch, rows, columns): the truth, combined with the same sensitivities.
    magnitudes
        float32 (batch, rows, columns): root sum of squares of the true coil images.
    earlier
        Weight of the rounds before the last and of the proposals, which count by their error alone. Without it a proposal
        could go anywhere that the fit brings it back from, until it does not.
    inside
        Pixels outside the object count little.

    Returns
    -------
    Tensor
        float32 scalar.
    """
    weights = object_weights(magnitudes) if inside else torch.ones_like(magnitudes)
    energy = (_squares(images) * weights).flatten(1).sum(dim=1).clamp_min(_SMALLEST)

    def relative_error(candidate: Tensor) -> Tensor:
        error = (_squares(candidate - images) * weights).flatten(1).sum(dim=1)
        return (error / energy + _SMALLEST).sqrt()

    last = rounds[-1]
    # The gradient of a magnitude is not defined at 0.
    shown = (_squares(last) + _SMALLEST).sqrt()
    total = 1 - similarity(magnitudes, shown, weights if inside else None) + relative_error(last)
    if inside:
        difference = ((shown - magnitudes).abs() * weights).flatten(1).sum(dim=1)
        total = total + _MAGNITUDE_WEIGHT * difference / (magnitudes * weights).flatten(1).sum(dim=1).clamp_min(
            _SMALLEST
        )
    for candidate in (*rounds[:-1], *proposals):
        total = total + earlier * relative_error(candidate)
    return total.mean()


def _squares(images: Tensor) -> Tensor:
    """Return float32 squared magnitudes."""
    return torch.view_as_real(images).square().sum(dim=-1)
