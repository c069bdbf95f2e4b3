"""What the rooms of the service hand to each other: plain dataclasses, no behaviour beyond their own consistency."""

from recond_service.types.errors import (
    DeadlineExceededError,
    DefectError,
    InvalidInputError,
    LimitExceededError,
    ModelNotFoundError,
    OverloadedError,
    RecondError,
    UnavailableError,
    UnsupportedDataError,
)
from recond_service.types.findings import Finding, FindingList, Severity
from recond_service.types.frame import Frame, FrameIndex, Geometry
from recond_service.types.request import (
    Limits,
    OutputFormat,
    Part,
    PartFormat,
    PartRole,
    Priority,
    ScanRequest,
    Undersampling,
    UndersamplingKind,
)
from recond_service.types.result import Figures, FinishedImage

__all__ = [
    "DeadlineExceededError",
    "DefectError",
    "Figures",
    "Finding",
    "FindingList",
    "FinishedImage",
    "Frame",
    "FrameIndex",
    "Geometry",
    "InvalidInputError",
    "LimitExceededError",
    "Limits",
    "ModelNotFoundError",
    "OutputFormat",
    "OverloadedError",
    "Part",
    "PartFormat",
    "PartRole",
    "Priority",
    "RecondError",
    "ScanRequest",
    "Severity",
    "UnavailableError",
    "Undersampling",
    "UndersamplingKind",
    "UnsupportedDataError",
]
