"""Who may come in, and whose frame goes next. The only queue of the service."""

from recond_service.scheduling.admission import Admission, Ticket
from recond_service.scheduling.scheduler import FrameJob, FrameOutcome, Scheduler

__all__ = ["Admission", "FrameJob", "FrameOutcome", "Scheduler", "Ticket"]
