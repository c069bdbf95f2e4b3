"""From the wire to `Model`."""

from __future__ import annotations

from recond.v1 import model_pb2
from recond_client.result import Model


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
    )
