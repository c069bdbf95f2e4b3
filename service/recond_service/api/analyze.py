"""`AnalysisService`: heads on images that were reconstructed elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from recond.v1 import analysis_pb2 as pb
from recond.v1 import reconstruction_pb2
from recond_service.api.calls import Calls
from recond_service.api.compare import CompareCall
from recond_service.api.heads import map_messages, result_message
from recond_service.api.reconstruct import wire
from recond_service.api.reconstruct.call import file_messages, written_within
from recond_service.api.reconstruct.inbox import Inbox
from recond_service.api.reconstruct.received import ReceivedChunk, read_analyze_request, read_compare_request
from recond_service.api.reconstruct.sources import UploadedParts
from recond_service.pipeline import (
    Admitted,
    Analysed,
    AnalysisPipeline,
    Event,
    FileReady,
    HeadReady,
    ReconstructionRequest,
    RequestContext,
    Services,
    named_heads,
)
from recond_service.types import (
    InvalidInputError,
    LimitExceededError,
    Limits,
    OutputFormat,
    Part,
    PartFormat,
    PartRole,
    Priority,
    ScanRequest,
)

_MOST_FILES = 4096
_MOST_HEADS = 64
_MOST_OUTPUTS = 16
_OUTPUTS = (OutputFormat.FASTMRI_HDF5, OutputFormat.NIFTI, OutputFormat.PNG)

Context = grpc.aio.ServicerContext[pb.AnalyzeRequest, pb.AnalyzeResponse]


class AnalysisServicer:
    """Serves `Analyze` and `Compare`.

    Parameters
    ----------
    calls
        Surrounds every call with its id, spans, metrics and status.
    services
        What the service has.
    """

    def __init__(self, calls: Calls, services: Services) -> None:
        self._calls = calls
        self._services = services

    async def Analyze(  # noqa: N802 - named by the proto
        self, request_iterator: AsyncIterator[ReceivedChunk | pb.AnalyzeRequest], context: Context
    ) -> None:
        """Serve one call; see the comments in ``analysis.proto``."""
        inbox = Inbox(request_iterator, self._services.settings.limits.upload_idle_seconds)
        await self._calls.serve(context, lambda call: _AnalyzeCall(self._services, call, inbox, context.write).run())

    async def Compare(  # noqa: N802 - named by the proto
        self,
        request_iterator: AsyncIterator[ReceivedChunk | pb.CompareRequest],
        context: grpc.aio.ServicerContext[pb.CompareRequest, pb.CompareResponse],
    ) -> None:
        """Serve one call; see the comments in ``analysis.proto``."""
        inbox = Inbox(request_iterator, self._services.settings.limits.upload_idle_seconds)
        await self._calls.serve(context, lambda call: CompareCall(self._services, call, inbox, context.write).run())


class _AnalyzeCall:
    """One call; parameters as for `ReconstructCall`."""

    def __init__(
        self,
        services: Services,
        context: RequestContext,
        inbox: Inbox[pb.AnalyzeRequest],
        write: Callable[[pb.AnalyzeResponse], Awaitable[None]],
    ) -> None:
        self._services = services
        self._context = context
        self._inbox = inbox
        self._write_unlocked = write
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        message = await self._inbox.next_of("spec", "the first message of a call")
        if message is None:
            raise InvalidInputError("the call ended before its spec", reason="NO_SPEC", field="spec")
        settings = self._services.settings
        request = read_spec(message.spec, settings.request_limits())
        source = UploadedParts(self._inbox, request.scan.parts, settings.limits.upload_idle_seconds)
        await AnalysisPipeline(self._services, request, self._context).run(source, self._tell)

    async def _tell(self, event: Event) -> None:
        async with self._writing:
            match event:
                case Admitted():
                    accepted = reconstruction_pb2.Accepted(request_id=self._context.request_id)
                    await self._write(pb.AnalyzeResponse(accepted=accepted))
                case HeadReady():
                    await self._write(pb.AnalyzeResponse(head=result_message(event.result)))
                    for part in map_messages(event.maps):
                        await self._write(pb.AnalyzeResponse(head_map=part))
                case FileReady():
                    for piece in file_messages(event):
                        await self._write(pb.AnalyzeResponse(file_chunk=piece))
                case Analysed():
                    await self._write(pb.AnalyzeResponse(summary=wire.analysis_message(event)))

    async def _write(self, response: pb.AnalyzeResponse) -> None:
        await written_within(self._write_unlocked(response), self._services.settings.limits.upload_idle_seconds)


def read_spec(spec: pb.AnalyzeSpec, limits: Limits) -> ReconstructionRequest:
    """Check a spec.

    Raises
    ------
    InvalidInputError, LimitExceededError, ModelNotFoundError
        With the field that is wrong.
    """
    for values, most, field in (
        (spec.parts, _MOST_FILES, "spec.parts"),
        (spec.heads, _MOST_HEADS, "spec.heads"),
        (spec.outputs, _MOST_OUTPUTS, "spec.outputs"),
        (spec.spacing, 3, "spec.spacing"),
    ):
        if len(values) > most:
            raise InvalidInputError(
                f"{len(values)} entries; at most {most}",
                reason="TOO_MANY_" + field.rpartition(".")[2].upper(),
                field=field,
            )
    if not spec.parts or not spec.heads:
        field = "spec.heads" if spec.parts else "spec.parts"
        raise InvalidInputError(
            f"{field} is empty: send images, and name the heads that are to run on them",
            reason="NOTHING_TO_DO",
            field=field,
        )
    parts = []
    for place, part in enumerate(spec.parts):
        if part.size_bytes == 0:
            raise InvalidInputError("the part is empty", reason="EMPTY_PART", field=f"spec.parts[{place}].size_bytes")
        name = part.name.replace("\\", "/").rpartition("/")[2]
        parts.append(Part(PartRole.IMAGES, PartFormat.UNSPECIFIED, name, part.size_bytes))
    size = sum(part.size_bytes for part in parts)
    if size > limits.max_scan_bytes:
        raise LimitExceededError(
            f"the images have {size} bytes; this service takes {limits.max_scan_bytes}: send fewer at once",
            reason="SCAN_TOO_LARGE",
            field="spec.parts",
        )
    outputs = [wire.known(OutputFormat, output, f"spec.outputs[{place}]") for place, output in enumerate(spec.outputs)]
    for place, output in enumerate(outputs):
        if output not in _OUTPUTS:
            raise InvalidInputError(
                f"label maps are not written as {output.name}: ask for NIFTI, FASTMRI_HDF5 or PNG",
                reason="OUTPUT_FORMAT",
                field=f"spec.outputs[{place}]",
            )
    scan = ScanRequest(
        parts=tuple(parts),
        outputs=tuple(dict.fromkeys(outputs)),
        limits=limits,
        heads=named_heads(spec.heads, "spec.heads"),
        attention=spec.attention,
        spacing=tuple(spec.spacing),
    )
    priority = wire.known(Priority, spec.priority or Priority.CLINICAL, "spec.priority")
    return ReconstructionRequest(scan=scan, size_bytes=size, priority=priority)


def add_to(server: grpc.aio.Server, servicer: AnalysisServicer) -> None:
    """Have a server serve `Analyze` and `Compare`, chunks read without copies."""
    name = pb.DESCRIPTOR.services_by_name["AnalysisService"].full_name
    method = grpc.stream_stream_rpc_method_handler(
        servicer.Analyze,
        request_deserializer=read_analyze_request,
        response_serializer=pb.AnalyzeResponse.SerializeToString,
    )
    compare = grpc.stream_stream_rpc_method_handler(
        servicer.Compare,
        request_deserializer=read_compare_request,
        response_serializer=pb.CompareResponse.SerializeToString,
    )
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {"Analyze": method, "Compare": compare}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, methods),))
