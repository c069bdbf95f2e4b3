"""What one scan process does, from the first byte of a scan to its last output file.

Messages in: ``open`` (request, with one descriptor per part); for an acquisition stream then ``header``, ``acquisitions`` and
``end``; ``credit`` (leave to send so many more frames), ``image`` (what the model made of a frame), ``finish``.
Messages out: ``frame``, ``consumed`` (an acquisition batch is done with), ``frames-done``, ``image`` (finished), ``taken``
(the image of a frame), ``file``, ``summary``, or ``error``.
"""

from __future__ import annotations

import os
import resource
import select
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace

import numpy as np

from recond_models.sampling import Sampling
from recond_service.conditioning import AcquisitionConditioner, condition
from recond_service.ingest import decode_acquisitions, read_header, read_scan
from recond_service.results import ResultWriter
from recond_service.scanprocess.codec import request_from_json
from recond_service.scanprocess.confine import address_space, forbid_files_and_network, limit_resources
from recond_service.scanprocess.stopwatch import Stopwatch
from recond_service.scanprocess.warm_up import warm_up
from recond_service.transport import BlockingChannel, ChannelClosedError, FrameLayout, Message, SharedBlock
from recond_service.types import (
    FindingList,
    Frame,
    InvalidInputError,
    KspaceScan,
    LimitExceededError,
    OutputFormat,
    PartRole,
    RecondError,
    ScanRequest,
)

_LARGEST_KEPT_KIB = 400 << 10  # a process that had a large scan gives its memory back by ending
_NOTHING = np.empty((0, 0, 0), np.complex64)


def run_scan(channel: BlockingChannel, *, warm: bool = True) -> None:
    """Get ready, then serve requests that come on `channel` one after another, until one fails or nobody sends any more.

    Parameters
    ----------
    channel
        To the front end.
    warm
        There is time to get what every request needs ready before the request comes.
    """
    base = address_space()
    forbid_files_and_network()
    if warm:
        warm_up()
    try:
        again = True
        while again:
            again = Scan(channel, base).run()
    except ChannelClosedError:
        return  # the client is gone, or the front end
    except RecondError as error:
        _report(channel, error)
    except MemoryError:
        message = (
            "reading this scan takes more memory than one request may have; send it in smaller pieces, or have "
            "scan_memory_bytes of the service raised"
        )
        _report(channel, LimitExceededError(message, reason="SCAN_MEMORY"))


def _report(channel: BlockingChannel, error: RecondError) -> None:
    try:
        channel.send("error", error.to_json())
    except ChannelClosedError:
        return


class Scan:
    """State of one request.

    Parameters
    ----------
    channel
        To the front end.
    base_bytes
        Address space of the loaded parsers, on top of which the request gets its own.
    """

    def __init__(self, channel: BlockingChannel, base_bytes: int) -> None:
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
        self._waiting: dict[int, Frame] = {}  # frames whose image is still to come, without their k-space
        self._part_fds: list[int] = []
        self._finished = self._again = False

    def run(self) -> bool:
        """Handle messages, making frames whenever there is leave to send one and nothing else to do.

        Returns
        -------
        Whether this process is fit for another request.
        """
        handlers = {
            "open": self._open,
            "header": self._header,
            "acquisitions": self._acquisitions,
            "end": self._end,
            "credit": self._add_credit,
            "image": self._image,
            "finish": self._finish,
        }
        while not self._finished:
            if self._sources and self._credit > 0 and not self._message_waits():
                self._make_frame()
                continue
            message = self._channel.receive()
            handlers[message.op](message)
            message.close_fds()
        return self._again

    def _message_waits(self) -> bool:
        return bool(select.select([self._channel], [], [], 0)[0])

    # --- input ---

    def _open(self, message: Message) -> None:
        body = message.body
        os.nice(max(int(body["nice"]) - os.nice(0), 0))
        limit_resources(
            self._base_bytes + int(body["memory_bytes"]),
            int(body["cpu_seconds"]),
            int(body["file_bytes"]),
            self._base_bytes + int(body["most_memory_bytes"]),
        )
        self._part_fds, message.fds = message.fds, []
        self._request = request_from_json(message.body["request"], [f"/proc/self/fd/{fd}" for fd in self._part_fds])
        self._results = ResultWriter(self._request, self._findings)
        if self._request.parts:
            with self._stopwatch.stage("ingest"):
                scan = read_scan(self._request, self._findings)
            self._expected_frames = len(scan.indices) if isinstance(scan, KspaceScan) else 0
            scan = self._stopwatch.timing_reads(scan)
            self._sources.append((condition(scan, self._request, self._findings), self._release_parts))
            self._input_ended = True

    def _release_parts(self) -> None:
        """Give the uploaded bytes back as soon as all frames are made; the reference is wanted at the end."""
        for part, fd in zip(self._request.parts, self._part_fds, strict=True):
            if part.role is not PartRole.REFERENCE:
                os.close(fd)
        self._part_fds = [
            fd for part, fd in zip(self._request.parts, self._part_fds, strict=True) if part.role is PartRole.REFERENCE
        ]

    def _header(self, message: Message) -> None:
        with self._stopwatch.stage("ingest"), message.take_block(int(message.body["size"])) as block:
            header = read_header(block.read(0, block.size), self._request.limits, self._findings)
        self._conditioner = AcquisitionConditioner(header, self._request, self._findings)

    def _acquisitions(self, message: Message) -> None:
        if self._conditioner is None:
            raise InvalidInputError(
                "acquisitions came before the MRD header; send mrd_header first",
                reason="WRONG_ORDER",
                field="acquisitions",
            )
        count, *sizes = (int(message.body[name]) for name in ("count", "headers", "trajectories", "samples"))
        with self._stopwatch.stage("ingest"), message.take_block(sum(sizes)) as block:
            headers, trajectories, samples = (block.read(sum(sizes[:place]), size) for place, size in enumerate(sizes))
            acquisitions = decode_acquisitions(
                count, headers, trajectories, samples, self._conditioner.header, self._request.limits
            )
        frames = self._conditioner.push(acquisitions)
        self._sources.append((frames, lambda: self._channel.send("consumed")))

    def _end(self, message: Message) -> None:  # noqa: ARG002 - one of many handlers
        if self._conditioner is None:
            raise InvalidInputError(
                "the stream ended before the MRD header", reason="INPUT_INCOMPLETE", field="mrd_header"
            )
        self._sources.append((self._conditioner.finish(), lambda: None))
        self._input_ended = True

    def _add_credit(self, message: Message) -> None:
        self._credit += int(message.body["frames"])

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
            self._channel.send("frames-done", {"count": self._frames_made})

    def _send_frame(self, frame: Frame) -> None:
        number = self._frames_made
        if number >= self._request.limits.max_images:
            raise LimitExceededError(
                f"the scan has more than {self._request.limits.max_images} images; send it in parts",
                reason="TOO_MANY_IMAGES",
            )
        layout = FrameLayout.of(frame)
        if layout.kspace_bytes > self._request.limits.max_frame_bytes:
            raise LimitExceededError(
                f"a frame of {layout.coils} x {layout.rows} x {layout.columns} samples has {layout.kspace_bytes} bytes; "
                f"the limit is {self._request.limits.max_frame_bytes}",
                reason="FRAME_TOO_LARGE",
            )
        calibration = (layout.calibration_rows, layout.calibration_columns)
        sampling = Sampling.of(frame.mask, calibration, layout.coils, whitened=frame.whitened)
        with layout.store(frame) as block:
            body = {
                "number": number,
                "layout": layout.to_json(),
                "sampling": sampling.to_json(),
                "expected": self._expected_frames,
            }
            self._channel.send("frame", body, [block.fd])
        self._frames_made += 1
        self._credit -= 1
        self._results.announce(number, frame)
        self._waiting[number] = replace(frame, kspace=_NOTHING, calibration=None)

    # --- results ---

    def _image(self, message: Message) -> None:
        number = int(message.body["number"])
        rows, columns = (int(message.body[name]) for name in ("rows", "columns"))
        with self._stopwatch.stage("encode"):
            with message.take_block(rows * columns * 4) as block:
                image = block.array(np.float32, (rows, columns))
            for finished in self._results.add(number, self._waiting.pop(number), image):
                pixels = np.ascontiguousarray(finished.pixels, np.float32)
                with SharedBlock.create("recond-image", pixels.nbytes) as block:
                    block.write(pixels.data.cast("B"), 0)
                    self._channel.send(
                        "image",
                        {
                            "number": finished.number,
                            "index": asdict(finished.index),
                            "stack": finished.stack,
                            "rows": pixels.shape[0],
                            "columns": pixels.shape[1],
                            "geometry": finished.geometry and asdict(finished.geometry),
                        },
                        [block.fd],
                    )
        self._channel.send("taken", {"number": number})

    def _finish(self, message: Message) -> None:
        body = message.body
        with self._stopwatch.stage("encode"):
            summary = self._results.finish(body["residuals"], body["model"], body["version"])
            for output in self._request.outputs:
                self._write(output)
        while self._part_fds:
            os.close(self._part_fds.pop())
        self._again = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < _LARGEST_KEPT_KIB
        self._channel.send(
            "summary",
            {
                "again": self._again,
                "figures": asdict(summary.figures),
                "reference": summary.reference_source,
                "order": summary.order,
                "shape": summary.shape,
                "stacks": [asdict(stack) for stack in summary.stacks],
                "findings": [asdict(finding) for finding in self._findings],
                "seconds": self._stopwatch.seconds,
            },
        )
        self._finished = True

    def _write(self, output: OutputFormat) -> None:
        for stack in self._results.files(output):
            fd = os.memfd_create("recond-output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            with os.fdopen(fd, "w+b") as file:
                self._results.write(output, file, stack)
                file.flush()
                body = {"format": int(output), "size": os.fstat(fd).st_size, "stack": stack}
                self._channel.send("file", body, [fd])
