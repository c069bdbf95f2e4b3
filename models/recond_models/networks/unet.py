"""The U-Net of the fastMRI baseline (Zbontar et al. 2018, arXiv:1811.08839), with the key names of its released weights."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

EPSILON = 1e-5
"""Added to the variance of every feature map that is normalised."""

SLOPE = 0.2
"""Of the leaky rectifier below zero."""


class ConvBlock(nn.Module):
    """Twice: 3 x 3 convolution without bias, instance normalisation, leaky rectifier, dropout of whole feature maps.

    Parameters
    ----------
    in_channels, out_channels
        Feature maps in and out.
    dropout
        Probability of dropping a feature map in training.
    """

    def __init__(self, in_channels: int, out_channels: int, dropout: float = 0.0) -> None:
        super().__init__()
        # The weights are `layers.0.weight` and `layers.4.weight` in published files.
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.InstanceNorm2d(out_channels, eps=EPSILON),
            nn.LeakyReLU(SLOPE),
            nn.Dropout2d(dropout),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.InstanceNorm2d(out_channels, eps=EPSILON),
            nn.LeakyReLU(SLOPE),
            nn.Dropout2d(dropout),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return (batch, out_channels, rows, columns) for (batch, in_channels, rows, columns)."""
        return cast("Tensor", self.layers(features))


class Enlarge(nn.Module):
    """Transposed 2 x 2 convolution of stride 2 without bias, instance normalisation, leaky rectifier.

    Parameters
    ----------
    in_channels, out_channels
        Feature maps in and out.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2, bias=False),
            nn.InstanceNorm2d(out_channels, eps=EPSILON),
            nn.LeakyReLU(SLOPE),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return (batch, out_channels, 2 rows, 2 columns) for (batch, in_channels, rows, columns)."""
        return cast("Tensor", self.layers(features))


class Unet(nn.Module):
    """Encoder and decoder with skip connections (Ronneberger et al. 2015, arXiv:1505.04597) as in fastMRI.

    Average pooling halves the size and twice as many feature maps follow, `pools` times; on the way back the enlarged maps are
    joined with those of the same size, enlarged ones first. A 1 x 1 convolution with bias ends it.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the image in and out.
    channels
        Feature maps after the first block.
    pools
        Number of halvings, at least 1.
    dropout
        Probability of dropping a feature map in training.
    """

    def __init__(self, in_channels: int, out_channels: int, channels: int, pools: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.channels = in_channels, out_channels, channels
        widths = [channels << level for level in range(pools + 1)]
        self.down_sample_layers = nn.ModuleList(
            ConvBlock(before, after, dropout)
            for before, after in zip([in_channels, *widths[:-2]], widths[:-1], strict=True)
        )
        self.conv = ConvBlock(widths[-2], widths[-1], dropout)
        self.up_transpose_conv = nn.ModuleList(Enlarge(2 * width, width) for width in reversed(widths[:-1]))
        blocks: list[nn.Module] = [ConvBlock(2 * width, width, dropout) for width in reversed(widths[:-1])]
        blocks[-1] = nn.Sequential(blocks[-1], nn.Conv2d(channels, out_channels, kernel_size=1))
        self.up_conv = nn.ModuleList(blocks)

    def forward(self, images: Tensor) -> Tensor:
        """Apply the network.

        Parameters
        ----------
        images
            Real (batch, in_channels, rows, columns); rows and columns at least ``2 << pools``, or the deepest maps are single
            pixels that cannot be normalised.

        Returns
        -------
        Tensor
            Real (batch, out_channels, rows, columns).
        """
        features: Tensor = images
        skips: list[Tensor] = []
        for block in self.down_sample_layers:
            features = block(features)
            skips.append(features)
            features = nnf.avg_pool2d(features, kernel_size=2)
        features = self.conv(features)
        for enlarge, block in zip(self.up_transpose_conv, self.up_conv, strict=True):
            skip = skips.pop()
            features = enlarge(features)
            # Pooling dropped the last row or column of an odd size.
            missing = (0, skip.shape[-1] - features.shape[-1], 0, skip.shape[-2] - features.shape[-2])
            if any(missing):
                features = nnf.pad(features, missing, mode="reflect")
            features = block(torch.cat([features, skip], dim=1))
        return features
