"""Who may come in, whose frame goes next, and which frames go together. The only queue of the service."""

from recond_service.scheduling.admission import Admission, Demand, Ticket
from recond_service.scheduling.bucket import Bucket
from recond_service.scheduling.cost import CostModel
from recond_service.scheduling.job import FrameJob, FrameOutcome
from recond_service.scheduling.observer import BatchReport, Observer
from recond_service.scheduling.scheduler import Scheduler
from recond_service.scheduling.upload_costs import UploadCosts

__all__ = [
    "Admission",
    "BatchReport",
    "Bucket",
    "CostModel",
    "Demand",
    "FrameJob",
    "FrameOutcome",
    "Observer",
    "Scheduler",
    "Ticket",
    "UploadCosts",
]
