"""Model servers: they take packed batches of frames and give images back."""

from recond_service.backends.backend import (
    Backend,
    Batch,
    BatchOutcome,
    ComputedFrame,
    FrameInput,
    Measurement,
    ModelServer,
    ServerLostError,
    SlicesInput,
    TooLargeError,
)
from recond_service.backends.embedded.fleet import EmbeddedBackend

__all__ = [
    "Backend",
    "Batch",
    "BatchOutcome",
    "ComputedFrame",
    "EmbeddedBackend",
    "FrameInput",
    "Measurement",
    "ModelServer",
    "ServerLostError",
    "SlicesInput",
    "TooLargeError",
]
