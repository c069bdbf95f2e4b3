"""Client of recond, an MRI reconstruction service: raw k-space in, images and their quality figures out."""

from recond_client import aio
from recond_client.acquisitions import AcquisitionBatch, batches_of
from recond_client.analysis import AnalysedStack, Analysis, Comparison, Visit
from recond_client.calls import ImageStream
from recond_client.client import Client
from recond_client.errors import InputError, RecondError, RetryLaterError, ServiceError
from recond_client.heads import HeadResult, Instance, Measurement
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
from recond_client.result import (
    Candidate,
    Evidence,
    Figures,
    Finding,
    Geometry,
    Image,
    ImageIndex,
    Progress,
    Result,
    Seconds,
    Stack,
)
from recond_client.retry import RetryPolicy

__all__ = [
    "AcquisitionBatch",
    "AnalysedStack",
    "Analysis",
    "Candidate",
    "Client",
    "Comparison",
    "Evidence",
    "Figures",
    "Finding",
    "Geometry",
    "HeadContract",
    "HeadResult",
    "Image",
    "ImageIndex",
    "ImageStream",
    "InputError",
    "Instance",
    "Measurement",
    "Model",
    "ModelContract",
    "ModelHistory",
    "ModelLineage",
    "ModelPromotion",
    "ModelUse",
    "ModelVersion",
    "Progress",
    "RecondError",
    "Result",
    "RetryLaterError",
    "RetryPolicy",
    "Seconds",
    "ServiceError",
    "Stack",
    "Visit",
    "aio",
    "batches_of",
]
