"""Orders frames and hands them to the backend in batches of equal rows and columns."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from recond_models.registry import ModelInfo
from recond_service.backends.backend import Backend, FrameInput, Note, WorkerLostError
from recond_service.transport import SharedBlock
from recond_service.types import DeadlineExceededError, Priority, RecondError, UnavailableError

_SMOOTHING = 0.2  # weight of the newest frame in the running mean of seconds per frame
_MOST_TRIES = 2  # a frame whose worker died is run once more; a second death is likely to be its own fault


@dataclass(frozen=True, slots=True)
class FrameOutcome:
    """What became of a frame.

    Parameters
    ----------
    image
        Shared memory: float32 (rows, columns). The receiver owns it.
    residual
        ``||A x - y|| / ||y||``, or None.
    queue_seconds, compute_seconds
        Time in the queue and in the model.
    notes
        What the model noticed on the frame: (code, message).
    """

    image: SharedBlock
    residual: float | None
    queue_seconds: float
    compute_seconds: float
    notes: tuple[Note, ...] = ()


@dataclass(slots=True, eq=False)
class FrameJob:
    """A frame that wants to be reconstructed.

    Parameters
    ----------
    model
        By what.
    frame
        The frame. Stays the submitter's: it is closed by the submitter once `done` is settled.
    client
        Whose it is, for fairness between clients.
    priority
        How urgent it is.
    deadline
        Time on the scheduler's clock after which nobody wants the image, or None.
    done
        Settled by the scheduler. Cancel it to withdraw the frame.
    """

    model: ModelInfo
    frame: FrameInput
    client: str
    priority: Priority
    deadline: float | None
    done: asyncio.Future[FrameOutcome]
    submitted: float = 0.0
    tries: int = 0
    order: tuple[float, ...] = field(default=())

    @property
    def bucket(self) -> tuple[str, str, str, int, int]:
        """Frames of one bucket can share a batch."""
        model, layout = self.model, self.frame.layout
        return (model.name, model.version, model.weights_sha256, layout.rows, layout.columns)


class Scheduler:
    """The one owner of waiting frames.

    Within a priority class, clients take turns by virtual time (start-time fair queueing, Goyal et al. 1996): a volume of
    300 slices does not keep another client's single slice waiting. Nothing waits for company: a batch takes what is there.

    Parameters
    ----------
    backend
        Where batches go.
    clock
        Seconds, monotonic.
    """

    def __init__(self, backend: Backend, clock: Callable[[], float]) -> None:
        self._backend = backend
        self._clock = clock
        self._heap: list[tuple[tuple[float, ...], FrameJob]] = []
        self._numbers = itertools.count()
        self._virtual_now = 0.0
        self._virtual_by_client: dict[str, float] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._frame_seconds = 1.0

    @property
    def waiting(self) -> int:
        """Frames in the queue, withdrawn ones included until their turn comes."""
        return len(self._heap)

    def backlog_seconds(self) -> float:
        """Return the predicted time until the frames that wait now are done."""
        return (len(self._heap) + len(self._running)) * self._frame_seconds / max(self._backend.slots, 1)

    def submit(self, job: FrameJob) -> None:
        """Queue a frame. Its `done` gets the outcome, or the RecondError that kept it from one."""
        start = max(self._virtual_now, self._virtual_by_client.get(job.client, 0.0))
        self._virtual_by_client[job.client] = start + 1.0
        job.submitted = self._clock()
        job.order = (float(job.priority), start, float(next(self._numbers)))
        heapq.heappush(self._heap, (job.order, job))
        self.dispatch()

    def dispatch(self) -> None:
        """Hand out batches while the backend has free slots. Call it when a backend comes up."""
        while self._heap and len(self._running) < self._backend.slots:
            batch = self._take_batch()
            if batch:
                task = asyncio.get_running_loop().create_task(self._run(batch))
                self._running.add(task)
                task.add_done_callback(self._ended)
        if not self._heap:
            self._virtual_by_client.clear()
            self._virtual_now = 0.0

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            task.get_loop().call_exception_handler({"message": "batch failed", "exception": task.exception()})
        self.dispatch()

    def _take_batch(self) -> list[FrameJob]:
        """Take the first job and those behind it that can share its batch; drop the withdrawn and the late."""
        batch: list[FrameJob] = []
        passed_over: list[tuple[tuple[float, ...], FrameJob]] = []
        while self._heap and len(batch) < self._backend.max_batch:
            order, job = heapq.heappop(self._heap)
            if job.done.done():
                continue
            if job.deadline is not None and self._clock() >= job.deadline:
                job.done.set_exception(
                    DeadlineExceededError(
                        "the deadline passed while a frame waited for a worker; allow more time, or come back later",
                        reason="DEADLINE_IN_QUEUE",
                    )
                )
                continue
            if batch and job.bucket != batch[0].bucket:
                passed_over.append((order, job))
                continue
            batch.append(job)
            self._virtual_now = max(self._virtual_now, order[1])
        for item in passed_over:
            heapq.heappush(self._heap, item)
        return batch

    async def _run(self, batch: list[FrameJob]) -> None:
        started = self._clock()
        for job in batch:
            job.tries += 1
        try:
            outcome = await self._backend.run(batch[0].model, [job.frame for job in batch])
        except WorkerLostError:
            self._requeue(batch)
        except RecondError as error:
            for job in batch:
                if not job.done.done():
                    job.done.set_exception(error)
        else:
            share = outcome.seconds / len(batch)
            self._frame_seconds += _SMOOTHING * (share - self._frame_seconds)
            notes = outcome.notes or ((),) * len(batch)
            for job, image, residual, noticed in zip(batch, outcome.images, outcome.residuals, notes, strict=True):
                if job.done.done():
                    image.close()
                else:
                    job.done.set_result(FrameOutcome(image, residual, started - job.submitted, share, noticed))

    def _requeue(self, batch: list[FrameJob]) -> None:
        for job in batch:
            if job.done.done():
                continue
            if job.tries < _MOST_TRIES:
                heapq.heappush(self._heap, (job.order, job))
            else:
                job.done.set_exception(
                    UnavailableError(
                        "the worker died twice while it had this frame; try again, and report the request id if it happens "
                        "again",
                        reason="WORKER_LOST",
                        retry_after=5.0,
                    )
                )

    def refuse_waiting(self, error: RecondError) -> None:
        """Give every frame that waits this error."""
        while self._heap:
            _, job = heapq.heappop(self._heap)
            if not job.done.done():
                job.done.set_exception(error)

    async def close(self) -> None:
        """Stop what runs and refuse what waits."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self.refuse_waiting(
            UnavailableError("this service has shut down; try another one", reason="DRAINING", retry_after=5.0)
        )
