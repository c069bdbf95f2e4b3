"""What the pipeline needs of the service."""

from __future__ import annotations

from dataclasses import dataclass

from recond_service.config import Settings
from recond_service.sandbox import SandboxPool
from recond_service.scheduling import Admission, Scheduler, UploadCosts
from recond_service.telemetry import Metrics


@dataclass(frozen=True, slots=True)
class Services:
    """What the pipeline needs of the service.

    Parameters
    ----------
    settings
        Limits and times.
    admission
        Lets requests in.
    scheduler
        Takes frames to model servers.
    upload_costs
        Predicts what an upload will cost.
    sandboxes
        Where scans are read.
    metrics
        Counts images and figures.
    """

    settings: Settings
    admission: Admission
    scheduler: Scheduler
    upload_costs: UploadCosts
    sandboxes: SandboxPool
    metrics: Metrics
