"""Ways to run a U-Net: as it is, or compiled for one size."""

from __future__ import annotations

import contextlib
from typing import Literal, Protocol, cast

import torch
from torch import Tensor

from recond_models.networks.unet import Unet

Precision = Literal["float32", "bfloat16"]
"""Of the convolutions; everything between the networks is float32."""

LARGEST_DIFFERENCE = {"float32": 1e-4, "bfloat16": 0.1}
"""Largest relative difference (norm over norm) between a compiled or recorded network and the plain one; above, it is refused."""


class Engine(Protocol):
    """A U-Net with its weights, ready to run."""

    def __call__(self, channels: Tensor) -> Tensor:
        """Return float32 (batch, out_channels, rows, columns) for float32 (batch, in_channels, rows, columns)."""
        ...

    def release(self) -> None:
        """Give the memory of the feature maps back until the next image: something else needs it first."""
        ...


class Program(Protocol):
    """A U-Net of certain widths, compiled for images of one size, without weights."""

    def bind(self, unet: Unet, /) -> Engine:
        """Return an engine for a network of these widths."""
        ...

    def export(self) -> bytes:
        """Return the program as bytes that the compiler takes in place of the network."""
        ...


class PlainEngine:
    """The network as torch runs it: on a CPU one image at a time, which stays in its cache, on a GPU all together.

    Parameters
    ----------
    unet
        The network; its weights are moved to `device` and laid out with the channels last.
    device
        Where to compute.
    precision
        Of the convolutions.
    """

    def __init__(self, unet: Unet, device: torch.device, precision: Precision) -> None:
        self.unet = cast("Unet", unet.to(device=device, memory_format=torch.channels_last))  # type: ignore[call-overload]
        self._device = device
        self._precision = precision

    def __call__(self, channels: Tensor) -> Tensor:
        """Return float32 (batch, out_channels, rows, columns)."""
        images = torch.split(channels, 1) if self._device.type == "cpu" else (channels,)
        with self._arithmetic():
            done = [self._run(image) for image in images]
        return done[0] if len(done) == 1 else torch.cat(done)

    def release(self) -> None:
        """Do nothing: torch gives the memory back after every image."""

    def _run(self, image: Tensor) -> Tensor:
        output: Tensor = self.unet(image.contiguous(memory_format=torch.channels_last))
        return output.float()

    def _arithmetic(self) -> contextlib.AbstractContextManager[object]:
        if self._precision == "bfloat16":
            # No cache of converted weights: it would not outlive the recording of a run on a GPU.
            return torch.autocast(self._device.type, torch.bfloat16, cache_enabled=self._device.type == "cpu")
        if self._device.type == "cuda":
            # By default torch lets GPUs convolve float32 with ten bits of mantissa.
            return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        return contextlib.nullcontext()


def parse_precision(precision: str) -> Precision:
    """Return a precision.

    Raises
    ------
    ValueError
        It is neither float32 nor bfloat16.
    """
    if precision not in {"float32", "bfloat16"}:
        raise ValueError(f'the precision of a network is "float32" or "bfloat16", got {precision!r}')
    return cast("Precision", precision)
