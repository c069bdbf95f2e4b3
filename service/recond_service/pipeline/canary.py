"""A share of the requests for a model tries its next version out; where that fails, the promoted one makes the image."""

from __future__ import annotations

import hashlib
import os

from recond_models import registry
from recond_models.model import ModelInfo
from recond_service.backends import FrameInput
from recond_service.pipeline.frame_computation import FrameComputation
from recond_service.pipeline.model_choice import ModelChoice
from recond_service.processes import SharedBlock
from recond_service.scheduling import FrameOutcome
from recond_service.telemetry import Metrics
from recond_service.types import DefectError, ModelNotFoundError, UnsupportedDataError

_FAULTS = (DefectError, ModelNotFoundError, UnsupportedDataError)
"""What a version of a model may do wrong; overload, deadlines and lost servers are not its doing."""


def canary_for(asked: ModelInfo | None, name: str, version: str, request_id: str) -> ModelInfo | None:
    """Return the version that a request tries out, None for most requests.

    Parameters
    ----------
    asked
        The model that was asked for, None if the service chooses.
    name, version
        As the request has them: who names a version gets it.
    request_id
        Decides: the same request always has the same version.
    """
    if asked is None or version or "@" in name:
        return None
    canary = registry.find_canary(asked.name)
    return canary if canary is not None and _fraction(request_id) < canary.canary_share else None


def _fraction(request_id: str) -> float:
    """Return a number from 0 up to 1 that is evenly spread over request ids."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:8], "big") / 2.0**64


class TriedComputation:
    """Computes the frames of a request, with the promoted version where the one that is tried out fails.

    Parameters
    ----------
    frames
        Takes them to the scheduler.
    choice
        The model of the request.
    metrics
        Counts requests on which a version failed.
    """

    def __init__(self, frames: FrameComputation, choice: ModelChoice, metrics: Metrics) -> None:
        self._frames = frames
        self._choice = choice
        self._metrics = metrics
        self._failed: set[str] = set()

    async def compute(self, number: int, model: ModelInfo, frame: FrameInput) -> FrameOutcome:
        """Have a frame computed, as `FrameComputation.compute`.

        Raises
        ------
        RecondError
            What keeps it from its image, also by the promoted version.
        """
        other = self._choice.instead_of(model)
        # The frame is the scheduler's once it is submitted. Another descriptor of it takes no memory.
        spare = None if other is None else SharedBlock(os.dup(frame.block.fd), frame.block.size)
        try:
            return await self._frames.compute(number, model, frame)
        except _FAULTS as error:
            self._count(model)
            if other is None or spare is None:
                raise
            self._choice.fall_back(error.message)
            again, spare = FrameInput(frame.layout, spare), None
            try:
                return await self._frames.compute(number, other, again)
            except _FAULTS:
                self._count(other)
                raise
        finally:
            if spare is not None:
                spare.close()

    def _count(self, model: ModelInfo) -> None:
        """Count a failure, once a request and version."""
        if model.version not in self._failed:
            self._failed.add(model.version)
            self._metrics.model_failed(model.name, model.version)
