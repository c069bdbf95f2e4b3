"""Model servers: they take packed batches of frames and give images back."""

from recond_service.backends.backend import (
    ALL_WORK,
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
    Work,
    work_of,
)
from recond_service.backends.embedded.fleet import EmbeddedBackend
from recond_service.backends.joined import JoinedBackend

__all__ = [
    "ALL_WORK",
    "Backend",
    "Batch",
    "BatchOutcome",
    "ComputedFrame",
    "EmbeddedBackend",
    "FrameInput",
    "JoinedBackend",
    "Measurement",
    "ModelServer",
    "ServerLostError",
    "SlicesInput",
    "TooLargeError",
    "Work",
    "work_of",
]
