"""What happens to a batch on a device, the same on every backend: model, finishing, one result a frame."""

from recond_service.execution.device import Device, device_of, ran_out_of_memory
from recond_service.execution.run_batch import (
    Answer,
    BatchResult,
    FrameResult,
    ModelFailedError,
    OutOfDeviceMemoryError,
    run_batch,
)
from recond_service.execution.run_head import HeadAnswer, run_head

__all__ = [
    "Answer",
    "BatchResult",
    "Device",
    "FrameResult",
    "HeadAnswer",
    "ModelFailedError",
    "OutOfDeviceMemoryError",
    "device_of",
    "ran_out_of_memory",
    "run_batch",
    "run_head",
]
