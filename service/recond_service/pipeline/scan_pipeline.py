"""One scan from its source to its results: the sandbox that reads it on one side, the scheduler on the other."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import structlog

from recond_models.model import ModelInfo
from recond_service.backends import ComputedFrame, FrameInput
from recond_service.pipeline.canary import TriedComputation, canary_for
from recond_service.pipeline.context import Elapsed, RequestContext
from recond_service.pipeline.events import Admitted, FileReady, Finished, ImageReady, Planned, Sink
from recond_service.pipeline.eviction import end_when_evicted
from recond_service.pipeline.feeding import STREAM_BYTES, Feeding
from recond_service.pipeline.frame_computation import FrameComputation
from recond_service.pipeline.head_tasks import HeadTasks, slices_input
from recond_service.pipeline.model_choice import ModelChoice, named_model
from recond_service.pipeline.request import ReconstructionRequest
from recond_service.pipeline.services import Services
from recond_service.pipeline.sources import PartSource, Source
from recond_service.pipeline.volume_trial import VolumeTrial
from recond_service.processes import FrameLayout, Received, SharedBlock
from recond_service.sandbox import Sandbox
from recond_service.scan.messages import (
    AcquisitionsConsumed,
    Credit,
    FileWritten,
    Finish,
    FramePrepared,
    FramesComplete,
    FromScan,
    HeadFinished,
    Image,
    ImageAssembled,
    ScanSummary,
    SlicesPrepared,
)
from recond_service.scheduling import Demand, Ticket
from recond_service.types import DefectError, FindingList, Geometry, PartRole

_log = structlog.get_logger(__name__)

_ARRAY_AXES = 4  # slices, coils, rows, columns


class ScanPipeline:
    """One reconstruction.

    Parameters
    ----------
    services
        What the service has.
    request
        What is asked for.
    context
        Who asks.
    """

    def __init__(self, services: Services, request: ReconstructionRequest, context: RequestContext) -> None:
        self.services = services
        self.request = request
        self.context = context
        self.findings = FindingList()
        self._total = Elapsed()

    async def run(self, source: Source, sink: Sink) -> None:
        """Reconstruct.

        Parameters
        ----------
        source
            Where the scan comes from; read once the request is let in.
        sink
            Where the events go; see `Sink`.

        Raises
        ------
        RecondError
            What keeps the scan from its images.
        """
        request, services = self.request, self.services
        asked = named_model(request.model, request.model_version, "spec.model") if request.model else None
        choice = ModelChoice(
            asked,
            self.findings,
            "spec.model",
            complex_images=request.complex_images,
            canary=canary_for(asked, request.model, request.model_version, self.context.request_id),
            uncertainty=request.uncertainty,
        )
        with services.admission.admit(self._demand(asked)) as ticket:
            await sink(Admitted())
            self.context.record.stages["admission"] = self._total.seconds
            async with (
                await services.sandboxes.open(self._served_together()) as sandbox,
                asyncio.TaskGroup() as group,
            ):
                feeding = Feeding(sandbox, request, services.settings, self.context.trace, ticket)
                eviction = group.create_task(end_when_evicted(ticket))
                ahead = services.scheduler.frames_ahead(request.model.partition("@")[0])
                feed = group.create_task(feeding.run(source, ahead))
                conversation = _Conversation(self, sandbox, sink, choice, ticket, feeding, group, ahead)
                conversation.streamed = not isinstance(source, PartSource)
                summary = await conversation.follow()
                feed.cancel()
                eviction.cancel()
            await self._finish(choice, summary, conversation, feeding, sink)
            self._learn(ticket.demand, conversation, feeding)

    def _served_together(self) -> str:
        """Return a name that requests share whose scans may be read by one process after another: those of one connection.

        A file that takes its process over could then do harm to what the same client sends, and to nobody else. How far a process
        steps back cannot be undone, so that the priority belongs to the name.
        """
        return f"{self.context.caller.connection} {self.request.priority.name}"

    def _demand(self, asked: ModelInfo | None) -> Demand:
        """Return what the request lets expect. Of arrays the shape is known, of files the size."""
        request = self.request
        size = request.size_bytes or STREAM_BYTES
        seconds = 0.0
        shape = next((part.shape for part in request.scan.parts if part.role == PartRole.KSPACE), ())
        if asked is not None and len(shape) == _ARRAY_AXES:
            slices, *frame = shape
            seconds = slices * self.services.scheduler.predict_seconds(asked, [(frame[0], frame[1], frame[2])])
        if not seconds:
            seconds = self.services.upload_costs.seconds(request.model, request.size_bytes)
        return Demand(size, seconds, request.priority, self.context.caller.name, self.context.caller.deadline)

    async def _finish(
        self,
        choice: ModelChoice,
        summary: ScanSummary,
        conversation: _Conversation,
        feeding: Feeding,
        sink: Sink,
    ) -> None:
        if choice.model is None:
            raise DefectError("a summary came before any frame; report the request id", reason="SCAN_PROCESS")
        for finding in summary.findings:
            self.findings.add(finding)
        stages, metrics, images = self.context.record.stages, self.services.metrics, conversation.images
        stages |= summary.seconds | {"upload": feeding.seconds.seconds, "total": self._total.seconds}
        metrics.images.labels(choice.model.name).inc(images)
        residual = summary.figures.data_consistency_residual
        metrics.model_ended(choice.model.name, choice.model.version, self._total.seconds, residual)
        evidence = conversation.trial.evidence
        if evidence is not None:
            metrics.decisions.labels(evidence.model, "held-out samples" if evidence.slices else "sampling").inc()
            metrics.trial_seconds.inc(evidence.seconds)
        metrics.observe_figures({name: getattr(summary.figures, name) for name in summary.figures.__slots__})
        await sink(
            Finished(
                choice.model,
                images,
                summary.shape,
                summary.order,
                summary.stacks,
                summary.figures,
                summary.reference,
                tuple(self.findings),
                dict(stages),
                conversation.trial.evidence,
            )
        )

    def _learn(self, demand: Demand, conversation: _Conversation, feeding: Feeding) -> None:
        """Take note of what the request cost, for the next of its kind."""
        costs, request = self.services.upload_costs, self.request
        costs.observe(request.model, request.size_bytes, self.context.record.stages.get("compute", 0.0))
        costs.wrote(conversation.since_last_image.seconds)
        # How long the upload took says something about that client's line, and nothing about others.
        overhead = self._total.seconds - feeding.seconds.seconds - conversation.frames.busy.seconds
        self.services.admission.ended(demand, max(overhead, 0.0))


class _Conversation:
    """What the sandbox of a scan says, and what is done about it.

    Parameters
    ----------
    pipeline
        The reconstruction.
    sandbox
        Where the scan is read.
    sink
        Where the events go.
    choice
        The model.
    ticket
        What the request holds.
    feeding
        What is sent to the sandbox.
    group
        Tasks that end with the reconstruction.
    ahead
        How many frames the sandbox may send before images come back.

    Attributes
    ----------
    frames
        Takes frames to the scheduler.
    trial
        Decides on the model where that was left to the service.
    streamed
        The scan comes while it is measured.
    """

    def __init__(
        self,
        pipeline: ScanPipeline,
        sandbox: Sandbox[Any],
        sink: Sink,
        choice: ModelChoice,
        ticket: Ticket,
        feeding: Feeding,
        group: asyncio.TaskGroup,
        ahead: int,
    ) -> None:
        self._pipeline = pipeline
        self._sandbox = sandbox
        self._sink = sink
        self._choice = choice
        self._ticket = ticket
        self._feeding = feeding
        self._group = group
        self._residuals: dict[int, float | None] = {}
        self._expected: int | None = None  # how many frames there are, once that is known
        deadline = pipeline.context.caller.deadline
        self.frames = FrameComputation(
            pipeline.services.scheduler,
            pipeline.context,
            pipeline.findings,
            pipeline.request.priority,
            None if deadline is None else deadline - pipeline.services.upload_costs.writing_seconds,
        )
        self._tried = TriedComputation(self.frames, choice, pipeline.services.metrics)
        self._head_tasks = HeadTasks(
            pipeline.request.heads, self.frames, sandbox, sink, ticket, pipeline.services.metrics
        )
        self._ahead = ahead
        self.streamed = False
        self.trial = VolumeTrial(
            choice, self.frames, pipeline.services.scheduler, pipeline.request.priority, self._seconds_left
        )
        self.since_last_image = Elapsed()
        self.images = 0  # that the client got; of a 3-D scan there are other numbers of frames and of images

    async def follow(self) -> ScanSummary:
        """Do what the sandbox says until it has ended well.

        Raises
        ------
        RecondError
            It has not.
        """
        while True:
            received = await self._sandbox.receive()
            try:
                match received.message:
                    case FramePrepared():
                        await self._take_frame(received.message, received)
                    case AcquisitionsConsumed():
                        self._feeding.consumed()
                    case FramesComplete(count):
                        self._expected = count
                        self.trial.complete()
                        if self.trial.begins():
                            self._group.create_task(self._decide())
                        await self._finish_if_complete()
                    case ImageAssembled():
                        await self._hand_out_assembled(received.message, received)
                    case SlicesPrepared():
                        limit = self._pipeline.request.scan.limits.max_scan_bytes
                        slices = slices_input(received.message, received, limit)
                        self._group.create_task(self._head_tasks.run(received.message, slices))
                    case HeadFinished():
                        await self._head_tasks.hand_out(received.message, received)
                    case FileWritten(format_, size, stack, part):
                        with SharedBlock(received.fds.pop(0), size) as content:
                            await self._sink(FileReady(format_, content, stack, part))
                    case ScanSummary(fit_for_another):
                        self._sandbox.done_well = fit_for_another
                        return received.message
            except (IndexError, ValueError) as error:
                kind = type(received.message).__name__
                raise DefectError(
                    f"the scan process sent a malformed {kind}: {error!r}; report the request id", reason="SCAN_PROCESS"
                ) from error
            finally:
                received.close_fds()

    async def _take_frame(self, prepared: FramePrepared, received: Received[FromScan]) -> None:
        if prepared.place is not None:
            _require_finite(prepared.place.geometry)
        pipeline, choice = self._pipeline, self._choice
        _require_within(prepared.layout, pipeline.request.scan.limits.max_frame_bytes)
        model = choice.suggest(prepared.sampling)
        layout = replace(prepared.layout, guarded=choice.automatic)
        frame = FrameInput(layout, received.take_block(layout.size))
        if prepared.number == 0:
            if prepared.expected:
                self._ticket.expect(prepared.expected * self._predict(model, frame))
            more = self.trial.plan(prepared, streamed=self.streamed, ahead=self._ahead)
            if more:
                await self._sandbox.send(Credit(more))
        if self.trial.holding:
            self._ticket.hold(frame.layout.size)
            self.trial.hold(prepared, frame)
            if self.trial.begins():
                self._group.create_task(self._decide())
            return
        await self._start(prepared, frame)

    async def _decide(self) -> None:
        """Have held-out samples decide on the model, and go on with the frames that waited for it."""
        await self.trial.run()
        evidence = self.trial.evidence
        if evidence is not None:
            _log.info(
                "model-decided",
                request_id=self._pipeline.context.request_id,
                model=evidence.model,
                preferred=evidence.preferred,
                slices=evidence.slices,
                seconds=round(evidence.seconds, 3),
                errors={each.model: round(each.held_out_error, 4) for each in evidence.candidates},
                not_tried=evidence.not_tried,
            )
        for held in self.trial.take():
            self._ticket.hold(-held.frame.layout.size)
            await self._start(held.prepared, held.frame)

    async def _start(self, prepared: FramePrepared, frame: FrameInput) -> None:
        """Have a frame reconstructed; before the first one the client is told by what."""
        model = self._choice.for_frame(prepared.sampling)
        self._pipeline.context.record.model = model.name
        if prepared.number == 0:
            if prepared.expected:
                self._ticket.expect(prepared.expected * self._predict(model, frame))
            await self._sink(Planned(model, self._choice.reason, prepared.expected))
        self._group.create_task(self._reconstruct(prepared, model, frame))

    def _seconds_left(self) -> float:
        deadline = self._pipeline.context.caller.deadline
        return math.inf if deadline is None else deadline - asyncio.get_running_loop().time()

    def _predict(self, model: ModelInfo, frame: FrameInput) -> float:
        layout = frame.layout
        return self._pipeline.services.scheduler.predict_seconds(model, [(layout.coils, layout.rows, layout.columns)])

    async def _reconstruct(self, prepared: FramePrepared, model: ModelInfo, frame: FrameInput) -> None:
        held = frame.layout.size + frame.layout.image_bytes
        self._ticket.hold(held)
        try:
            outcome = await self._tried.compute(prepared.number, model, frame)
            self.since_last_image = Elapsed()
            self._ticket.worked(max(outcome.compute_seconds, self._predict(model, frame)))
            await self._hand_out(prepared, outcome.frame)
        finally:
            self._ticket.hold(-held)
        self._residuals[prepared.number] = outcome.frame.residual
        await self._finish_if_complete()

    async def _hand_out(self, prepared: FramePrepared, computed: ComputedFrame) -> None:
        """Give an image to the client, unless it is a part of others, and to the sandbox, which scores and writes it."""
        layout = prepared.layout
        with computed.image as image:
            if prepared.place is not None:
                self.images += 1
                await self._sink(
                    ImageReady(
                        prepared.place,
                        layout.image_shape,
                        layout.complex_image,
                        layout.uncertainty,
                        image,
                        computed.residual,
                        computed.notes,
                    )
                )
            await self._sandbox.send(Image(prepared.number), [image.fd])

    async def _hand_out_assembled(self, message: ImageAssembled, received: Received[FromScan]) -> None:
        """Give an image to the client that the sandbox has put together."""
        _require_finite(message.place.geometry)
        pixel_bytes = (8 if message.is_complex else 4) + 4 * message.uncertainty
        size = message.rows * message.columns * pixel_bytes
        with received.take_block(size) as image:
            self.images += 1
            await self._sink(
                ImageReady(
                    message.place, (message.rows, message.columns), message.is_complex, message.uncertainty, image
                )
            )

    async def _finish_if_complete(self) -> None:
        model = self._choice.model
        if model is not None and self._expected == len(self._residuals):
            residuals = tuple(self._residuals[number] for number in range(self._expected))
            self._pipeline.context.trace.encoding()
            await self._sandbox.send(Finish(residuals, model.name, model.version))


def _require_within(layout: FrameLayout, limit: int) -> None:
    """Raise ValueError for a frame that the sandbox should have refused."""
    if max(layout.kspace_bytes, layout.image_bytes) > limit:
        raise ValueError(f"{layout} is larger than the limit of {limit} bytes")


def _require_finite(geometry: Geometry | None) -> None:
    """Raise ValueError for a geometry with numbers that are none."""
    if geometry is None:
        return
    vectors = (geometry.position, geometry.row_direction, geometry.column_direction, geometry.slice_direction)
    if not all(math.isfinite(value) for vector in (*vectors, geometry.spacing) for value in vector):
        raise ValueError(f"{geometry} is not finite")
