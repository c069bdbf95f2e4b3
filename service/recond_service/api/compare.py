"""`AnalysisService.Compare`: visits of one patient in, what changed between them out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from recond.v1 import analysis_pb2 as pb
from recond.v1 import reconstruction_pb2
from recond_service.api.heads import map_messages, result_message
from recond_service.api.reconstruct import wire
from recond_service.api.reconstruct.call import file_messages, written_within
from recond_service.api.reconstruct.inbox import Inbox
from recond_service.api.reconstruct.sources import UploadedParts
from recond_service.pipeline import (
    Admitted,
    Analysed,
    AnalysisPipeline,
    Compared,
    Event,
    FileReady,
    HeadReady,
    ReconstructionRequest,
    RequestContext,
    Services,
    named_heads,
    named_structures,
)
from recond_service.types import (
    InvalidInputError,
    LimitExceededError,
    Limits,
    Part,
    PartFormat,
    PartRole,
    Priority,
    ScanRequest,
    VisitRequest,
)

_MOST_VISITS = 32
_MOST_FILES = 4096
_MOST_HEADS = 64
_LONGEST_NAME = 200


class CompareCall:
    """One call.

    Parameters
    ----------
    services
        What the service has.
    context
        Who calls.
    inbox
        What the client sends.
    write
        Sends a message to the client; waits while the client does not read.
    """

    def __init__(
        self,
        services: Services,
        context: RequestContext,
        inbox: Inbox[pb.CompareRequest],
        write: Callable[[pb.CompareResponse], Awaitable[None]],
    ) -> None:
        self._services = services
        self._context = context
        self._inbox = inbox
        self._write_unlocked = write
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Serve the call.

        Raises
        ------
        RecondError
            What keeps it from its comparison.
        """
        message = await self._inbox.next_of("spec", "the first message of a call")
        if message is None:
            raise InvalidInputError("the call ended before its spec", reason="NO_SPEC", field="spec")
        settings = self._services.settings
        request = read_spec(message.spec, settings.request_limits())
        source = UploadedParts(self._inbox, request.scan.parts, settings.limits.upload_idle_seconds)
        await AnalysisPipeline(self._services, request, self._context).run(source, self._tell)

    async def _tell(self, event: Event) -> None:
        async with self._writing:
            for message in _messages(event, self._context.request_id):
                await written_within(self._write_unlocked(message), self._services.settings.limits.upload_idle_seconds)


def _messages(event: Event, request_id: str) -> Iterator[pb.CompareResponse]:
    """Yield the messages of an event."""
    match event:
        case Admitted():
            yield pb.CompareResponse(accepted=reconstruction_pb2.Accepted(request_id=request_id))
        case HeadReady():
            yield pb.CompareResponse(head=result_message(event.result))
            for part in map_messages(event.maps):
                yield pb.CompareResponse(head_map=part)
        case FileReady():
            for piece in file_messages(event):
                yield pb.CompareResponse(file_chunk=piece)
        case Compared():
            report = pb.ComparisonReport(report=event.report.decode(), table=event.table.decode())
            yield pb.CompareResponse(comparison=report)
        case Analysed():
            yield pb.CompareResponse(summary=wire.analysis_message(event))


def read_spec(spec: pb.CompareSpec, limits: Limits) -> ReconstructionRequest:
    """Check a spec.

    Raises
    ------
    InvalidInputError, LimitExceededError, ModelNotFoundError
        With the field that is wrong.
    """
    files = sum(len(visit.parts) + len(visit.labels) for visit in spec.visits)
    for count, most, field in (
        (len(spec.visits), _MOST_VISITS, "spec.visits"),
        (files, _MOST_FILES, "spec.visits"),
        (len(spec.heads), _MOST_HEADS, "spec.heads"),
    ):
        if count > most:
            raise InvalidInputError(f"{count} entries; at most {most}", reason="TOO_MANY_PARTS", field=field)
    if not spec.visits:
        raise InvalidInputError(
            "there are no visits: send the scans of a patient", reason="NOTHING_TO_DO", field="spec.visits"
        )
    if not spec.heads and not any(visit.labels for visit in spec.visits):
        raise InvalidInputError(
            "there is nothing to compare: name heads, or send label maps", reason="NOTHING_TO_DO", field="spec.heads"
        )
    names = [visit.name or f"visit {number}" for number, visit in enumerate(spec.visits, 1)]
    if len(set(names)) < len(names) or max(map(len, names)) > _LONGEST_NAME:
        raise InvalidInputError(
            "two visits have one name, or a name is too long: give each its own",
            reason="VISIT_NAMES",
            field="spec.visits",
        )
    given = [{labels.head for labels in visit.labels} for visit in spec.visits]
    needed = [
        place for place, head in enumerate(spec.heads) if any(head.partition("@")[0] not in labels for labels in given)
    ]
    parts = tuple(_parts(spec))
    size = sum(part.size_bytes for part in parts)
    if size > limits.max_scan_bytes:
        raise LimitExceededError(
            f"the visits have {size} bytes; this service takes {limits.max_scan_bytes}: send fewer at once",
            reason="SCAN_TOO_LARGE",
            field="spec.visits",
        )
    scan = ScanRequest(
        parts=parts,
        limits=limits,
        heads=named_heads([spec.heads[place] for place in needed], "spec.heads", needed),
        visits=tuple(
            VisitRequest(
                name,
                visit.date,
                tuple(visit.spacing),
                {labels.head: named_structures(labels.head) for labels in visit.labels},
            )
            for name, visit in zip(names, spec.visits, strict=True)
        ),
        patient=spec.patient,
    )
    priority = wire.known(Priority, spec.priority or Priority.CLINICAL, "spec.priority")
    return ReconstructionRequest(scan=scan, size_bytes=size, priority=priority)


def _parts(spec: pb.CompareSpec) -> Iterator[Part]:
    """Yield the parts in the order in which they are sent."""
    for number, visit in enumerate(spec.visits):
        field = f"spec.visits[{number}]"
        for place, part in enumerate(visit.parts):
            yield _part(part, PartRole.IMAGES, f"{field}.parts[{place}]", number)
        for place, labels in enumerate(visit.labels):
            if not labels.head:
                raise InvalidInputError(
                    "a label map stands in for no head: name one",
                    reason="NO_HEAD",
                    field=f"{field}.labels[{place}].head",
                )
            yield _part(labels.part, PartRole.LABELS, f"{field}.labels[{place}].part", number, labels.head)
    if spec.HasField("clinical_rows"):
        yield _part(spec.clinical_rows, PartRole.CLINICAL_ROWS, "spec.clinical_rows", 0)


def _part(part: pb.ImagePart, role: PartRole, field: str, visit: int, head: str = "") -> Part:
    if part.size_bytes == 0:
        raise InvalidInputError("the part is empty", reason="EMPTY_PART", field=f"{field}.size_bytes")
    name = part.name.replace("\\", "/").rpartition("/")[2]
    return Part(role, PartFormat.UNSPECIFIED, name, part.size_bytes, visit=visit, head=head)
