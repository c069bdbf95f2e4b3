"""U-Nets on an NVIDIA GPU, recorded once for a size and replayed: a hundred launches become one."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recond_models.networks.engines import LARGEST_DIFFERENCE, Engine, PlainEngine, Precision
from recond_models.networks.unet import Unet

_log = logging.getLogger(__name__)

_SHAPES = 4
_WARM_UP = 3
"""Runs before recording: libraries choose their algorithms and take their memory in the first ones."""


@dataclass(frozen=True, slots=True)
class _Recording:
    """A recorded run, and where it reads and writes."""

    graph: torch.cuda.CUDAGraph
    source: Tensor
    result: Tensor


class CudaEngine:
    """A U-Net that runs plainly the first time it sees a shape, and is recorded the second time.

    A recording that differs too much from the plain run, or that fails, is not used; a log line says so.

    Parameters
    ----------
    unet
        The network; its weights must not change afterwards.
    device
        The GPU.
    precision
        Of the convolutions.
    pool
        Memory that the recordings of a model share: they run one after another, and what they return is copied at once.
    """

    def __init__(self, unet: Unet, device: torch.device, precision: Precision, pool: Any) -> None:  # noqa: ANN401
        self._plain = PlainEngine(unet, device, precision)
        self._device = device
        self._limit = LARGEST_DIFFERENCE[precision]
        self._pool = pool
        self._recordings: OrderedDict[tuple[int, ...], _Recording | None] = OrderedDict()
        self._seen: OrderedDict[tuple[int, ...], None] = OrderedDict()

    def __call__(self, channels: Tensor) -> Tensor:
        """Return float32 (batch, out_channels, rows, columns)."""
        shape = tuple(channels.shape)
        if shape in self._recordings:
            self._recordings.move_to_end(shape)
            recording = self._recordings[shape]
            return self._plain(channels) if recording is None else _replay(recording, channels)
        output = self._plain(channels)
        if shape in self._seen:
            del self._seen[shape]
            self._recordings[shape] = self._record(channels, output)
            if len(self._recordings) > _SHAPES:
                self._recordings.popitem(last=False)
        else:
            self._seen[shape] = None
            if len(self._seen) > 4 * _SHAPES:
                self._seen.popitem(last=False)
        return output

    def release(self) -> None:
        """Do nothing: the recordings of a model share their memory already."""

    def _record(self, channels: Tensor, expected: Tensor) -> _Recording | None:
        """Record a run on images of this shape and compare it with the plain one."""
        try:
            source = channels.clone(memory_format=torch.channels_last)
            side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(side):
                for _ in range(_WARM_UP):
                    self._plain(source)
            torch.cuda.current_stream(self._device).wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                result = self._plain(source)
            recording = _Recording(graph, source, result)
            difference = torch.linalg.vector_norm(_replay(recording, channels) - expected)
            relative = float(difference / torch.linalg.vector_norm(expected))
        except RuntimeError:
            _log.exception(
                "cannot record a network for %s; images of this shape take the plain path", tuple(channels.shape)
            )
            return None
        if relative <= self._limit:
            return recording
        _log.warning("recording for %s refused: it differs by %.2g from the plain run", tuple(channels.shape), relative)
        return None


def _replay(recording: _Recording, channels: Tensor) -> Tensor:
    recording.source.copy_(channels)
    recording.graph.replay()
    return recording.result.clone()


def engines(unets: Sequence[Unet], device: torch.device, precision: Precision) -> list[Engine]:
    """Return engines for the networks of a model.

    Parameters
    ----------
    unets
        The networks; their weights must not change afterwards.
    device
        The GPU.
    precision
        Of the convolutions; float32 where the GPU has no bfloat16, and a log line says so.
    """
    possible = precision
    if precision == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        _log.warning("%s has no bfloat16: the model runs in float32", torch.cuda.get_device_name(device))
        possible = "float32"
    pool = torch.cuda.graph_pool_handle()
    return [CudaEngine(unet, device, possible, pool) for unet in unets]
