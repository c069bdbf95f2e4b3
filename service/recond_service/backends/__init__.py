"""Model servers: they take packed batches of frames and give images back."""

from recond_service.backends.backend import (
    Backend,
    Batch,
    BatchOutcome,
    FrameInput,
    Measurement,
    ModelServer,
    Note,
    ServerLostError,
    TooLargeError,
)
from recond_service.backends.embedded.fleet import EmbeddedBackend

__all__ = [
    "Backend",
    "Batch",
    "BatchOutcome",
    "EmbeddedBackend",
    "FrameInput",
    "Measurement",
    "ModelServer",
    "Note",
    "ServerLostError",
    "TooLargeError",
]
