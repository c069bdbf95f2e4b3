"""`ModelService`: which models there are."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from recond.v1 import model_pb2 as pb
from recond.v1 import model_pb2_grpc as pb_grpc
from recond_models import registry
from recond_models.contract import Contract, Range
from recond_models.model import ModelInfo, UnknownModelError
from recond_service.api.errors import status_code, status_details
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
        return pb.ListModelsResponse(models=[_model_message(info, ready=self._ready()) for info in infos])

    async def GetModel(  # noqa: N802 - named by the proto
        self, request: pb.GetModelRequest, context: grpc.aio.ServicerContext[pb.GetModelRequest, pb.GetModelResponse]
    ) -> pb.GetModelResponse:
        """Return one model, or NOT_FOUND."""
        try:
            info = registry.find(request.name, request.version)
        except UnknownModelError as unknown:
            error = ModelNotFoundError(str(unknown.args[0]), reason="NO_SUCH_MODEL", field="name")
            await context.abort(status_code(error), error.message, status_details(error, ""))
        return pb.GetModelResponse(model=_model_message(info, ready=self._ready()))


def _model_message(info: ModelInfo, *, ready: bool) -> pb.Model:
    """Return the message of a model."""
    return pb.Model(
        name=info.name,
        version=info.version,
        description=info.description,
        kind=info.kind,
        weights_sha256=info.weights_sha256,
        needs_calibration=info.needs_calibration,
        reference=info.reference,
        ready=ready,
        origin=info.origin,
        family=info.family,
        precision=info.precision,
        licence=info.licence,
        source=info.source,
        contract=None if info.contract is None else _contract_message(info.contract),
    )


def _contract_message(contract: Contract) -> pb.ModelContract:
    return pb.ModelContract(
        patterns=contract.patterns,
        acceleration=_range_message(contract.acceleration),
        coils=_range_message(contract.coils),
        rows=_range_message(contract.rows),
        columns=_range_message(contract.columns),
        calibration_rows=contract.calibration[0],
        calibration_columns=contract.calibration[1],
        requires_calibration=contract.requires_calibration,
        anatomy=contract.anatomy,
        contrast=contract.contrast,
    )


def _range_message(limits: Range | None) -> pb.Range | None:
    return None if limits is None else pb.Range(least=limits[0], most=limits[1])
