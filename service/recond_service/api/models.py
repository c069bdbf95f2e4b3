"""`ModelService`: which models there are, and how they came to be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, NoReturn

import grpc

from recond.v1 import model_pb2 as pb
from recond.v1 import model_pb2_grpc as pb_grpc
from recond_models import registry
from recond_models.contract import Contract, Range
from recond_models.heads.contract import HeadContract
from recond_models.model import ModelInfo, UnknownModelError
from recond_models.store import folders
from recond_models.store.errors import StoreError
from recond_models.store.lineage import Lineage
from recond_models.store.versions import read_state
from recond_service.api.errors import shortened, status_code, status_details
from recond_service.backends import Work, work_of
from recond_service.telemetry import Metrics, ModelUse
from recond_service.types import ModelNotFoundError


class ModelServicer(pb_grpc.ModelServiceServicer):
    """Serves the registry.

    Parameters
    ----------
    ready
        Tells whether a model server can run a kind of model.
    metrics
        Knows how they did.
    """

    def __init__(self, ready: Callable[[Work], bool], metrics: Metrics) -> None:
        self._ready = ready
        self._metrics = metrics

    async def ListModels(  # noqa: N802 - named by the proto
        self,
        request: pb.ListModelsRequest,  # noqa: ARG002
        context: grpc.aio.ServicerContext[pb.ListModelsRequest, pb.ListModelsResponse],  # noqa: ARG002
    ) -> pb.ListModelsResponse:
        """Return all models, in the order of their names."""
        infos = sorted(registry.available(), key=lambda info: (info.name, info.version))
        heads = sorted(registry.heads(), key=lambda info: (info.name, info.version))
        return pb.ListModelsResponse(
            models=[self._message(info) for info in infos],
            heads=[self._message(info) for info in heads],
        )

    async def GetModel(  # noqa: N802 - named by the proto
        self, request: pb.GetModelRequest, context: grpc.aio.ServicerContext[pb.GetModelRequest, pb.GetModelResponse]
    ) -> pb.GetModelResponse:
        """Return one model, or NOT_FOUND."""
        try:
            info = registry.find_entry_of_any_kind(request.name, request.version).info
        except UnknownModelError as unknown:
            await _not_found(unknown, context)
        return pb.GetModelResponse(model=self._message(info))

    async def GetModelHistory(  # noqa: N802 - named by the proto
        self,
        request: pb.GetModelHistoryRequest,
        context: grpc.aio.ServicerContext[pb.GetModelHistoryRequest, pb.GetModelHistoryResponse],
    ) -> pb.GetModelHistoryResponse:
        """Return all versions of a model, or NOT_FOUND."""
        try:
            registry.find_entry_of_any_kind(request.name)
        except UnknownModelError as unknown:
            await _not_found(unknown, context)
        name = request.name.partition("@")[0]
        try:
            state = await asyncio.to_thread(read_state, folders.models_folder(), name)
            promotions = state.promotions
        except StoreError:
            promotions = ()  # the catalogue has warned of it
        known = (*registry.entries(), *registry.head_entries())
        return pb.GetModelHistoryResponse(
            versions=[self._version_message(entry) for entry in known if entry.info.name == name],
            promotions=[
                pb.ModelPromotion(version=promotion.version, at=promotion.at, action=promotion.action)
                for promotion in promotions
            ],
        )

    def _message(self, info: ModelInfo) -> pb.Model:
        return _model_message(info, ready=self._ready(work_of(info)))

    def _version_message(self, entry: registry.Entry) -> pb.ModelVersion:
        info, stored = entry.info, entry.stored
        use = self._metrics.model_uses.get((info.name, info.version), ModelUse())
        lineage = None if stored is None else stored.manifest.lineage
        return pb.ModelVersion(
            model=self._message(info),
            added="" if stored is None or stored.origin == "shipped" else stored.added,
            lineage=None if lineage is None or lineage == Lineage() else _lineage_message(lineage),
            use=pb.ModelUse(
                requests=use.requests,
                failures=use.failures,
                mean_seconds=use.mean_seconds,
                mean_residual=use.mean_residual,
                residuals=use.residuals,
            ),
        )


async def _not_found(unknown: UnknownModelError, context: grpc.aio.ServicerContext[Any, Any]) -> NoReturn:
    """End the call: there is no such model."""
    error = ModelNotFoundError(str(unknown.args[0]), reason="NO_SUCH_MODEL", field="name")
    await context.abort(status_code(error), shortened(error.message), status_details(error, ""))


def _lineage_message(lineage: Lineage) -> pb.ModelLineage:
    return pb.ModelLineage(
        parent=lineage.parent,
        hyperparameters=json.dumps(lineage.hyperparameters, ensure_ascii=False),
        metrics=lineage.metrics,
        data=[json.dumps(source, ensure_ascii=False) for source in lineage.data],
    )


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
        package=info.package,
        promoted=info.promoted,
        canary_share=info.canary_share,
        head=None if info.head is None else _head_message(info.head),
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
        required=contract.required,
    )


def _head_message(contract: HeadContract) -> pb.HeadContract:
    return pb.HeadContract(
        task=contract.task,
        groups=[pb.HeadGroup(name=group.name, classes=group.names) for group in contract.groups],
        slices=contract.slices,
        fewest_slices=contract.fewest_slices,
        coarsest_pixel_mm=contract.coarsest_mm[0],
        coarsest_slice_mm=contract.coarsest_mm[1],
        anatomy=contract.anatomy,
        contrasts=contract.contrasts,
    )


def _range_message(limits: Range | None) -> pb.Range | None:
    return None if limits is None else pb.Range(least=limits[0], most=limits[1])
