"""From the wire to `Model`."""

from __future__ import annotations

from recond.v1 import model_pb2
from recond_client.result import Model, ModelContract


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
        **ranges,
    )
