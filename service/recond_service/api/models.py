"""`ModelService`: which models there are."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from recond.v1 import model_pb2 as pb
from recond.v1 import model_pb2_grpc as pb_grpc
from recond_models import registry
from recond_models.model import UnknownModelError
from recond_service.api.errors import status_code, status_details
from recond_service.api.wire import model_message
from recond_service.types import ModelNotFoundError


class ModelServicer(pb_grpc.ModelServiceServicer):
    """Serves the registry.

    Parameters
    ----------
    ready
        Tells whether a worker has the models loaded.
    """

    def __init__(self, ready: Callable[[], bool]) -> None:
        self._ready = ready

    async def ListModels(  # noqa: N802 - named by the proto
        self,
        request: pb.ListModelsRequest,  # noqa: ARG002
        context: grpc.aio.ServicerContext[pb.ListModelsRequest, pb.ListModelsResponse],  # noqa: ARG002
    ) -> pb.ListModelsResponse:
        """Return all models, in the order of their names."""
        infos = sorted(registry.available(), key=lambda info: (info.name, info.version))
        return pb.ListModelsResponse(models=[model_message(info, ready=self._ready()) for info in infos])

    async def GetModel(  # noqa: N802 - named by the proto
        self, request: pb.GetModelRequest, context: grpc.aio.ServicerContext[pb.GetModelRequest, pb.GetModelResponse]
    ) -> pb.GetModelResponse:
        """Return one model, or NOT_FOUND."""
        try:
            info = registry.find(request.name, request.version)
        except UnknownModelError as unknown:
            error = ModelNotFoundError(str(unknown.args[0]), reason="NO_SUCH_MODEL", field="name")
            await context.abort(status_code(error), error.message, status_details(error, ""))
        return pb.GetModelResponse(model=model_message(info, ready=self._ready()))
