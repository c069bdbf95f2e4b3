"""`ReconstructionService`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc

from recond.v1 import reconstruction_pb2 as pb
from recond.v1 import reconstruction_pb2_grpc as pb_grpc
from recond_service.api.calls import Calls
from recond_service.api.reconstruct.call import ReconstructCall
from recond_service.api.reconstruct.inbox import Inbox
from recond_service.api.reconstruct.received import ReceivedChunk, read_request
from recond_service.pipeline import Services

Context = grpc.aio.ServicerContext[pb.ReconstructRequest, pb.ReconstructResponse]


class ReconstructionServicer(pb_grpc.ReconstructionServiceServicer):
    """Serves `Reconstruct`.

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

    async def Reconstruct(  # noqa: N802 - named by the proto
        self, request_iterator: AsyncIterator[ReceivedChunk | pb.ReconstructRequest], context: Context
    ) -> None:
        """Serve one call; see the comments in ``reconstruction.proto``."""
        inbox = Inbox(request_iterator, self._services.settings.limits.upload_idle_seconds)
        await self._calls.serve(context, lambda call: ReconstructCall(self._services, call, inbox, context.write).run())


def add_to(server: grpc.aio.Server, servicer: ReconstructionServicer) -> None:
    """Have a server serve `Reconstruct`, its messages read by `read_request`."""
    name = pb.DESCRIPTOR.services_by_name["ReconstructionService"].full_name
    method = grpc.stream_stream_rpc_method_handler(
        servicer.Reconstruct,
        request_deserializer=read_request,
        response_serializer=pb.ReconstructResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Reconstruct": method}),))
