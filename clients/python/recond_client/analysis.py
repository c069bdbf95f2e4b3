"""Heads on images that were reconstructed elsewhere: what is sent, and what comes back."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from recond.v1 import analysis_pb2 as pb
from recond.v1 import reconstruction_pb2
from recond_client.errors import InputError, RecondError, ServiceError
from recond_client.heads import HeadReceiver, HeadResult, results_by_name
from recond_client.responses import FileReceiver, findings_of, seconds_of
from recond_client.result import Finding, Seconds, save_files
from recond_client.spec import PRIORITIES, Priority, parse_outputs
from recond_client.upload import CHUNK_BYTES, Content, Source, content_and_name

Images = Source | Sequence[Source]
"""One file, or the DICOM files of one series, as paths, bytes or file objects; a folder stands for all files in it."""


@dataclass(frozen=True, slots=True)
class AnalysedStack:
    """Images of one orientation, size and pixel size: their name, as in `HeadResult.stack`, and shape (images, rows, columns)."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Analysis:
    """What heads say of images.

    Parameters
    ----------
    heads
        What each head says of the first volume, by name.
    head_results
        All that heads said, in the order in which it came.
    shape
        (images, rows, columns) of what was read; rows and columns are 0 where there are several sizes.
    stacks
        What the images consist of.
    findings
        What was noticed in the data.
    seconds
        Where the time went.
    request_id
        Names the request in the logs of the service.
    files
        Output files by ending: ``"_tissue.nii.gz"``, ``".h5"``, ``".png"``.
    """

    heads: Mapping[str, HeadResult]
    head_results: tuple[HeadResult, ...]
    shape: tuple[int, ...]
    stacks: tuple[AnalysedStack, ...]
    findings: tuple[Finding, ...]
    seconds: Seconds
    request_id: str
    files: Mapping[str, bytes] = field(default_factory=dict)

    def save_all(self, path: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Write the output files that go with the ending of `path`: label maps go beside it, ``head_tissue.nii.gz``.

        Parameters
        ----------
        path
            Where to; its ending names one of the outputs that the call asked for.

        Returns
        -------
        tuple of Path
            The files that were written.

        Raises
        ------
        InputError
            If no output of that ending was asked for.
        OSError
            If one cannot be written.
        """
        return save_files(self.files, Path(path))


@dataclass(frozen=True, slots=True)
class AnalysisUpload:
    """Images that are going to be sent.

    Parameters
    ----------
    parts
        Content and name of each file.
    """

    parts: tuple[tuple[Content, str], ...]

    def chunks(self) -> Iterator[pb.AnalyzeRequest]:
        """Yield the files in pieces.

        Raises
        ------
        InputError
            A file cannot be read any more, or has become shorter.
        """
        for number, (content, name) in enumerate(self.parts):
            offset = 0
            try:
                with content.open() as file:
                    while offset < content.size:
                        data = file.read(min(CHUNK_BYTES, content.size - offset))
                        if not data:
                            raise InputError(
                                f"{name or 'the images'} ended after {offset} of {content.size} bytes: it changed meanwhile",
                                reason="FILE_CHANGED",
                                field="images",
                            )
                        yield pb.AnalyzeRequest(
                            chunk=reconstruction_pb2.Chunk(part=number, offset=offset, data=bytes(data))
                        )
                        offset += len(data)
            except OSError as error:
                raise InputError(
                    f"{name or 'the images'} cannot be read: {error.strerror}", reason="NOT_READABLE", field="images"
                ) from error


def analysis_upload(images: Images) -> AnalysisUpload:
    """Return what is to be sent.

    Raises
    ------
    InputError
        A file does not exist or is empty, or there is none.
    """
    sources: list[Source] = []
    several = isinstance(images, Iterable) and not isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike))
    listed: Iterable[Any] = images if several and not hasattr(images, "read") else (images,)  # type: ignore[assignment]
    for source in listed:
        if isinstance(source, (str, os.PathLike)) and Path(source).is_dir():
            sources += sorted(path for path in Path(source).iterdir() if path.is_file() and path.name[0] != ".")
        else:
            sources.append(source)
    if not sources:
        raise InputError(
            "there are no files to analyse: name a file, or a folder with some", reason="NO_FILES", field="images"
        )
    return AnalysisUpload(tuple(content_and_name(source, "images") for source in sources))


def analysis_request(
    upload: AnalysisUpload,
    heads: Sequence[str],
    outputs: Sequence[str],
    priority: Priority,
    spacing: Sequence[float] | None,
) -> pb.AnalyzeRequest:
    """Return the first message of a call.

    Raises
    ------
    InputError
        An option does not exist, or no head is named.
    """
    if not heads:
        raise InputError("no head is named: give heads, for example heads=['tissue']", reason="NO_HEADS", field="heads")
    if priority not in PRIORITIES:
        raise InputError(
            f"no such priority: {priority!r}; choose from {', '.join(PRIORITIES)}",
            reason="UNKNOWN_PRIORITY",
            field="priority",
        )
    spec = pb.AnalyzeSpec(
        parts=[pb.ImagePart(name=name, size_bytes=content.size) for content, name in upload.parts],
        heads=heads,
        outputs=parse_outputs(outputs),
        priority=PRIORITIES[priority],
        spacing=spacing or (),
    )
    return pb.AnalyzeRequest(spec=spec)


class AnalysisCall:
    """One call of `Analyze`.

    Parameters
    ----------
    method
        The method of a stub on an open channel.
    first
        The message with the spec.
    data
        The messages behind it; none is taken before the service has admitted the request.
    timeout
        Seconds, None for no end.
    translate
        Makes the error of this package of one of gRPC, given a request id.
    """

    def __init__(
        self,
        method: Callable[..., Any],
        first: pb.AnalyzeRequest,
        data: Iterable[pb.AnalyzeRequest],
        timeout: float | None,
        translate: Callable[[grpc.RpcError, str], RecondError],
    ) -> None:
        self._translate = translate
        self._may_send = threading.Event()
        self._ended = False
        self._sender_error: BaseException | None = None
        self._heads, self._files = HeadReceiver(), FileReceiver()
        self._summary: pb.AnalyzeSummary | None = None
        self._request_id = ""
        self._call: Any = method(self._requests(first, data), timeout=timeout)

    @property
    def delivered(self) -> bool:
        """Whether any result has arrived."""
        return bool(self._heads.results or not self._files.empty)

    def result(self) -> Analysis:
        """Wait for the end.

        Raises
        ------
        RecondError
            If the call failed.
        """
        try:
            for response in self._call:
                self._take(response)
        except grpc.RpcError as error:
            if self._sender_error is not None:
                raise self._sender_error from None
            raise self._translate(error, self._request_id) from error
        except ValueError as error:
            raise self._violation(str(error)) from error
        finally:
            self.close()
        return self._analysis()

    def close(self) -> None:
        """Cancel the call if it still runs."""
        self._ended = True
        self._may_send.set()
        self._call.cancel()

    def _requests(self, first: pb.AnalyzeRequest, data: Iterable[pb.AnalyzeRequest]) -> Generator[pb.AnalyzeRequest]:
        yield first
        self._may_send.wait()
        try:
            for message in data:
                if self._ended:
                    return
                yield message
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - carried over to the thread that waits for the results
            self._sender_error = error
            self._call.cancel()

    def _take(self, response: pb.AnalyzeResponse) -> None:
        match response.WhichOneof("message"):
            case "accepted":
                self._request_id = response.accepted.request_id
                self._may_send.set()
            case "head":
                self._heads.take_result(response.head)
            case "head_map":
                self._heads.take_map(response.head_map)
            case "file_chunk":
                self._files.take(response.file_chunk)
            case "summary":
                self._summary = response.summary

    def _analysis(self) -> Analysis:
        summary = self._summary
        if summary is None or not self._heads.whole or not self._files.whole:
            raise self._violation("the responses ended before they were whole")
        results = tuple(self._heads.results)
        return Analysis(
            heads=results_by_name(results),
            head_results=results,
            shape=tuple(summary.shape),
            stacks=tuple(AnalysedStack(stack.name, tuple(stack.shape)) for stack in summary.stacks),
            findings=findings_of(summary.findings),
            seconds=seconds_of(summary.seconds),
            request_id=self._request_id,
            files=self._files.files(),
        )

    def _violation(self, what: str) -> ServiceError:
        msg = f"the service broke the wire contract: {what}; client and service may be of different versions"
        return ServiceError(msg, status="INTERNAL", reason="PROTOCOL_VIOLATION", request_id=self._request_id)
