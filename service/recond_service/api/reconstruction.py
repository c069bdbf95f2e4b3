"""`ReconstructionService`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc

from recond.v1 import reconstruction_pb2 as pb
from recond.v1 import reconstruction_pb2_grpc as pb_grpc
from recond_service.api.call import Call
from recond_service.api.rooms import Rooms
from recond_service.api.upload import Inbox
from recond_service.api.visit import serve

Context = grpc.aio.ServicerContext[pb.ReconstructRequest, pb.ReconstructResponse]


class ReconstructionServicer(pb_grpc.ReconstructionServiceServicer):
    """Serves `Reconstruct`.

    Parameters
    ----------
    rooms
        The service.
    """

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def Reconstruct(  # noqa: N802 - named by the proto
        self, request_iterator: AsyncIterator[pb.ReconstructRequest], context: Context
    ) -> None:
        """Serve one call; see the comments in ``reconstruction.proto``."""
        inbox = Inbox(request_iterator, self._rooms.settings.upload_idle_seconds)
        await serve(self._rooms, context, lambda visit: Call(self._rooms, visit, inbox, context.write))
