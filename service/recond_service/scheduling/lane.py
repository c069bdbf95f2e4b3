"""What the scheduler knows of a model server: the batches that it has, and when it can take the next."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from recond_service.backends import Batch, ModelServer
from recond_service.scheduling.cost import CostModel
from recond_service.scheduling.job import FrameJob

_LEAST_LEAD = (
    0.01  # a batch is handed over so many seconds before the server runs dry: the way there and back takes a few ms
)
_MOST_DOUBT = 0.25


@dataclass(slots=True, eq=False)
class BatchInFlight:
    """A batch that a server has.

    Parameters
    ----------
    batch
        The batch.
    jobs
        Its frames.
    handed_over
        When it was handed over.
    ends
        When it is predicted to be done.
    held_seconds
        How long it was held back for company before.
    recalled
        It comes back without being computed.
    """

    batch: Batch
    jobs: list[FrameJob]
    handed_over: float
    ends: float
    held_seconds: float
    recalled: bool = False


@dataclass(slots=True, eq=False)
class Lane:
    """A model server and its batches.

    Parameters
    ----------
    server
        The server.
    running
        What it has, whether begun or not.
    speed
        By what its times differ from those predicted.
    """

    server: ModelServer
    running: list[BatchInFlight] = field(default_factory=list)
    speed: float = 1.0

    @property
    def wanted(self) -> list[BatchInFlight]:
        """Batches that it has and is going to compute, in the order in which they are predicted to end."""
        return sorted((running for running in self.running if not running.recalled), key=lambda running: running.ends)

    @property
    def staged(self) -> list[BatchInFlight]:
        """Batches that were handed over ahead, and have not begun if the predictions are right."""
        return self.wanted[self.server.concurrency :]

    def busy_until(self, now: float) -> float:
        """Return when it is predicted to have nothing more to do."""
        return max((running.ends for running in self.wanted), default=now)

    def free_at(self, now: float) -> float:
        """Return when it is predicted to begin another batch."""
        wanted = self.wanted
        behind = len(wanted) - self.server.concurrency
        return now if behind < 0 else wanted[behind].ends

    def opens_at(self, now: float, costs: CostModel) -> float:
        """Return when it may be given its next batch, infinity if not before it has answered.

        Nothing runs beside a frame whose server was lost before: if that happens again, there must be no doubt whose fault it is.
        """
        if any(job.suspect for running in self.running for job in running.jobs):
            return math.inf
        wanted = self.wanted
        behind = len(wanted) - self.server.concurrency
        if behind < 0:
            return now
        if behind > 0 or not all(costs.knows(running.jobs[0].bucket) for running in wanted):
            return math.inf
        first = wanted[0]
        doubt = min(costs.margin(first.jobs[0].bucket) - 1, _MOST_DOUBT)
        return first.ends - max(_LEAST_LEAD, doubt * (first.ends - first.handed_over))
