"""How far the image of an unrolled network may be from the truth, pixel by pixel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_PLANES = 5
_SMALLEST, _LARGEST = 1e-5, 1.0
_FLOOR = 1e-3
_FREEDOM = 5


class DeviationHead(nn.Module):
    """Predicts the standard deviation of the error of a magnitude image from what the last round knows.

    Trained on the logarithmic likelihood of errors on simulated heads while the rest of the network stays as it is (Nix and Weigend
    1994, doi:10.1109/ICNN.1994.374138): it tells of noise and of what the network tends to get wrong. Errors follow Student's
    distribution in it: with a normal one the few frames that fail outright rule the training, and it does not converge.

    Parameters
    ----------
    features
        Of the last round.
    width
        Features of its own.
    condition_width
        Length of the condition.
    """

    def __init__(self, features: int, width: int, condition_width: int) -> None:
        super().__init__()
        self.entry = nn.Conv2d(features + _PLANES, width, 3, padding=1)
        self.middle = nn.Conv2d(width, width, 3, padding=2, dilation=2)
        self.modulation = nn.Linear(condition_width, 2 * width)
        self.exit = nn.Conv2d(width, 1, 3, padding=1)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        nn.init.zeros_(self.exit.weight)
        nn.init.constant_(self.exit.bias, -4.0)  # type: ignore[arg-type]

    def forward(
        self, features: Tensor, condition: Tensor, image: Tensor, proposal: Tensor, start: Tensor, misfit: Tensor
    ) -> Tensor:
        """Return the standard deviation in the units of `image`, float32 (batch, rows, columns).

        Parameters
        ----------
        features
            (batch, features, rows or more, columns or more) of the last round.
        condition
            float32 (batch, condition width) of the last round.
        image, proposal, start, misfit
            complex64 (batch, rows, columns): the image, what it was fitted from, the first image, ``A^H A x - A^H y``.
        """
        rows, columns = image.shape[1:]
        planes = [image.abs(), (image - proposal).abs(), (image - start).abs(), misfit.abs()]
        logarithms = torch.stack([torch.log(plane.clamp_min(_SMALLEST)) / 4 + 1 for plane in planes], dim=1)
        known = torch.cat([features[:, :, :rows, :columns].float(), planes[0][:, None], logarithms], dim=1)
        inner = functional.silu(self.entry(known))
        scale, shift = self.modulation(condition).to(inner.dtype)[:, :, None, None].chunk(2, dim=1)
        inner = inner + functional.silu(self.middle(inner) * (scale + 1) + shift)
        logarithm = self.exit(inner).float()[:, 0]
        return torch.exp(logarithm).clamp(_SMALLEST, _LARGEST)


def unlikelihood(deviations: Tensor, errors: Tensor, weights: Tensor) -> Tensor:
    """Return the mean negative logarithmic likelihood of errors by Student's distribution, without its constant.

    Parameters
    ----------
    deviations
        Positive, (batch, rows, columns).
    errors
        Same shape.
    weights
        Same shape: how much a pixel counts.
    """
    variances = deviations.square() + _FLOOR**2
    # Of five degrees of freedom the variance is 5 / 3 of the squared scale.
    values = torch.log(variances) / 2 + (_FREEDOM + 1) / 2 * torch.log1p(errors.square() / (variances * (_FREEDOM - 2)))
    return (values * weights).sum() / weights.sum().clamp_min(1e-6)
