"""The way of a batch to a GPU while the batch before it is computed: pinned memory, and a stream of its own for the copies."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recond_models.batch import PackedBatch

_BUFFERS = 2  # one batch is copied while the next is filled in


@dataclass(slots=True)
class _Buffer:
    """Pinned memory and the copy that was last begun from it."""

    memory: Tensor
    copied: torch.cuda.Event


class PinnedUpload:
    """Copies the k-space of batches to a GPU. One thread begins the copies, another computes.

    Masks and calibration data are small, and models decide on the host by what they hold: they stay there.

    Parameters
    ----------
    device
        The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._buffers = itertools.cycle([_Buffer(torch.empty(0), _event()) for _ in range(_BUFFERS)])

    def begin(self, batch: PackedBatch) -> Callable[[], PackedBatch]:
        """Begin to copy a batch.

        Returns
        -------
        callable
            To be called by the thread that computes: has its stream wait for the copy, not the thread, and returns the batch.
        """
        buffer = next(self._buffers)
        buffer.copied.synchronize()  # its earlier contents have left
        pinned = self._pinned(buffer, batch.kspace)
        pinned.copy_(batch.kspace)
        with torch.cuda.stream(self._stream):
            kspace = pinned.to(self._device, non_blocking=True)
            buffer.copied.record(self._stream)
            copied = _event()
            copied.record(self._stream)

        def take() -> PackedBatch:
            computing = torch.cuda.current_stream(self._device)
            computing.wait_event(copied)
            kspace.record_stream(computing)  # or its memory could be given to the next copy while it is read
            return dataclasses.replace(batch, kspace=kspace)

        return take

    @staticmethod
    def _pinned(buffer: _Buffer, kspace: Tensor) -> Tensor:
        """Return pinned memory of the shape of the k-space."""
        if buffer.memory.numel() < kspace.numel():
            buffer.memory = torch.empty(kspace.numel(), dtype=kspace.dtype, pin_memory=True)
        return buffer.memory[: kspace.numel()].view(kspace.shape)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event()  # type: ignore[no-untyped-call]
