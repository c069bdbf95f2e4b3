"""The KServe v2 protocol, as Triton speaks it: tritonclient and what builds on it talk to this service unchanged.

Open Inference Protocol 2.0 over gRPC (package ``inference``), with the messages of tritonclient. A request is one frame, see
`recond_service.api.kserve.tensors`; whole scans, files and streams go to `ReconstructionService`.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Coroutine
from typing import Any, Final

import grpc
import structlog
from tritonclient.grpc import model_config_pb2 as config_pb
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as pb_grpc

from recond_models import registry
from recond_service.api.calls import Calls
from recond_service.api.errors import status_code, status_details
from recond_service.api.kserve.infer import AUTO, InferCall
from recond_service.api.kserve.tensors import INPUTS, OPTIONAL_INPUTS, OUTPUTS
from recond_service.pipeline import Services, named_model
from recond_service.types import (
    RecondError,
)

SERVICE: Final = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
"""Name of the service, for health and reflection."""

_PLATFORM: Final = "recond"

Context = grpc.aio.ServicerContext[Any, Any]

_log = structlog.get_logger(__name__)


def _refusing(remedy: str) -> Callable[[Any, Any, Context], Coroutine[Any, Any, None]]:
    """Return a method that answers UNIMPLEMENTED and says what to do instead."""

    async def refuse(_self: object, _request: object, context: Context) -> None:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, remedy)

    return refuse


_MODELS_REMEDY = (
    "models are added and removed with recond models add and recond models remove on the machine of the service"
)
_MEMORY_REMEDY = "this service maps no shared memory: send tensors with the request"
_METRICS_REMEDY = "this service has its statistics at /metrics over HTTP"


class KServeServicer(pb_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc] # generated without types
    """Serves single frames.

    Parameters
    ----------
    calls
        Surrounds every call with its id, spans, metrics and status.
    services
        What the service has.
    """

    ModelStreamInfer = _refusing("send one frame a ModelInfer, or a whole scan to recond.v1.ReconstructionService")
    ModelStatistics = _refusing(_METRICS_REMEDY)
    RepositoryModelLoad = _refusing(_MODELS_REMEDY)
    RepositoryModelUnload = _refusing(_MODELS_REMEDY)
    SystemSharedMemoryStatus = _refusing(_MEMORY_REMEDY)
    SystemSharedMemoryRegister = _refusing(_MEMORY_REMEDY)
    SystemSharedMemoryUnregister = _refusing(_MEMORY_REMEDY)
    CudaSharedMemoryStatus = _refusing(_MEMORY_REMEDY)
    CudaSharedMemoryRegister = _refusing(_MEMORY_REMEDY)
    CudaSharedMemoryUnregister = _refusing(_MEMORY_REMEDY)
    TraceSetting = _refusing("spans are set up when the service is started")
    LogSettings = _refusing("the log is set up when the service is started")

    def __init__(self, calls: Calls, services: Services) -> None:
        self._calls = calls
        self._services = services

    # --- what there is ---

    async def ServerLive(  # noqa: N802 - named by the protocol
        self,
        request: pb.ServerLiveRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> pb.ServerLiveResponse:
        """Tell that the service runs."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(  # noqa: N802
        self,
        request: pb.ServerReadyRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> pb.ServerReadyResponse:
        """Tell whether a model server can compute and requests are let in."""
        return pb.ServerReadyResponse(ready=self._ready())

    async def ModelReady(  # noqa: N802
        self,
        request: pb.ModelReadyRequest,
        context: Context,  # noqa: ARG002
    ) -> pb.ModelReadyResponse:
        """Tell whether a model can run; false for one that there is not."""
        known = request.name == AUTO
        try:
            known = known or bool(named_model(request.name, request.version, "name"))
        except RecondError:
            known = False
        return pb.ModelReadyResponse(ready=known and self._ready())

    def _ready(self) -> bool:
        return self._services.scheduler.capacity > 0 and not self._services.admission.draining

    async def ServerMetadata(  # noqa: N802
        self,
        request: pb.ServerMetadataRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> pb.ServerMetadataResponse:
        """Return name and version of the service."""
        return pb.ServerMetadataResponse(name="recond", version=importlib.metadata.version("recond"))

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:  # noqa: N802
        """Return the tensors of a model, which are the same for all."""
        versions = await self._versions(request.name, request.version, context)
        response = pb.ModelMetadataResponse(name=request.name, versions=versions, platform=_PLATFORM)
        for name, (datatype, axes) in INPUTS.items():
            response.inputs.add(name=name, datatype=datatype, shape=(1, *axes))
        for name, (datatype, axes) in OUTPUTS.items():
            response.outputs.add(name=name, datatype=datatype, shape=(1, *axes))
        return response

    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:  # noqa: N802
        """Return what tools want to know before they send tensors."""
        await self._versions(request.name, request.version, context)
        config = config_pb.ModelConfig(name=request.name, platform=_PLATFORM, max_batch_size=1)
        for name, (datatype, axes) in INPUTS.items():
            optional = name in OPTIONAL_INPUTS
            config.input.add(name=name, data_type=_config_type(datatype), dims=axes, optional=optional)
        for name, (datatype, axes) in OUTPUTS.items():
            # A single number for each frame has no axes of its own, which a configuration cannot say.
            shape = None if axes else config_pb.ModelTensorReshape()
            config.output.add(name=name, data_type=_config_type(datatype), dims=axes or (1,), reshape=shape)
        return pb.ModelConfigResponse(config=config)

    async def _versions(self, name: str, version: str, context: Context) -> list[str]:
        if name == AUTO:
            return []
        try:
            return [named_model(name, version, "name").version]
        except RecondError as error:
            await context.abort(status_code(error), error.message, status_details(error, ""))

    async def RepositoryIndex(  # noqa: N802
        self,
        request: pb.RepositoryIndexRequest,
        context: Context,  # noqa: ARG002
    ) -> pb.RepositoryIndexResponse:
        """Return all models."""
        response = pb.RepositoryIndexResponse()
        ready = self._ready()
        for info in registry.available():
            if ready:
                response.models.add(name=info.name, version=info.version, state="READY")
            elif not request.ready:
                response.models.add(
                    name=info.name, version=info.version, state="UNAVAILABLE", reason="no model server is up"
                )
        return response

    # --- frames ---

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:  # noqa: N802
        """Reconstruct one frame."""
        return await self._calls.serve(context, lambda call: InferCall(self._services, call, request).run())


def _config_type(datatype: str) -> int:
    return int(config_pb.DataType.Value(f"TYPE_{datatype}"))
