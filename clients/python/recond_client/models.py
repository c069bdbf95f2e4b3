"""From the wire to `Model` and `ModelHistory`."""

from __future__ import annotations

import json

from recond.v1 import model_pb2
from recond_client.model import (
    HeadContract,
    Model,
    ModelContract,
    ModelHistory,
    ModelLineage,
    ModelPromotion,
    ModelUse,
    ModelVersion,
)


def model_of(message: model_pb2.Model) -> Model:
    """Return a model as the service describes it."""
    return Model(
        name=message.name,
        version=message.version,
        description=message.description,
        kind=message.kind,
        weights_sha256=message.weights_sha256,
        needs_calibration=message.needs_calibration,
        reference=message.reference,
        ready=message.ready,
        origin=message.origin,
        family=message.family,
        precision=message.precision,
        licence=message.licence,
        source=message.source,
        contract=_contract_of(message.contract) if message.HasField("contract") else None,
        package=message.package,
        promoted=message.promoted,
        canary_share=message.canary_share,
        head=_head_of(message.head) if message.HasField("head") else None,
    )


def history_of(message: model_pb2.GetModelHistoryResponse) -> ModelHistory:
    """Return the history of a model as the service tells it."""
    return ModelHistory(
        tuple(_version_of(version) for version in message.versions),
        tuple(ModelPromotion(entry.version, entry.at, entry.action) for entry in message.promotions),
    )


def _version_of(message: model_pb2.ModelVersion) -> ModelVersion:
    use = message.use
    return ModelVersion(
        model_of(message.model),
        message.added,
        _lineage_of(message.lineage) if message.HasField("lineage") else None,
        ModelUse(use.requests, use.failures, use.mean_seconds, use.mean_residual, use.residuals),
    )


def _lineage_of(message: model_pb2.ModelLineage) -> ModelLineage:
    return ModelLineage(
        message.parent,
        json.loads(message.hyperparameters or "{}"),
        dict(message.metrics),
        tuple(json.loads(source) for source in message.data),
    )


def _contract_of(message: model_pb2.ModelContract) -> ModelContract:
    ranges = {
        name: (getattr(message, name).least, getattr(message, name).most) if message.HasField(name) else None
        for name in ("acceleration", "coils", "rows", "columns")
    }
    return ModelContract(
        patterns=tuple(message.patterns),
        calibration=(message.calibration_rows, message.calibration_columns),
        requires_calibration=message.requires_calibration,
        anatomy=message.anatomy,
        contrast=message.contrast,
        required=tuple(message.required),
        **ranges,
    )


def _head_of(message: model_pb2.HeadContract) -> HeadContract:
    return HeadContract(
        task=message.task,
        groups={group.name: tuple(group.classes) for group in message.groups},
        slices=message.slices,
        fewest_slices=message.fewest_slices,
        coarsest_pixel_mm=message.coarsest_pixel_mm,
        coarsest_slice_mm=message.coarsest_slice_mm,
        anatomy=message.anatomy,
        contrasts=tuple(message.contrasts),
    )
