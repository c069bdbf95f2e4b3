"""One `Reconstruct` call: the client on one side, its scan process on the other, the scheduler between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from recond.v1 import reconstruction_pb2 as pb
from recond_models import registry
from recond_models.sampling import Sampling
from recond_service.api import wire
from recond_service.api.choice import check_suitable, chosen_model, named_model
from recond_service.api.rooms import Rooms, Visit
from recond_service.api.upload import AcquisitionCounter, BusyTime, Elapsed, Inbox, Upload
from recond_service.backends import FrameInput
from recond_service.scanprocess import ScanProcess
from recond_service.scanprocess.codec import (
    figures_from_json,
    finding_from_json,
    geometry_from_json,
    index_from_json,
    request_to_json,
)
from recond_service.scheduling import Demand, FrameJob, Ticket
from recond_service.transport import FrameLayout, Message, SharedBlock
from recond_service.types import (
    DefectError,
    FindingList,
    InvalidInputError,
    ModelNotFoundError,
    OutputFormat,
    PartRole,
    Priority,
)

PIECE_BYTES = 1 << 20  # images and files leave in pieces of this size
_BATCHES_AHEAD = 4  # acquisition batches that the scan process has not taken yet
_NICE = {Priority.STAT: 0, Priority.CLINICAL: 4, Priority.RESEARCH: 10}
"""How far the process that parses and writes a scan steps back for others on a busy machine."""
_SLOWEST_UPLOAD = 64 << 10  # bytes/s
_REPORTED = frozenset(field.name for field in pb.Timings.DESCRIPTOR.fields)
_ARRAY_AXES = 4  # slices, coils, rows, columns
_STREAM_BYTES = 64 << 20  # what a stream of unknown size is taken to hold at a time


class Call:
    """State of one call.

    Parameters
    ----------
    rooms
        The service.
    visit
        Its id, caller and spans.
    inbox
        What the client sends.
    write
        Sends a message to the client; waits while the client does not read.
    """

    def __init__(
        self,
        rooms: Rooms,
        visit: Visit,
        inbox: Inbox,
        write: Callable[[pb.ReconstructResponse], Awaitable[None]],
    ) -> None:
        self._rooms = rooms
        self._request_id = visit.request_id
        self._caller = visit.caller
        self._trace = visit.trace
        self._inbox = inbox
        self._write_unlocked = write
        self._writing = asyncio.Lock()
        self._findings = FindingList()
        self._model: registry.ModelInfo | None = None
        self._reason = ""
        self._residuals: dict[int, float | None] = {}
        self._images_sent = 0
        self._frames_taken = 0  # a 3-D scan has other numbers of frames and of images
        self._frames: int | None = None  # how many there are, once known
        self._consumed = asyncio.Semaphore(_BATCHES_AHEAD)
        self._upload_time = Elapsed()
        self._in_scheduler = BusyTime()
        self._writing_time = Elapsed()  # from the last image on
        self._total_time = Elapsed()
        self.stages: dict[str, float] = {"queue": 0.0, "compute": 0.0}

    @property
    def model(self) -> str:
        """Name of the model that runs; empty while that is not decided."""
        return self._model.name if self._model else ""

    async def run(self) -> None:
        """Serve the call.

        Raises
        ------
        RecondError
            What keeps it from its images.
        """
        message = await self._inbox.next_of("spec", "the first message of a call")
        if message is None:
            raise InvalidInputError("the call ended before its spec", reason="NO_SPEC", field="spec")
        settings = self._rooms.settings
        spec = wire.read_spec(message.spec, settings.limits())
        self._resolve_names(spec)
        with self._rooms.admission.admit(self._demand(spec)) as ticket:
            await self._write(pb.ReconstructResponse(accepted=pb.Accepted(request_id=self._request_id)))
            self.stages["admission"] = self._total_time.seconds
            async with (
                await self._rooms.scan_processes.open(self._served_together(spec)) as scan,
                asyncio.TaskGroup() as group,
            ):
                feed = group.create_task(
                    self._feed_stream(scan, spec) if spec.streamed else self._feed_parts(scan, spec)
                )
                await self._follow(scan, spec, ticket, group)
                feed.cancel()
        self._learn(spec, ticket.demand)

    def _served_together(self, spec: wire.Spec) -> str:
        """Return a name that requests share whose scans may be read by one process after another: those of one connection.

        A file that takes its process over could then do harm to what the same client sends, and to nobody else. How far a process
        steps back cannot be undone, so that the priority belongs to the name.
        """
        return f"{self._caller.connection} {spec.priority.name}"

    def _demand(self, spec: wire.Spec) -> Demand:
        """Return what the spec lets expect. Of arrays the shape is known, of files the size."""
        size = spec.size_bytes or _STREAM_BYTES
        seconds = 0.0
        shape = next((part.shape for part in spec.request.parts if part.role == PartRole.KSPACE), ())
        if self._model is not None and len(shape) == _ARRAY_AXES:
            slices, *frame = shape
            seconds = slices * self._rooms.scheduler.predict_seconds(self._model, [(frame[0], frame[1], frame[2])])
        if not seconds:
            seconds = self._rooms.outlook.seconds(spec.model, spec.size_bytes)
        return Demand(size, seconds, spec.priority, self._caller.name, self._caller.deadline)

    def _learn(self, spec: wire.Spec, demand: Demand) -> None:
        """Take note of what the request cost, for the next of its kind."""
        compute = self.stages["compute"]
        self._rooms.outlook.observe(spec.model, spec.size_bytes, compute)
        self._rooms.outlook.wrote(self._writing_time.seconds)
        # How long the upload took says something about that client's line, and nothing about others.
        overhead = self._total_time.seconds - self._upload_time.seconds - self._in_scheduler.seconds
        self._rooms.admission.ended(demand, max(overhead, 0.0))

    def _resolve_names(self, spec: wire.Spec) -> None:
        if spec.heads:
            raise ModelNotFoundError(
                f"no head {spec.heads[0]!r}: this service has none; leave heads empty",
                reason="NO_SUCH_HEAD",
                field="spec.heads",
            )
        if spec.model:
            self._model = named_model(spec.model, spec.model_version, "spec.model")
            self._reason = f"{self._model.name} was asked for"

    async def _write(self, response: pb.ReconstructResponse) -> None:
        async with self._writing:
            await self._write_unlocked(response)

    # --- input ---

    def _opening(self, spec: wire.Spec) -> dict[str, object]:
        """Return what the scan process has to know at first: the request, and what it may use."""
        settings = self._rooms.settings
        return {
            "request": request_to_json(spec.request),
            "nice": _NICE[spec.priority],
            "memory_bytes": int(settings.scan_memory_bytes) + 2 * (spec.size_bytes or _STREAM_BYTES),
            "most_memory_bytes": int(settings.scan_memory_bytes)
            + 2 * max(spec.request.limits.max_scan_bytes, _STREAM_BYTES),
            "cpu_seconds": settings.scan_cpu_seconds,
            "file_bytes": max(spec.request.limits.max_scan_bytes, 2 * spec.request.limits.max_frame_bytes),
        }

    async def _feed_parts(self, scan: ScanProcess, spec: wire.Spec) -> None:
        with Upload(spec.request.parts) as upload:
            await self._receive(upload, spec.size_bytes)
            self._upload_time.stop()
            self._trace.uploaded()
            await scan.send("open", self._opening(spec), [block.fd for block in upload.blocks])
        await scan.send("credit", {"frames": self._rooms.scheduler.frames_ahead(spec.model)})

    async def _receive(self, upload: Upload, size: int) -> None:
        """Receive an upload that gets on: one that trickles in would keep its place from others for hours."""
        allowed = self._rooms.settings.upload_idle_seconds + size / _SLOWEST_UPLOAD
        try:
            async with asyncio.timeout(allowed):
                await upload.receive(self._inbox)
        except TimeoutError:
            raise InvalidInputError(
                f"the upload of {size} bytes has taken {allowed:.0f} s, less than {_SLOWEST_UPLOAD >> 10} KiB/s; send it over a "
                "faster line, or in smaller requests",
                reason="UPLOAD_TOO_SLOW",
            ) from None

    async def _feed_stream(self, scan: ScanProcess, spec: wire.Spec) -> None:
        await scan.send("open", self._opening(spec))
        await scan.send("credit", {"frames": self._rooms.scheduler.frames_ahead(spec.model)})
        message = await self._inbox.next_of("mrd_header", "the first message after the spec of a stream")
        if message is None:
            raise InvalidInputError(
                "the stream ended before the MRD header", reason="INPUT_INCOMPLETE", field="mrd_header"
            )
        with SharedBlock.holding("recond-header", message.mrd_header.xml) as block:
            await scan.send("header", {"size": block.size}, [block.fd])
        self._inbox.allow_silence(self._rooms.settings.stream_idle_seconds)
        counter = AcquisitionCounter(spec.request.limits)
        while (message := await self._inbox.next_of("acquisitions", "the readouts of the stream")) is not None:
            batch = message.acquisitions
            counter.check(batch)
            await self._consumed.acquire()
            sizes = {
                "headers": len(batch.headers),
                "trajectories": len(batch.trajectories),
                "samples": len(batch.samples),
            }
            with SharedBlock.holding("recond-batch", batch.headers, batch.trajectories, batch.samples) as block:
                await scan.send("acquisitions", {"count": batch.count, **sizes}, [block.fd])
        self._upload_time.stop()
        self._trace.uploaded()
        await scan.send("end")

    # --- what the scan process says ---

    async def _follow(self, scan: ScanProcess, spec: wire.Spec, ticket: Ticket, group: asyncio.TaskGroup) -> None:
        while True:
            message = await scan.receive()
            try:
                match message.op:
                    case "frame":
                        await self._on_frame(message, scan, spec, ticket, group)
                    case "consumed":
                        self._consumed.release()
                    case "frames-done":
                        self._frames = int(message.body["count"])
                        await self._finish_if_complete(scan)
                    case "image":
                        await self._on_image(message, spec)
                    case "taken":
                        self._frames_taken += 1
                        await scan.send("credit", {"frames": 1})
                        await self._finish_if_complete(scan)
                    case "file":
                        await self._on_file(message)
                    case "summary":
                        await self._on_summary(message)
                        scan.done_well = bool(message.body["again"])
                        return
                    case _:
                        raise DefectError(f"the scan process said {message.op!r}", reason="SCAN_PROCESS")
            except (KeyError, TypeError, ValueError) as error:
                raise DefectError(
                    f"the scan process sent a malformed {message.op!r}: {error!r}; report the request id",
                    reason="SCAN_PROCESS",
                ) from error
            finally:
                message.close_fds()

    async def _on_frame(
        self, message: Message, scan: ScanProcess, spec: wire.Spec, ticket: Ticket, group: asyncio.TaskGroup
    ) -> None:
        number = int(message.body["number"])
        layout = FrameLayout.from_json(message.body["layout"])
        sampling = Sampling.from_json(message.body["sampling"])
        model = self._model_for(sampling)
        frame = FrameInput(layout, message.take_block(layout.size))
        job = FrameJob(
            model=model,
            frame=frame,
            client=self._caller.name,
            priority=spec.priority,
            deadline=None
            if self._caller.deadline is None
            else self._caller.deadline - self._rooms.outlook.writing_seconds,
            done=asyncio.get_running_loop().create_future(),
        )
        job.link = self._trace.frame_arrived(number)
        expected = int(message.body["expected"])
        if number == 0 and expected:
            shape = (layout.coils, layout.rows, layout.columns)
            ticket.expect(expected * self._rooms.scheduler.predict_seconds(model, [shape]))
        group.create_task(self._reconstruct(number, job, scan, ticket))
        if number == 0:
            await self._announce(model, expected)

    def _model_for(self, sampling: Sampling) -> registry.ModelInfo:
        """Return the model that was asked for, or choose one by the first frame."""
        if self._model is None:
            self._model, self._reason = chosen_model(sampling, self._findings)
        check_suitable(self._model, sampling, self._findings, "spec.model")
        return self._model

    async def _announce(self, model: registry.ModelInfo, images: int) -> None:
        plan = pb.Plan(model=model.name, version=model.version, reason=self._reason, images=images)
        await self._write(pb.ReconstructResponse(plan=plan))

    async def _reconstruct(self, number: int, job: FrameJob, scan: ScanProcess, ticket: Ticket) -> None:
        layout = job.frame.layout
        ticket.hold(layout.size)
        try:
            with self._in_scheduler:
                self._rooms.scheduler.submit(job)
                outcome = await job.done
        finally:
            ticket.hold(-layout.size)
        self._writing_time = Elapsed()
        predicted = self._rooms.scheduler.predict_seconds(job.model, [(layout.coils, layout.rows, layout.columns)])
        ticket.worked(max(outcome.compute_seconds, predicted))
        self._trace.frame_done(number, outcome.queue_seconds, outcome.compute_seconds, outcome.batch_size)
        self.stages["queue"] += outcome.queue_seconds
        self.stages["compute"] += outcome.compute_seconds
        self._residuals[number] = outcome.residual
        for code, text in outcome.notes:
            self._findings.warn(code, text)
        with outcome.image as image:
            body = {"number": number, "rows": layout.rows, "columns": layout.columns}
            await scan.send("image", body, [image.fd])

    async def _on_image(self, message: Message, spec: wire.Spec) -> None:
        body = message.body
        number, rows, columns = (int(body[name]) for name in ("number", "rows", "columns"))
        self._images_sent += 1
        if spec.omit_images:
            return
        index = wire.index_message(number, index_from_json(body["index"]), int(body["stack"]))
        geometry = geometry_from_json(body["geometry"])
        row_bytes = columns * 4
        step = max(PIECE_BYTES // row_bytes, 1)
        with message.take_block(rows * row_bytes) as block:
            for first in range(0, rows, step):
                image = pb.Image(
                    index=index,
                    rows=rows,
                    columns=columns,
                    first_row=first,
                    pixels=block.read(first * row_bytes, min(step, rows - first) * row_bytes),
                    geometry=None if geometry is None else wire.geometry_message(geometry),
                )
                await self._write(pb.ReconstructResponse(image=image))

    async def _finish_if_complete(self, scan: ScanProcess) -> None:
        if self._frames is not None and self._frames_taken == self._frames and self._model is not None:
            residuals = [self._residuals[number] for number in range(self._frames)]
            body = {"residuals": residuals, "model": self._model.name, "version": self._model.version}
            self._trace.encoding()
            await scan.send("finish", body)

    async def _on_file(self, message: Message) -> None:
        size, format_ = int(message.body["size"]), OutputFormat(message.body["format"])
        with SharedBlock(message.fds.pop(0), size) as block:
            for offset in range(0, size, PIECE_BYTES):
                piece = pb.FileChunk(
                    format=pb.OutputFormat.Name(format_),
                    offset=offset,
                    size_bytes=size,
                    stack=str(message.body["stack"]),
                    data=block.read(offset, min(PIECE_BYTES, size - offset)),
                )
                await self._write(pb.ReconstructResponse(file_chunk=piece))

    async def _on_summary(self, message: Message) -> None:
        body = message.body
        model = self._model
        if model is None:
            raise DefectError("a summary came before any frame", reason="SCAN_PROCESS")
        figures = figures_from_json(body["figures"])
        for finding in body["findings"]:
            self._findings.add(finding_from_json(finding))
        self.stages |= {name: float(body["seconds"][name]) for name in ("ingest", "conditioning", "encode")}
        self.stages |= {"upload": self._upload_time.seconds, "total": self._total_time.seconds}
        summary = pb.Summary(
            model=model.name,
            version=model.version,
            weights_sha256=model.weights_sha256,
            images=self._images_sent,
            shape=body["shape"],
            figures=wire.figures_message(figures),
            seconds=pb.Timings(**{name: spent for name, spent in self.stages.items() if name in _REPORTED}),
            findings=[wire.finding_message(finding) for finding in self._findings],
            reference=body["reference"],
            order=body["order"],
            stacks=[pb.Stack(**stack) for stack in body["stacks"]],
        )
        self._rooms.metrics.images.labels(model.name).inc(self._images_sent)
        self._rooms.metrics.observe_figures({name: getattr(figures, name) for name in figures.__slots__})
        await self._write(pb.ReconstructResponse(summary=summary))
