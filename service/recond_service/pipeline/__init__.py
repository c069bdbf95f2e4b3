"""One scan from its source to its results, free of gRPC: every way in uses it, and gets events.

`ScanPipeline.run` takes a source of bytes or acquisitions and a sink of events. `FrameComputation` is the half of it that takes one
frame to a model server and back, which single frames (KServe) use alone.
"""

from recond_service.pipeline.analysis_pipeline import AnalysisPipeline
from recond_service.pipeline.canary import TriedComputation, canary_for
from recond_service.pipeline.context import Caller, Elapsed, Record, RequestContext
from recond_service.pipeline.events import (
    Admitted,
    Analysed,
    Compared,
    Event,
    FileReady,
    Finished,
    HeadReady,
    ImageReady,
    Planned,
    Sink,
)
from recond_service.pipeline.evidence import CandidateEvidence, Evidence
from recond_service.pipeline.frame_computation import FrameComputation
from recond_service.pipeline.head_tasks import HeadTasks, named_heads, named_structures
from recond_service.pipeline.model_choice import ModelChoice, named_model
from recond_service.pipeline.received_frame import ReceivedFrame, receive_frame
from recond_service.pipeline.request import ReconstructionRequest
from recond_service.pipeline.scan_pipeline import ScanPipeline
from recond_service.pipeline.services import Services
from recond_service.pipeline.sources import AcquisitionBatch, AcquisitionSource, PartSource, Source

__all__ = [
    "AcquisitionBatch",
    "AcquisitionSource",
    "Admitted",
    "Analysed",
    "AnalysisPipeline",
    "Caller",
    "CandidateEvidence",
    "Compared",
    "Elapsed",
    "Event",
    "Evidence",
    "FileReady",
    "Finished",
    "FrameComputation",
    "HeadReady",
    "HeadTasks",
    "ImageReady",
    "ModelChoice",
    "PartSource",
    "Planned",
    "ReceivedFrame",
    "ReconstructionRequest",
    "Record",
    "RequestContext",
    "ScanPipeline",
    "Services",
    "Sink",
    "Source",
    "TriedComputation",
    "canary_for",
    "named_heads",
    "named_model",
    "named_structures",
    "receive_frame",
]
