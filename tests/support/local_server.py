"""A model server within the process of a test: the real models, in a thread, and a gate that holds batches back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import numpy as np

from recond_models import loading
from recond_models.batch import PackedBatch, Reconstructor
from recond_models.finishing import magnitudes
from recond_models.model import ModelInfo
from recond_service.backends import Batch, BatchOutcome, Measurement
from recond_service.transport import SharedBlock
from recond_service.types import RecondError


class LocalServer:
    """Computes one batch at a time. While `gate` is clear it computes nothing."""

    name = "local"
    concurrency = 1
    memory_bytes = 0

    def __init__(self) -> None:
        self.up = True
        self.gate = asyncio.Event()
        self.gate.set()
        self.batches: list[Batch] = []
        self.failure: RecondError | None = None
        self._models: dict[str, Reconstructor] = {}
        self._busy = asyncio.Lock()

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
                nothing = (None,) * len(batch.frames)
                return BatchOutcome(nothing, nothing, 0.0)
            return await asyncio.to_thread(self._compute, batch)

    def _compute(self, batch: Batch) -> BatchOutcome:
        model = self._models.get(batch.model.name)
        if model is None:
            model = self._models[batch.model.name] = loading.load(batch.model.name)
        pairs = [(frame.layout, frame.block) for frame in batch.frames]
        begun = time.perf_counter()
        result = model.reconstruct(
            PackedBatch.pack(
                [layout.kspace(block) for layout, block in pairs],
                [layout.mask(block) for layout, block in pairs],
                [layout.calibration(block) for layout, block in pairs],
                [layout.crop for layout, _ in pairs],
            )
        )
        seconds = time.perf_counter() - begun
        blocks = [
            SharedBlock.holding("test-image", np.ascontiguousarray(image).data.cast("B"))
            for image in magnitudes(result).numpy()
        ]
        residuals = [None] * len(batch.frames) if result.residuals is None else result.residuals.tolist()
        notes = tuple(tuple((note.code, note.message) for note in frame) for frame in result.notes)
        return BatchOutcome(tuple(blocks), tuple(residuals), seconds, notes)
