"""A model server within the process of a test: the real models, in a thread, and a gate that holds batches back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from recond_models import loading
from recond_models.batch import PackedBatch, Reconstructor
from recond_models.model import ModelInfo
from recond_service.backends import ALL_WORK, Batch, BatchOutcome, ComputedFrame, Measurement
from recond_service.execution import device_of, run_batch
from recond_service.processes import SharedBlock
from recond_service.types import RecondError


class LocalServer:
    """Computes one batch at a time. While `gate` is clear it computes nothing."""

    name = "local"
    concurrency = 1
    memory_bytes = 0
    work = ALL_WORK

    def __init__(self) -> None:
        self.up = True
        self.gate = asyncio.Event()
        self.gate.set()
        self.batches: list[Batch] = []
        self.failure: RecondError | None = None
        self._models: dict[str, Reconstructor] = {}
        self._busy = asyncio.Lock()
        self._device = device_of("cpu")

    @property
    def servers(self) -> Sequence[LocalServer]:
        return (self,)

    def measurements(self) -> Sequence[Measurement]:
        return ()

    def has(self, model: ModelInfo) -> bool:
        return True

    async def run(self, batch: Batch) -> BatchOutcome:
        async with self._busy:
            self.batches.append(batch)
            await self.gate.wait()
            if self.failure is not None:
                raise self.failure
            if len(batch.withdrawn) == len(batch.frames):
                return BatchOutcome((None,) * len(batch.frames))
            return await asyncio.to_thread(self._compute, batch)

    def _compute(self, batch: Batch) -> BatchOutcome:
        model = self._models.get(batch.model.name)
        if model is None:
            model = self._models[batch.model.name] = loading.load(batch.model.name)
        arrays = [frame.layout.arrays(frame.block) for frame in batch.frames]
        layouts = [frame.layout for frame in batch.frames]
        packed = PackedBatch.pack(
            [kspace for kspace, _, _ in arrays],
            [mask for _, mask, _ in arrays],
            [calibration for _, _, calibration in arrays],
            [layout.crop for layout in layouts],
        )
        result = run_batch(model, packed, layouts, self._device, kind=None)
        frames = [
            ComputedFrame(
                SharedBlock.holding("test-image", np.ascontiguousarray(frame.image).data.cast("B")),
                frame.residual,
                frame.notes,
            )
            for frame in result.frames
            if frame is not None
        ]
        return BatchOutcome(tuple(frames), result.seconds)
