"""Heads of a request: named, guarded, and run block by block on the model servers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
from recond_service.types import (
    DefectError,
    ErrorReport,
    HeadRequest,
    HeadResult,
    InvalidInputError,
    ModelNotFoundError,
    RecondError,
    UnsupportedDataError,
)

_log = structlog.get_logger(__name__)

_OTHER_IMAGES = frozenset({"WRONG_ANATOMY", "WRONG_CONTRAST", "TOO_COARSE"})
"""Refusals of images that are sound, and not what the head was made for."""

_OF_IMAGES = frozenset({"FIELD_TOO_LARGE"})
"""What model servers refuse images for."""


def named_heads(names: Sequence[str], field: str, places: Sequence[int] | None = None) -> tuple[HeadRequest, ...]:
    """Return the heads of those names, and the one that guards them where there is one.

    Parameters
    ----------
    names
        Of heads, or ``NAME@VERSION``.
    field
        Where they were asked for, for errors.
    places
        Their numbers in that field; None if it holds these names alone.

    Raises
    ------
    ModelNotFoundError
        There is none of a name.
    InvalidInputError
        Two versions of one head are named.
    """
    heads: dict[str, HeadRequest] = {}
    for place, name in zip(range(len(names)) if places is None else places, names, strict=True):
        try:
            info = registry.find_head(name).head_info
        except UnknownModelError as error:
            raise ModelNotFoundError(str(error.args[0]), reason="NO_SUCH_HEAD", field=f"{field}[{place}]") from error
        if heads.setdefault(info.name, HeadRequest(info, field=f"{field}[{place}]")).info.version != info.version:
            raise InvalidInputError(
                f"{info.name} is asked for in two versions: ask for one a call",
                reason="HEAD_VERSIONS",
                field=f"{field}[{place}]",
            )
    if GUARD not in heads and any(
        head.info.contract.anatomy or head.info.contract.contrasts for head in heads.values()
    ):
        guard = next((info.head_info for info in registry.heads() if info.name == GUARD), None)
        if guard is not None:
            heads[GUARD] = HeadRequest(guard, wanted=False, field=field)
    return tuple(heads.values())


def named_structures(name: str) -> dict[str, int]:
    """Return the structures that a head labels and their values; none where there is no such head, or it finds lesions."""
    try:
        contract = registry.find_head(name).head_info.contract
    except UnknownModelError:
        return {}
    if contract.task != "segmentation":
        return {}
    return {each.name: value for value, each in enumerate(contract.groups[0].classes) if value}


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
        self._done = False
        self._refusal: HeadResult | None = None
        self._failure: RecondError | None = None  # the first of the model servers

    def require_result(self) -> None:
        """Raise the reason why no head had a result.

        Raises
        ------
        InvalidInputError
            The images cannot be used.
        UnsupportedDataError
            No head that was asked for is made for these images.
        DefectError
            All heads failed.
        RecondError
            What kept them from the model servers, such as a deadline or a head that was removed meanwhile.
        """
        if self._done or self._refusal is None:
            return
        refusal, problem = self._refusal.refusal, f"{self._refusal.head} did not run: {self._refusal.problem}"
        if self._failure is not None and refusal in {"HEAD_FAILED", self._failure.reason}:
            raise self._failure
        field = self._heads[self._refusal.head, self._refusal.version].field
        if refusal == "HEAD_FAILED":
            raise DefectError(problem, reason=refusal, field=field)
        kind = UnsupportedDataError if refusal in _OTHER_IMAGES else InvalidInputError
        raise kind(problem, reason=refusal, field=field)

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
            self._failure = self._failure or self._at_its_place(error, prepared)
            _log.warning("head-failed", head=prepared.head, reason=error.reason, problem=error.message)
            # Of a head that is damaged or gone, or of which there is too little time, the images are not to blame.
            refusal = error.reason if error.reason in _OF_IMAGES else "HEAD_FAILED"
            await self._sandbox.send(
                SlicesFailed(prepared.task, error.message.removeprefix(f"{prepared.head}: "), refusal)
            )
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
        if result.refusal:
            self._refusal = self._refusal or result
        else:
            self._done = True
        if not result.map_bytes:
            await self._sink(HeadReady(result, None))
            return
        with received.take_block(result.map_bytes) as maps:
            await self._sink(HeadReady(result, maps))

    def _at_its_place(self, error: RecondError, prepared: SlicesPrepared) -> RecondError:
        """Return an error that names the head in the request where it names a model."""
        head = self._heads.get((prepared.head, prepared.version))
        if head is None or not error.field.startswith(("spec.model", "spec.heads")):
            return error
        return replace(ErrorReport.of(error), field=head.field).to_error()

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


def slices_input(prepared: SlicesPrepared, received: Received[FromScan], most_bytes: int) -> SlicesInput:
    """Return a block of slices that came along.

    Raises
    ------
    ValueError
        It, or its answer, is larger than a request may have, or none came along.
    """
    if max(prepared.layout.size, prepared.layout.image_bytes) > most_bytes:
        raise ValueError(f"{prepared.layout} is larger than the limit of {most_bytes} bytes")
    return SlicesInput(prepared.layout, received.take_block(prepared.layout.size))
