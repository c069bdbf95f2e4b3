"""Heads on images that were reconstructed elsewhere: what is sent, and what comes back."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date as Date  # noqa: N812 - a field is called date
from pathlib import Path
from typing import Any, Generic, TypeVar

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
        Output files by ending: ``"_tissue.nii.gz"``, ``"_series_attention-contrast.nii.gz"``, ``".h5"``, ``".png"``.
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
        """Write the output files that go with the ending of `path`: maps go beside it, ``head_tissue.nii.gz``.

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
class Visit:
    """A scan of a patient that is to be compared with others.

    Parameters
    ----------
    images
        As for `Client.analyze`.
    date
        Of the scan; None or empty if not known: changes then have no rate. Text is YYYY-MM-DD.
    name
        In reports; empty for the name of the first file, with a number where another visit has the same.
    labels
        Label maps in NIfTI on the grid of the images, by the head that they stand in for.
    spacing
        Distances of slices, rows and columns in mm, for images that do not tell them.
    """

    images: Images
    date: Date | str | None = None
    name: str = ""
    labels: Mapping[str, Source] = field(default_factory=dict)
    spacing: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed between visits.

    Parameters
    ----------
    report
        Visits, lesions and structures with their changes, as docs/follow-up.md describes it.
    table
        A row for each lesion and structure of each visit (CSV).
    pictures
        PNG files: ``"comparison"``, the last two visits side by side, and ``"timeline"``, volumes over time.
    head_results
        What heads found in the images of the visits; `HeadResult.stack` is the name of the visit.
    findings
        What was noticed in the data.
    seconds
        Where the time went.
    request_id
        Names the request in the logs of the service.
    """

    report: Mapping[str, Any]
    table: str
    pictures: Mapping[str, bytes]
    head_results: tuple[HeadResult, ...]
    findings: tuple[Finding, ...]
    seconds: Seconds
    request_id: str


@dataclass(frozen=True, slots=True)
class AnalysisUpload:
    """Images that are going to be sent.

    Parameters
    ----------
    parts
        Content and name of each file.
    """

    parts: tuple[tuple[Content, str], ...]

    def requests(self) -> Iterator[pb.AnalyzeRequest]:
        """Yield the files in pieces, as messages of `Analyze`; raises as `chunks` does."""
        return (pb.AnalyzeRequest(chunk=chunk) for chunk in self.chunks())

    def compare_requests(self) -> Iterator[pb.CompareRequest]:
        """Yield the files in pieces, as messages of `Compare`; raises as `chunks` does."""
        return (pb.CompareRequest(chunk=chunk) for chunk in self.chunks())

    def chunks(self) -> Iterator[reconstruction_pb2.Chunk]:
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
                        yield reconstruction_pb2.Chunk(part=number, offset=offset, data=bytes(data))
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
    *,
    attention: bool = False,
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
        parts=[_part(each) for each in upload.parts],
        heads=heads,
        outputs=parse_outputs(outputs),
        priority=PRIORITIES[priority],
        spacing=_checked_spacing(spacing),
        attention=attention,
    )
    return pb.AnalyzeRequest(spec=spec)


def compare_request(
    visits: Sequence[Visit],
    heads: Sequence[str],
    patient: str,
    clinical_rows: Source | None,
    priority: Priority,
) -> tuple[pb.CompareRequest, AnalysisUpload]:
    """Return the first message of a call of `Compare`, and what is to be sent behind it.

    Raises
    ------
    InputError
        A file does not exist or is empty, there is no visit, or an option does not exist.
    """
    if not visits:
        raise InputError("there are no visits: give the scans of a patient", reason="NO_VISITS", field="visits")
    if priority not in PRIORITIES:
        raise InputError(
            f"no such priority: {priority!r}; choose from {', '.join(PRIORITIES)}",
            reason="UNKNOWN_PRIORITY",
            field="priority",
        )
    spec = pb.CompareSpec(heads=heads, priority=PRIORITIES[priority], patient=patient)
    everything: list[tuple[Content, str]] = []
    uploads = [analysis_upload(visit.images).parts for visit in visits]
    names = _names(visits, [images[0][1] for images in uploads])
    for visit, images, name in zip(visits, uploads, names, strict=True):
        labels = {head: content_and_name(source, f"labels[{head!r}]") for head, source in visit.labels.items()}
        everything += [*images, *labels.values()]
        spec.visits.append(
            pb.Visit(
                name=name,
                date=f"{visit.date:%Y-%m-%d}" if isinstance(visit.date, Date) else visit.date or "",
                parts=[_part(each) for each in images],
                labels=[pb.VisitLabels(head=head, part=_part(each)) for head, each in labels.items()],
                spacing=_checked_spacing(visit.spacing),
            )
        )
    if clinical_rows is not None:
        everything.append(content_and_name(clinical_rows, "clinical_rows"))
        spec.clinical_rows.CopyFrom(_part(everything[-1]))
    return pb.CompareRequest(spec=spec), AnalysisUpload(tuple(everything))


def _checked_spacing(spacing: Sequence[float] | None) -> list[float]:
    """Return the spacing as it is sent; the service says whether it can be."""
    try:
        return [] if spacing is None else [float(step) for step in spacing]
    except (TypeError, ValueError) as error:
        raise InputError(
            f"spacing={spacing!r} is none: give the distances of slices, rows and columns in mm, for example (5.0, 0.9, 0.9)",
            reason="WRONG_TYPE",
            field="spacing",
        ) from error


def _names(visits: Sequence[Visit], files: Sequence[str]) -> list[str]:
    """Return a name for each visit: its own, or that of its first file, with a number where another visit has the same."""
    counts = Counter(visit.name or file for visit, file in zip(visits, files, strict=True))
    names = []
    for number, (visit, file) in enumerate(zip(visits, files, strict=True), 1):
        name = visit.name or file
        if not name:
            name = f"visit {number}"
        elif not visit.name and counts[name] > 1:
            name = f"{name} (visit {number})"
        names.append(name)
    return names


def _part(content: tuple[Content, str]) -> pb.ImagePart:
    return pb.ImagePart(name=content[1], size_bytes=content[0].size)


Request = TypeVar("Request", pb.AnalyzeRequest, pb.CompareRequest)


class AnalysisCall(Generic[Request]):
    """One call of `Analyze` or `Compare`.

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
        first: Request,
        data: Iterable[Request],
        timeout: float | None,
        translate: Callable[[grpc.RpcError, str], RecondError],
    ) -> None:
        self._translate = translate
        self._may_send = threading.Event()
        self._ended = False
        self._sender_error: BaseException | None = None
        self._heads, self._files = HeadReceiver(), FileReceiver()
        self._report: pb.ComparisonReport | None = None
        self._summary: pb.AnalyzeSummary | None = None
        self._request_id = ""
        self._call: Any = method(self._requests(first, data), timeout=timeout)

    @property
    def delivered(self) -> bool:
        """Whether any result has arrived."""
        return bool(self._heads.results or not self._files.empty)

    def result(self) -> Analysis:
        """Wait for the end of `Analyze`.

        Raises
        ------
        RecondError
            If the call failed.
        """
        summary = self._whole()
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

    def comparison(self) -> Comparison:
        """Wait for the end of `Compare`.

        Raises
        ------
        RecondError
            If the call failed.
        """
        summary = self._whole()
        if self._report is None:
            raise self._violation("the responses ended without a comparison")
        pictures = {name.strip("_").partition(".")[0]: data for name, data in self._files.files().items()}
        return Comparison(
            report=json.loads(self._report.report),
            table=self._report.table,
            pictures=pictures,
            head_results=tuple(self._heads.results),
            findings=findings_of(summary.findings),
            seconds=seconds_of(summary.seconds),
            request_id=self._request_id,
        )

    def close(self) -> None:
        """Cancel the call if it still runs."""
        self._ended = True
        self._may_send.set()
        self._call.cancel()

    def _requests(self, first: Request, data: Iterable[Request]) -> Generator[Request]:
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

    def _whole(self) -> pb.AnalyzeSummary:
        """Take all responses; return the last."""
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
        if self._summary is None or not self._heads.whole or not self._files.whole:
            raise self._violation("the responses ended before they were whole")
        return self._summary

    def _take(self, response: pb.AnalyzeResponse | pb.CompareResponse) -> None:
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
            case "comparison":
                self._report = getattr(response, "comparison", None)
            case "summary":
                self._summary = response.summary

    def _violation(self, what: str) -> ServiceError:
        msg = f"the service broke the wire contract: {what}; client and service may be of different versions"
        return ServiceError(msg, status="INTERNAL", reason="PROTOCOL_VIOLATION", request_id=self._request_id)
