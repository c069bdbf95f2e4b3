"""Which frames go together, and whether it is worth waiting for one more."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from recond_service.scheduling.bucket import Bucket
from recond_service.scheduling.cost import CostModel
from recond_service.scheduling.job import FrameJob
from recond_service.scheduling.waiting import WaitingFrames
from recond_service.types import Priority

_HELD_UP = 1.25  # a frame's batch may take this much longer because of frames that are less urgent
_SMOOTHING = 0.2
_SHORTEST_GAP = 1e-4
_MOST_BUCKETS = 256


@dataclass(frozen=True, slots=True)
class Choice:
    """What to hand to a server now.

    Parameters
    ----------
    jobs
        The batch; empty if nothing should run now.
    seconds
        Prediction for the batch.
    held_seconds
        How long it was held back for company.
    wake_at
        When to look again, if frames are held back for company.
    """

    jobs: list[FrameJob]
    seconds: float = 0.0
    held_seconds: float = 0.0
    wake_at: float | None = None


class Arrivals:
    """How often frames of a bucket come: the geometric mean of the gaps, lately, so that a pause between bursts counts little.

    Only so many buckets are remembered.
    """

    def __init__(self) -> None:
        self._gaps: dict[Bucket, tuple[float, float | None]] = {}  # last arrival, mean logarithm of the gap

    def note(self, bucket: Bucket, now: float) -> None:
        """Take note that a frame has come."""
        known = self._gaps.pop(bucket, None)
        mean: float | None = None
        if known is not None:
            last, mean = known
            new = math.log(max(now - last, _SHORTEST_GAP))
            mean = new if mean is None else mean + _SMOOTHING * (new - mean)
        self._gaps[bucket] = (now, mean)
        if len(self._gaps) > _MOST_BUCKETS:
            del self._gaps[next(iter(self._gaps))]

    def next_after(self, bucket: Bucket, now: float) -> float | None:
        """Return when the next frame can be expected, None if there is no telling."""
        last, mean = self._gaps.get(bucket, (now, None))
        return None if mean is None else max(last + math.exp(mean), now)


class Batching:
    """Chooses batches: as large as is cheapest by frame, no larger than deadlines and memory allow.

    Parameters
    ----------
    costs
        What batches cost.
    arrivals
        How often frames come.
    longest_wait
        Most seconds that a frame is held back for company while a server is free.
    """

    def __init__(self, costs: CostModel, arrivals: Arrivals, longest_wait: float = 0.02) -> None:
        self._costs = costs
        self._arrivals = arrivals
        self._longest_wait = longest_wait
        self._held_since: dict[FrameJob, float] = {}

    def choose(
        self,
        waiting: WaitingFrames,
        now: float,
        starts: float,
        memory_bytes: int = 0,
        speed: float = 1.0,
        elsewhere: Callable[[FrameJob], bool] = lambda job: False,  # noqa: ARG005
    ) -> Choice:
        """Choose what a server should do next. The chosen frames stay in `waiting`.

        Parameters
        ----------
        waiting
            The frames to choose from.
        now
            Time on the clock of the scheduler, s.
        starts
            When the server is predicted to begin the batch. If that is not now, no frame is held back: others may join its batch
            until then, but what is handed over is handed over late as it is.
        memory_bytes
            What a batch may take on the server, 0 for no such limit.
        speed
            By what the server's times differ from those predicted.
        elsewhere
            Tells of frames, and with them all of their bucket, that are not for this server.
        """
        held: Mapping[FrameJob, float] = self._held_since
        self._held_since = {job: since for job, since in held.items() if job in waiting and elsewhere(job)}
        wake_at: float | None = None
        passed: set[Bucket] = set()
        while (head := waiting.head(now, lambda job: job.bucket in passed or elsewhere(job))) is not None:
            jobs, seconds = self._fill(waiting, head, starts, memory_bytes, speed)
            until = None if starts > now else self._hold_until(head, jobs, now, held.get(head, now))
            if until is None:
                return Choice(jobs, seconds, now - held.get(head, now))
            self._held_since[head] = held.get(head, now)
            wake_at = until if wake_at is None else min(wake_at, until)
            passed.add(head.bucket)
        return Choice([], wake_at=wake_at)

    def _fill(
        self, waiting: WaitingFrames, head: FrameJob, starts: float, memory_bytes: int, speed: float
    ) -> tuple[list[FrameJob], float]:
        costs, bucket = self._costs, head.bucket
        jobs = [head]
        seconds = own = costs.seconds(bucket, [head.coils]) * speed
        preferred = costs.preferred_size(bucket)
        trial = None if head.priority == Priority.STAT else costs.size_to_try(bucket)
        candidates = waiting.companions(head, max(preferred, trial or 1) - 1)
        size = trial if trial is not None and len(candidates) + 1 >= trial else preferred
        margin = costs.margin(bucket)
        latest = _latest(head)
        for job in candidates[: size - 1]:
            coils = [each.coils for each in jobs] + [job.coils]
            longer = costs.seconds(bucket, coils) * speed
            if job.priority > head.priority:
                if longer > _HELD_UP * own:
                    break
            else:
                own = longer
            if starts + longer * margin > min(latest, _latest(job)):
                break
            if memory_bytes and costs.peak_bytes(bucket, coils) > memory_bytes:
                break
            jobs.append(job)
            seconds, latest = longer, min(latest, _latest(job))
        return jobs, seconds

    def _hold_until(self, head: FrameJob, jobs: list[FrameJob], now: float, held_since: float) -> float | None:
        """Return until when to hold a batch back, None if it should go now.

        Holding pays while the seconds that one more frame would save exceed those that all in the batch are expected to wait.
        """
        bucket = head.bucket
        if head.alone or len(jobs) >= self._costs.preferred_size(bucket):
            return None
        expected = self._arrivals.next_after(bucket, now)
        if expected is None:
            return None
        until = max(expected, now + _SHORTEST_GAP)
        gain = self._costs.gain(bucket, len(jobs))
        if until > held_since + self._longest_wait or gain <= (until - now) * len(jobs):
            return None
        seconds = self._costs.seconds(bucket, [job.coils for job in jobs]) * self._costs.margin(bucket)
        return until if until + seconds <= min(_latest(job) for job in jobs) else None


def _latest(job: FrameJob) -> float:
    return float("inf") if job.deadline is None else job.deadline
