"""Heads of a request: named, guarded, and run block by block on the model servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog

from recond_models import registry
from recond_models.model import ModelInfo, UnknownModelError
from recond_service.backends import SlicesInput
from recond_service.pipeline.events import HeadReady, Sink
from recond_service.pipeline.frame_computation import FrameComputation
from recond_service.processes import Received
from recond_service.sandbox import Sandbox
from recond_service.scan.heads import GUARD
from recond_service.scan.messages import FromScan, HeadFinished, SlicesAnswered, SlicesFailed, SlicesPrepared
from recond_service.scheduling import Ticket
from recond_service.telemetry import Metrics
from recond_service.types import HeadRequest, ModelNotFoundError, RecondError

_log = structlog.get_logger(__name__)


def named_heads(names: Sequence[str], field: str) -> tuple[HeadRequest, ...]:
    """Return the heads of those names, and the one that guards them where there is one.

    Parameters
    ----------
    names
        Of heads, or ``NAME@VERSION``.
    field
        Where they were asked for, for the error.

    Raises
    ------
    ModelNotFoundError
        There is none of a name.
    """
    heads: dict[str, HeadRequest] = {}
    for place, name in enumerate(names):
        try:
            info = registry.find_head(name).head_info
        except UnknownModelError as error:
            raise ModelNotFoundError(str(error.args[0]), reason="NO_SUCH_HEAD", field=f"{field}[{place}]") from error
        heads.setdefault(info.name, HeadRequest(info))
    if GUARD not in heads and any(
        head.info.contract.anatomy or head.info.contract.contrasts for head in heads.values()
    ):
        guard = next((info.head_info for info in registry.heads() if info.name == GUARD), None)
        if guard is not None:
            heads[GUARD] = HeadRequest(guard, wanted=False)
    return tuple(heads.values())


class HeadTasks:
    """Takes the blocks of slices of a request to the scheduler, and the results to the client.

    A head that fails costs no image: the sandbox is told, and the images come with a finding.

    Parameters
    ----------
    heads
        The heads of the request.
    frames
        Takes them to the scheduler.
    sandbox
        Where the blocks come from.
    sink
        Gets the results.
    ticket
        What the request holds.
    metrics
        Counts results.
    """

    def __init__(
        self,
        heads: Sequence[HeadRequest],
        frames: FrameComputation,
        sandbox: Sandbox[Any],
        sink: Sink,
        ticket: Ticket,
        metrics: Metrics,
    ) -> None:
        self._heads = {(head.info.name, head.info.version): head for head in heads}
        self._frames = frames
        self._sandbox = sandbox
        self._sink = sink
        self._ticket = ticket
        self._metrics = metrics

    async def run(self, prepared: SlicesPrepared, slices: SlicesInput) -> None:
        """Have a head run on a block, and tell the sandbox what it said, or that it failed.

        Parameters
        ----------
        prepared
            What the sandbox said of the block.
        slices
            The block; the scheduler's from here on.
        """
        held = slices.layout.size + slices.layout.image_bytes
        self._ticket.hold(held)
        try:
            outcome = await self._frames.run_head(self._info(prepared), slices)
        except RecondError as error:
            _log.warning("head-failed", head=prepared.head, reason=error.reason, problem=error.message)
            await self._sandbox.send(SlicesFailed(prepared.task, error.message))
            return
        finally:
            self._ticket.hold(-held)
        self._ticket.worked(outcome.compute_seconds)
        with outcome.frame.image as answer:
            await self._sandbox.send(SlicesAnswered(prepared.task), [answer.fd])

    async def hand_out(self, message: HeadFinished, received: Received[FromScan]) -> None:
        """Give a result to the client.

        Raises
        ------
        ValueError
            The result is that of no head of the request.
        """
        result = message.result
        if (result.head, result.version) not in self._heads:
            raise ValueError(f"a result of {result.head!r}, which was not asked for")
        self._metrics.heads.labels(result.head, "refused" if result.refusal else "done").inc()
        if not result.map_bytes:
            await self._sink(HeadReady(result, None))
            return
        with received.take_block(result.map_bytes) as maps:
            await self._sink(HeadReady(result, maps))

    def _info(self, prepared: SlicesPrepared) -> ModelInfo:
        """Return the head as the scheduler knows it.

        Raises
        ------
        ModelNotFoundError
            It was removed while the request ran.
        """
        try:
            return registry.find_head(prepared.head, prepared.version)
        except UnknownModelError as error:
            raise ModelNotFoundError(str(error.args[0]), reason="NO_SUCH_HEAD", field="spec.heads") from error
