"""The U-Net of the unrolled networks: residual blocks whose features a condition scales and shifts."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConditionedUNet(nn.Module):
    """A U-Net of residual blocks without normalisation, whose features a condition scales and shifts.

    Residual blocks, strided convolutions down and transposed ones up, skips that are added: Zhang et al. 2022 (DRUNet,
    doi:10.1109/TPAMI.2021.3088914).

    Parameters
    ----------
    inputs, outputs
        Channels in and out.
    channels
        Features at each level, finest first.
    bottleneck_blocks
        Residual blocks at the coarsest level.
    condition_width
        Length of the condition.
    context
        Features of one more level, coarser than the last; 0 for none.
    aside
        Planes that are given beside the others.
    trust
        Return one more plane, at first 0.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        channels: tuple[int, ...],
        bottleneck_blocks: int,
        condition_width: int,
        *,
        context: int = 0,
        aside: int = 0,
        trust: bool = False,
    ) -> None:
        super().__init__()
        self.entry = nn.Conv2d(inputs, channels[0], 3, padding=1)
        self.recall = nn.Conv2d(channels[0], channels[0], 1)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in _pairs(channels))
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in _pairs(channels))
        # The finest level costs most: there the entry stands for a block on the way down.
        self.encoder = nn.ModuleList(ResidualBlock(width, condition_width) for width in channels[1:-1])
        self.bottleneck = nn.ModuleList(ResidualBlock(channels[-1], condition_width) for _ in range(bottleneck_blocks))
        self.decoder = nn.ModuleList(ResidualBlock(width, condition_width) for width in channels[:-1])
        self.exit = nn.Conv2d(channels[0], outputs, 3, padding=1)
        # What is added to the network begins by doing nothing: weights without it are a start for weights with it.
        self.context = Context(channels[-1], context, condition_width) if context else None
        self.aside = nn.Conv2d(aside, channels[0], 3, padding=1, bias=False) if aside else None
        self.trust = nn.Conv2d(channels[0], 1, 3, padding=1) if trust else None
        for added in (self.aside, self.trust):
            if added is not None:
                nn.init.zeros_(added.weight)
        if self.trust is not None and self.trust.bias is not None:
            nn.init.zeros_(self.trust.bias)
        self._step = 2 ** (len(channels) - 1 + (context > 0))
        nn.init.zeros_(self.recall.weight)
        nn.init.zeros_(self.recall.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.exit.weight.mul_(0.1)

    def forward(
        self, planes: Tensor, condition: Tensor, memory: Tensor | None, aside: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute a correction.

        Parameters
        ----------
        planes
            float32 (batch, inputs, rows, columns), any size.
        condition
            float32 (batch, condition width).
        memory
            Features from the round before, None in the first.
        aside
            float32 (batch, aside, rows, columns) if the network was made for it.

        Returns
        -------
        correction
            float32 (batch, outputs, rows, columns), one more with trust.
        memory
            Features for the next round, (batch, first channels, padded rows, padded columns).
        """
        rows, columns = planes.shape[2:]
        padding = (0, -columns % self._step, 0, -rows % self._step)
        features = self.entry(functional.pad(planes, padding).contiguous(memory_format=torch.channels_last))
        if self.aside is not None and aside is not None:
            features = features + self.aside(functional.pad(aside, padding))
        if memory is not None:
            features = features + self.recall(memory)
        features = functional.relu(features)
        skips = []
        for level, down in enumerate(self.down):
            if level:
                features = self.encoder[level - 1](features, condition)
            skips.append(features)
            features = down(features)
        for block in self.bottleneck:
            features = block(features, condition)
        if self.context is not None:
            features = features + self.context(features, condition)
        for level in reversed(range(len(self.down))):
            features = self.decoder[level](self.up[level](features) + skips[level], condition)
        correction = self.exit(features).float()
        if self.trust is not None:
            correction = torch.cat([correction, self.trust(features).float()], dim=1)
        return correction[:, :, :rows, :columns], features


class Context(nn.Module):
    """One more level below the coarsest, whose features are added to those; at first nothing.

    Parameters
    ----------
    outer, inner
        Features of the coarsest level and of this one.
    condition_width
        Length of the condition.
    """

    def __init__(self, outer: int, inner: int, condition_width: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(outer, inner, 2, stride=2)
        self.blocks = nn.ModuleList(ResidualBlock(inner, condition_width) for _ in range(2))
        self.up = nn.ConvTranspose2d(inner, outer, 2, stride=2)
        nn.init.zeros_(self.up.weight)
        if self.up.bias is not None:
            nn.init.zeros_(self.up.bias)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Return what is added to features of the same shape."""
        inner = self.down(features)
        for block in self.blocks:
            inner = block(inner, condition)
        added: Tensor = self.up(inner)
        return added


class ResidualBlock(nn.Module):
    """``x + conv(relu(scale * conv(norm(x)) + shift))``, scale and shift from the condition.

    Each pixel's features are normalised by themselves (Ba et al. 2016, arXiv:1607.06450), so that nothing depends on the size of
    the image.

    Parameters
    ----------
    width
        Channels.
    condition_width
        Length of the condition.
    """

    def __init__(self, width: int, condition_width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.modulation = nn.Linear(condition_width, 2 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Return features of the same shape."""
        scale, shift = self.modulation(condition).to(features.dtype)[:, :, None, None].chunk(2, dim=1)
        # Channels lie last in memory: this is a view of it, not a copy.
        pixels = features.permute(0, 2, 3, 1)
        normalised = functional.layer_norm(pixels, pixels.shape[-1:]).permute(0, 3, 1, 2)
        inner = torch.addcmul(shift, self.first(normalised), scale + 1)
        changed: Tensor = features + self.second(functional.relu(inner))
        return changed


def _pairs(channels: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the channels of neighbouring levels."""
    return list(itertools.pairwise(channels))
