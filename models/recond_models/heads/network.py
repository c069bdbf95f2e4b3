"""The network of the heads: a U-Net that sees five neighbouring slices and labels the middle one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

SLICES = 5
"""Neighbouring slices that a network sees; the middle one is labelled."""

SLOPE = 0.1
"""Of the leaky rectifier below zero."""


class Convolution(nn.Module):
    """3 x 3 convolution, normalisation, leaky rectifier.

    Parameters
    ----------
    in_channels, out_channels
        Feature maps in and out.
    instance
        Normalise every image by itself, not by what training has counted.
    """

    def __init__(self, in_channels: int, out_channels: int, *, instance: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.normalisation: nn.InstanceNorm2d | nn.BatchNorm2d = (
            nn.InstanceNorm2d(out_channels, affine=True) if instance else nn.BatchNorm2d(out_channels)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return (batch, out_channels, rows, columns) for (batch, in_channels, rows, columns)."""
        normalised: Tensor = self.normalisation(self.convolution(features))
        return nnf.leaky_relu(normalised, SLOPE)


class SliceUNet(nn.Module):
    """Encoder and decoder with skip connections (Ronneberger et al. 2015, arXiv:1505.04597) on a stack of neighbouring slices.

    Made for CPUs: the blocks of 2 x 2 pixels become channels (Shi et al. 2016, arXiv:1609.05158), so that no wide convolution runs
    at full resolution, and one narrow convolution there joins the result with the image itself. From a quarter of the resolution on
    every image is normalised by itself, which adapts the features to its contrast; the levels above have batch normalisation, which
    costs training less.

    Parameters
    ----------
    slices
        Neighbouring slices in.
    classes
        Classes out, background included.
    widths
        Feature maps of the levels, from half resolution on; each level halves it again.
    fine
        Feature maps at full resolution.

    Raises
    ------
    ValueError
        There are fewer than two levels or classes, or an even number of slices.
    """

    def __init__(
        self,
        slices: int = SLICES,
        classes: int = 2,
        widths: tuple[int, ...] = (16, 48, 80, 96, 112),
        fine: int = 16,
    ) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"a U-Net has at least two levels, got widths {widths}")
        if classes < 2:
            raise ValueError(f"there are at least two classes, got {classes}")
        if slices < 1 or slices % 2 == 0:
            raise ValueError(f"the middle one of the slices is labelled, so their number is odd; got {slices}")
        self.slices, self.classes, self.widths, self.fine = slices, classes, tuple(widths), fine
        self.down = nn.ModuleList(
            nn.ModuleList(
                [Convolution(before, after, instance=level > 0), Convolution(after, after, instance=level > 0)]
            )
            for level, (before, after) in enumerate(itertools.pairwise((4 * slices, *widths)))
        )
        self.reduce = nn.ModuleList(nn.Conv2d(deep, width, kernel_size=1) for width, deep in itertools.pairwise(widths))
        self.up = nn.ModuleList(
            Convolution(2 * width, width, instance=level > 0) for level, width in enumerate(widths[:-1])
        )
        self.expand = nn.Conv2d(widths[0], 2 * fine, kernel_size=1)
        self.detail = Convolution(fine // 2 + slices, fine, instance=False)
        self.last = nn.Conv2d(fine, classes, kernel_size=1)

    @property
    def multiple(self) -> int:
        """Rows and columns are padded with zeros to a multiple of this."""
        return 1 << len(self.widths)

    def architecture(self) -> dict[str, object]:
        """Return the arguments that make this network anew, as JSON holds them."""
        return {"slices": self.slices, "classes": self.classes, "widths": list(self.widths), "fine": self.fine}

    def forward(self, images: Tensor) -> Tensor:
        """Apply the network.

        Parameters
        ----------
        images
            float32 (batch, slices, rows, columns), as `preparation` makes them; any size.

        Returns
        -------
        Tensor
            float32 (batch, classes, rows, columns): logits of the middle slice.
        """
        rows, columns = images.shape[-2:]
        images = nnf.pad(images, (0, -columns % self.multiple, 0, -rows % self.multiple))
        features = nnf.pixel_unshuffle(images, 2)
        skips: list[Tensor] = []
        for first, second in self._levels():
            if skips:
                features = nnf.avg_pool2d(features, kernel_size=2)
            features = second(first(features))
            skips.append(features)
        skips.pop()
        for reduce, up in zip(reversed(self.reduce), reversed(self.up), strict=True):
            features = nnf.interpolate(reduce(features), scale_factor=2.0, mode="nearest")
            features = up(torch.cat([features, skips.pop()], dim=1))
        features = nnf.pixel_shuffle(self.expand(features), 2)
        logits: Tensor = self.last(self.detail(torch.cat([features, images], dim=1)))
        return logits[..., :rows, :columns]

    def _levels(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        for block in self.down:
            assert isinstance(block, nn.ModuleList)  # noqa: S101  (as made above)
            yield block[0], block[1]
