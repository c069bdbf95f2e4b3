"""What the sandbox of a scan does, from its first byte to its last output file."""

from __future__ import annotations

import os
import resource
import select
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recond_models.confinement import limit_resources
from recond_models.sampling import Sampling
from recond_service.conditioning import AcquisitionConditioner, condition
from recond_service.ingest import decode_acquisitions, read_header, read_scan
from recond_service.ingest.images import read_images
from recond_service.processes import BlockingChannel, FrameLayout, Received, SharedBlock
from recond_service.results import ResultSummary, ResultWriter
from recond_service.scan.follow_up import FollowUp
from recond_service.scan.heads import Heads, ReadyHead
from recond_service.scan.messages import (
    Acquisitions,
    AcquisitionsConsumed,
    Credit,
    EndOfStream,
    FileWritten,
    Finish,
    FramePrepared,
    FramesComplete,
    HeadFinished,
    Image,
    ImageAssembled,
    MoreParts,
    OpenScan,
    ScanSummary,
    SlicesAnswered,
    SlicesFailed,
    SlicesPrepared,
    StreamHeader,
    ToScan,
    VisitsCompared,
)
from recond_service.scan.stopwatch import Stopwatch
from recond_service.types import (
    Figures,
    FindingList,
    FinishedImage,
    Frame,
    ImagePlace,
    InvalidInputError,
    KspaceScan,
    LimitExceededError,
    OutputFormat,
    PartRole,
    ScanRequest,
)

_LARGEST_KEPT_KIB = 400 << 10  # a process that had a large scan gives its memory back by ending
_NOTHING = np.empty((0, 0, 0), np.complex64)


def serve_scan(channel: BlockingChannel[ToScan], base_bytes: int) -> bool:
    """Serve one scan that comes on a channel; see `Scan`. Returns whether this process is fit for another."""
    return Scan(channel, base_bytes).run()


class Scan:
    """State of one request.

    Parameters
    ----------
    channel
        To the front end.
    base_bytes
        Address space of the loaded parsers, on top of which the request gets its own.
    """

    def __init__(self, channel: BlockingChannel[ToScan], base_bytes: int) -> None:
        self._channel = channel
        self._base_bytes = base_bytes
        self._findings = FindingList()
        self._stopwatch = Stopwatch()
        self._request = ScanRequest()
        self._results = ResultWriter(self._request, self._findings)
        self._conditioner: AcquisitionConditioner | None = None
        self._sources: deque[tuple[Iterator[Frame], Callable[[], None]]] = deque()
        self._credit = 0
        self._input_ended = False
        self._frames_done = False
        self._frames_made = 0
        self._expected_frames = 0  # how many there will be, 0 where only the last readout tells
        # Frames whose image is still to come, without their k-space.
        self._waiting: dict[int, tuple[Frame, FrameLayout]] = {}
        self._part_fds: list[int] = []
        self._finished = self._again = False
        self._heads = Heads((), self._findings)
        self._follow_up: FollowUp | None = None
        self._summary: ResultSummary | None = None  # once all images are there; heads may still be at work

    def run(self) -> bool:
        """Handle messages, making frames whenever there is leave to send one and nothing else to do.

        Returns
        -------
        Whether this process is fit for another request.
        """
        while not self._finished:
            if self._credit > 0 and (self._sources or self._heads.pending) and not self._message_waits():
                if self._heads.pending:
                    self._send_slices()
                else:
                    self._make_frame()
                continue
            received = self._channel.receive()
            self._handle(received)
            received.close_fds()
        return self._again

    def _handle(self, received: Received[ToScan]) -> None:
        match received.message:
            case MoreParts():
                self._part_fds += received.fds
                received.fds = []
            case OpenScan():
                self._open(received.message, received)
            case StreamHeader():
                self._read_header(received.message, received)
            case Acquisitions():
                self._take_acquisitions(received.message, received)
            case EndOfStream():
                self._end_stream()
            case Credit(frames):
                self._credit += frames
            case Image(number):
                self._take_image(number, received)
            case SlicesAnswered(task):
                self._take_answer(task, received)
            case SlicesFailed(task, problem, refusal):
                self._credit += 1
                self._heads.failed(task, problem, refusal)
                self._after_heads()
            case Finish():
                self._finish(received.message)

    def _message_waits(self) -> bool:
        return bool(select.select([self._channel], [], [], 0)[0])

    # --- input ---

    def _open(self, scan_request: OpenScan, received: Received[ToScan]) -> None:
        os.nice(max(scan_request.nice - os.nice(0), 0))
        limit_resources(
            self._base_bytes + scan_request.memory_bytes,
            scan_request.cpu_seconds,
            scan_request.file_bytes,
            self._base_bytes + scan_request.most_memory_bytes,
        )
        self._part_fds += received.fds
        received.fds = []
        parts = tuple(
            replace(part, path=f"/proc/self/fd/{fd}")
            for part, fd in zip(scan_request.request.parts, self._part_fds, strict=True)
        )
        self._request = replace(scan_request.request, parts=parts)
        self._results = ResultWriter(self._request, self._findings)
        self._heads = Heads(self._request.heads, self._findings, attention=self._request.attention)
        if self._request.visits:
            self._read_visits()
        elif any(part.role is PartRole.IMAGES for part in self._request.parts):
            self._read_images()
        elif self._request.parts:
            with self._stopwatch.stage("ingest"):
                scan = read_scan(self._request, self._findings)
            self._expected_frames = len(scan.indices) if isinstance(scan, KspaceScan) else 0
            scan = self._stopwatch.timing_reads(scan)
            self._sources.append((condition(scan, self._request, self._findings), self._release_parts))
            self._input_ended = True

    def _read_images(self) -> None:
        """Have heads look at images that were reconstructed elsewhere."""
        request = self._request
        with self._stopwatch.stage("ingest"):
            volume = read_images(request.parts, request.spacing, request.limits, self._findings)
        self._results.add_images(volume)
        for image in volume.images:
            self._heads.image_ready(image)
        self._summary = self._results.finish_images()
        self._heads.series_ready(self._results.series)
        self._after_heads()

    def _read_visits(self) -> None:
        """Have heads look at the images of visits that are to be compared."""
        with self._stopwatch.stage("ingest"):
            follow_up = self._follow_up = FollowUp(self._request, self._findings)
        self._summary = ResultSummary(Figures(), "", (), (0, 0, 0), follow_up.stacks)
        for series, without in follow_up.series():
            self._heads.series_ready(series, without)
        self._after_heads()

    def _release_parts(self) -> None:
        """Give the uploaded bytes back as soon as all frames are made; the reference is wanted at the end."""
        for part, fd in zip(self._request.parts, self._part_fds, strict=True):
            if part.role is not PartRole.REFERENCE:
                os.close(fd)
        self._part_fds = [
            fd for part, fd in zip(self._request.parts, self._part_fds, strict=True) if part.role is PartRole.REFERENCE
        ]

    def _read_header(self, message: StreamHeader, received: Received[ToScan]) -> None:
        with self._stopwatch.stage("ingest"), received.take_block(message.size) as block:
            header = read_header(block.read(0, block.size), self._request.limits, self._findings)
        self._conditioner = AcquisitionConditioner(header, self._request, self._findings)

    def _take_acquisitions(self, message: Acquisitions, received: Received[ToScan]) -> None:
        if self._conditioner is None:
            raise InvalidInputError(
                "acquisitions came before the MRD header; send mrd_header first",
                reason="WRONG_ORDER",
                field="acquisitions",
            )
        sizes = (message.headers, message.trajectories, message.samples)
        with self._stopwatch.stage("ingest"), received.take_block(sum(sizes)) as block:
            headers, trajectories, samples = (block.read(sum(sizes[:place]), size) for place, size in enumerate(sizes))
            acquisitions = decode_acquisitions(
                message.count, headers, trajectories, samples, self._conditioner.header, self._request.limits
            )
        frames = self._conditioner.push(acquisitions)
        self._sources.append((frames, lambda: self._channel.send(AcquisitionsConsumed())))

    def _end_stream(self) -> None:
        if self._conditioner is None:
            raise InvalidInputError(
                "the stream ended before the MRD header", reason="INPUT_INCOMPLETE", field="mrd_header"
            )
        self._sources.append((self._conditioner.finish(), lambda: None))
        self._input_ended = True

    # --- frames ---

    def _make_frame(self) -> None:
        frames, when_done = self._sources[0]
        with self._stopwatch.stage("conditioning"):
            frame = next(frames, None)
        if frame is not None:
            self._send_frame(frame)
            return
        self._sources.popleft()
        when_done()
        if self._input_ended and not self._sources:
            if self._frames_made == 0:
                raise InvalidInputError("the scan holds no image data", reason="NO_IMAGE_DATA")
            self._channel.send(FramesComplete(self._frames_made))

    def _send_frame(self, frame: Frame) -> None:
        number = self._frames_made
        if number >= self._request.limits.max_images:
            raise LimitExceededError(
                f"the scan has more than {self._request.limits.max_images} images; send it in parts",
                reason="TOO_MANY_IMAGES",
            )
        layout = FrameLayout.of(
            frame, complex_image=self._request.complex_images, uncertainty=self._request.uncertainty
        )
        _require_size(layout, self._request)
        calibration = (layout.calibration_rows, layout.calibration_columns)
        sampling = Sampling.of(frame.mask, calibration, layout.coils, whitened=frame.whitened)
        place = self._results.announce(number, frame)
        with layout.store(frame) as block:
            self._channel.send(FramePrepared(number, layout, sampling, self._expected_frames, place), [block.fd])
        self._frames_made += 1
        self._credit -= 1
        self._waiting[number] = (replace(frame, kspace=_NOTHING, calibration=None, memory=None), layout)

    # --- results ---

    def _take_image(self, number: int, received: Received[ToScan]) -> None:
        frame, layout = self._waiting.pop(number)
        with self._stopwatch.stage("encode"), received.take_block(layout.image_bytes) as block:
            content = memoryview(block.read(0, block.size))
            shown, rest = content[: layout.pixel_bytes], content[layout.pixel_bytes :]
            pixels: NDArray[np.float32] | NDArray[np.complex64] = (
                np.frombuffer(shown, np.complex64) if layout.complex_image else np.frombuffer(shown, np.float32)
            )
            uncertainty = np.frombuffer(rest, np.float32).reshape(layout.image_shape) if layout.uncertainty else None
            finished = self._results.add(number, frame, pixels.reshape(layout.image_shape), uncertainty)
            for image in finished:
                if frame.crossing is not None:
                    self._send_assembled(image)
                self._heads.image_ready(image)
        self._credit += 1

    def _send_assembled(self, image: FinishedImage) -> None:
        pixels = image.pixels if image.complex_pixels is None else image.complex_pixels
        rows, columns = pixels.shape
        place = ImagePlace(image.number, image.index, image.geometry, image.stack)
        arrays = [pixels] if image.uncertainty is None else [pixels, image.uncertainty]
        pieces = [np.ascontiguousarray(array).data.cast("B") for array in arrays]
        with SharedBlock.holding("recond-image", *pieces) as block:
            message = ImageAssembled(
                place, rows, columns, image.complex_pixels is not None, image.uncertainty is not None
            )
            self._channel.send(message, [block.fd])

    # --- heads ---

    def _send_slices(self) -> None:
        task, block = self._heads.next_block()
        info = block.run.request.info
        with SharedBlock.holding("recond-slices", block.pixels().data.cast("B")) as shared:
            self._channel.send(SlicesPrepared(task, info.name, info.version, block.layout), [shared.fd])
        self._credit -= 1

    def _take_answer(self, task: int, received: Received[ToScan]) -> None:
        layout = self._heads.layout_of(task)
        with self._stopwatch.stage("encode"), received.take_block(layout.image_bytes) as block:
            if layout.answer == "pixels":
                answer = layout.pixel_answer(block)
                self._heads.answered(task, answer.sums, answer.labels, answer.confidence)
            elif layout.has_attention:
                self._heads.answered(task, layout.slice_answer(block), layout.attention_answer(block))
            else:
                self._heads.answered(task, layout.slice_answer(block))
        self._credit += 1
        self._after_heads()

    def _after_heads(self) -> None:
        """Hand out what has become ready, and end if nothing else is to come."""
        for ready in self._heads.ready():
            if self._follow_up is None:
                self._results.add_head(ready.result, ready.maps)
            else:
                self._follow_up.take(ready)
            if ready.wanted:
                self._send_head(ready)
        if self._summary is not None and self._heads.finished:
            self._end(self._summary)

    def _send_head(self, ready: ReadyHead) -> None:
        if not ready.maps:
            self._channel.send(HeadFinished(ready.result))
            return
        pieces = [np.ascontiguousarray(array).data.cast("B") for array in ready.maps]
        with SharedBlock.holding("recond-labels", *pieces) as block:
            self._channel.send(HeadFinished(ready.result), [block.fd])

    # --- end ---

    def _finish(self, message: Finish) -> None:
        with self._stopwatch.stage("encode"):
            self._summary = self._results.finish(message.residuals, message.model, message.version)
            if self._request.heads:
                self._heads.series_ready(self._results.series)
        self._after_heads()

    def _end(self, summary: ResultSummary) -> None:
        """Write the files and say that all is done."""
        with self._stopwatch.stage("encode"):
            if self._follow_up is not None:
                self._compare(self._follow_up)
            for output in self._request.outputs:
                self._write(output)
        while self._part_fds:
            os.close(self._part_fds.pop())
        self._again = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < _LARGEST_KEPT_KIB
        self._channel.send(
            ScanSummary(
                self._again,
                summary.figures,
                summary.reference_source,
                summary.order,
                summary.shape,
                summary.stacks,
                tuple(self._findings),
                self._stopwatch.seconds,
            )
        )
        self._finished = True

    def _compare(self, follow_up: FollowUp) -> None:
        report, table, pictures = follow_up.compare()
        for part, content in pictures.items():
            with SharedBlock.holding("recond-picture", content) as block:
                self._channel.send(FileWritten(OutputFormat.PNG, block.size, "", part), [block.fd])
        pieces = (report.encode(), table.encode())
        with SharedBlock.holding("recond-report", *pieces) as block:
            self._channel.send(VisitsCompared(*map(len, pieces)), [block.fd])

    def _write(self, output: OutputFormat) -> None:
        for which in self._results.files(output):
            fd = os.memfd_create("recond-output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            with os.fdopen(fd, "w+b") as file:
                self._results.write(output, file, which)
                file.flush()
                self._channel.send(FileWritten(output, os.fstat(fd).st_size, which.stack, which.part), [fd])


def _require_size(layout: FrameLayout, request: ScanRequest) -> None:
    """Refuse a frame or an image that is larger than a request may have."""
    limit = request.limits.max_frame_bytes
    if layout.kspace_bytes > limit:
        raise LimitExceededError(
            f"a frame of {layout.coils} x {layout.rows} x {layout.columns} samples has {layout.kspace_bytes} bytes; the limit is "
            f"{limit}",
            reason="FRAME_TOO_LARGE",
        )
    if layout.image_bytes > limit:
        rows, columns = layout.image_shape
        raise LimitExceededError(
            f"an image of {rows} x {columns} pixels has {layout.image_bytes} bytes; the limit is {limit}",
            reason="IMAGE_TOO_LARGE",
        )
