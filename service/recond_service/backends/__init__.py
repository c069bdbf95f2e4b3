"""Model servers: they take packed batches of frames and give images back."""

from recond_service.backends.backend import Backend, BatchOutcome, FrameInput, WorkerLostError
from recond_service.backends.embedded.supervisor import EmbeddedBackend

__all__ = ["Backend", "BatchOutcome", "EmbeddedBackend", "FrameInput", "WorkerLostError"]
