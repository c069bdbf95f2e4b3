"""A U-Net on complex images, normalised and padded (Sriram et al. 2020, arXiv:2004.06688)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from recond_models.networks.unet import Unet

MULTIPLE = 16
"""Rows and columns are padded with zeros to a multiple of this, whatever the number of poolings."""


class Normalised(NamedTuple):
    """What goes into the U-Net, and what brings its output back.

    Parameters
    ----------
    channels
        float32 (batch, 2, padded rows, padded columns): real and imaginary part, each of mean 0 and variance 1, padded with zeros.
    mean, deviation
        float32 (batch, 2, 1, 1).
    """

    channels: Tensor
    mean: Tensor
    deviation: Tensor


class NormUnet(nn.Module):
    """U-Net whose input is brought to mean 0 and variance 1, and whose output is brought back.

    Parameters
    ----------
    channels, pools
        As for `recond_models.networks.unet.Unet`.
    """

    def __init__(self, channels: int, pools: int) -> None:
        super().__init__()
        self.unet = Unet(in_channels=2, out_channels=2, channels=channels, pools=pools)

    def forward(self, images: Tensor) -> Tensor:
        """Return complex64 (batch, rows, columns) for complex64 (batch, rows, columns)."""
        normalised = normalise(images)
        return restore(self.unet(normalised.channels), normalised, images.shape[-2], images.shape[-1])


def normalise(images: Tensor) -> Normalised:
    """Bring real and imaginary part of every image to mean 0 and variance 1, and pad.

    A part that is the same everywhere has no deviation: where fastMRI divides 0 by 0, here 0 goes into the network, and what comes
    out of it is multiplied by 0.

    Parameters
    ----------
    images
        complex64 (batch, rows, columns).

    Returns
    -------
    Normalised
        Channels, mean and deviation (unbiased, as in fastMRI).
    """
    parts = torch.view_as_real(images).permute(0, 3, 1, 2).contiguous()
    deviation, mean = torch.std_mean(parts.flatten(2), dim=2, correction=1)
    deviation, mean = deviation[..., None, None], mean[..., None, None]
    channels = (parts - mean) / torch.where(deviation > 0, deviation, 1)
    around = padding(*images.shape[-2:])
    return Normalised(nnf.pad(channels, around) if any(around) else channels, mean, deviation)


def restore(channels: Tensor, normalised: Normalised, rows: int, columns: int) -> Tensor:
    """Undo `normalise` on the output of the U-Net: complex64 (batch, rows, columns)."""
    left, _, top, _ = padding(rows, columns)
    inside = channels[..., top : top + rows, left : left + columns]
    parts = torch.addcmul(normalised.mean, inside, normalised.deviation)
    return torch.complex(parts[:, 0], parts[:, 1])


def padding(rows: int, columns: int) -> tuple[int, int, int, int]:
    """Return how many columns to add left and right and rows above and below: the smaller half first."""
    more_rows, more_columns = -rows % MULTIPLE, -columns % MULTIPLE
    return (more_columns // 2, more_columns - more_columns // 2, more_rows // 2, more_rows - more_rows // 2)
