"""The one owner of waiting frames: orders them, packs them into batches, and hands these to model servers."""

from __future__ import annotations

import asyncio
import functools
import heapq
import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import structlog

from recond_models.model import ModelInfo
from recond_service.backends import (
    ALL_WORK,
    Batch,
    BatchOutcome,
    Measurement,
    ModelServer,
    ServerLostError,
    TooLargeError,
    Work,
    work_of,
)
from recond_service.scheduling.batching import Arrivals, Batching, Choice
from recond_service.scheduling.bucket import Bucket
from recond_service.scheduling.cost import CostModel
from recond_service.scheduling.job import FrameJob, FrameOutcome
from recond_service.scheduling.lane import BatchInFlight, Lane
from recond_service.scheduling.observer import BatchReport, Observer
from recond_service.scheduling.waiting import WaitingFrames
from recond_service.types import DeadlineExceededError, LimitExceededError, RecondError, UnavailableError

_log = structlog.get_logger(__name__)

_MOST_TRIES = 2  # a frame whose server died is run once more; a second death is likely to be its own fault
_FRAMES_AHEAD = 4
_SPEED_SMOOTHING = 0.1
_HOPELESS = 0.8  # a frame is given up when even this part of the predicted time does not fit before its deadline


class Timer(Protocol):
    """A call in the future that can be cancelled."""

    def cancel(self) -> None:
        """Do not call."""


class Scheduler:
    """Hands waiting frames to model servers.

    Batches hold frames of one bucket, see `Bucket`; whose turn it is, see `WaitingFrames`; how many go together, see `Batching`. A
    server gets its next batch shortly before it is predicted to end the last, so that it does not idle. A
    batch that has not begun when a more urgent frame comes is taken back. Of several servers that have the model, the first that is
    free gets the batch; frames whose model only servers have that are down wait for these.

    A frame fails alone: a batch that failed is run again, each frame by itself. A frame whose server was lost runs once more, by
    itself, on a server that has nothing else: if it was what brought the server down, no other pays for that twice. Frames that are
    withdrawn leave the queue, or their batch.

    Parameters
    ----------
    servers
        Where batches go. Whoever has them calls `dispatch` when one comes up or has other models.
    clock
        Seconds, monotonic.
    call_at
        Calls something at a time of that clock.
    costs
        What batches cost; learns from every batch.
    observer
        Told of what happens, for metrics.
    weights
        Shares of clients by name, 1 for all others.
    ageing_seconds
        After this long without a turn a class of less urgent frames gets one.
    """

    def __init__(
        self,
        servers: Sequence[ModelServer],
        clock: Callable[[], float],
        call_at: Callable[[float, Callable[[], None]], Timer] | None = None,
        costs: CostModel | None = None,
        observer: Observer | None = None,
        weights: Mapping[str, float] | None = None,
        ageing_seconds: float = 10.0,
    ) -> None:
        self._lanes = [Lane(server) for server in servers]
        self._clock = clock
        self._call_at = call_at or asyncio.get_running_loop().call_at
        self.costs = costs or CostModel()
        self._observer = observer or Observer()
        self._waiting = WaitingFrames(self._seconds_of, ageing_seconds, weights)
        self._arrivals = Arrivals()
        self._batching = Batching(self.costs, self._arrivals)
        self._expiring: list[
            tuple[float, int, FrameJob]
        ] = []  # when to give up frames that wait, and some that no longer do
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: Timer | None = None
        self._timer_at = math.inf

    # --- what others see ---

    @property
    def waiting(self) -> int:
        """Frames in the queue."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Frames that servers have."""
        return sum(len(running.jobs) for lane in self._lanes for running in lane.running)

    @property
    def capacity(self) -> int:
        """How many batches of frames the servers that are up reconstruct at once."""
        return self.capacity_for("reconstruction")

    def capacity_for(self, work: Work) -> int:
        """Return how many batches of one kind of work the servers that are up compute at once."""
        return sum(lane.server.concurrency for lane in self._lanes if lane.server.up and work in lane.server.work)

    def does(self, work: Work) -> bool:
        """Tell whether there is a server, up or not, for some work."""
        return any(work in lane.server.work for lane in self._lanes)

    def serves(self, model: ModelInfo) -> bool:
        """Tell whether a server that is up has a model."""
        return any(lane.server.up and lane.server.has(model) for lane in self._lanes)

    def predict_seconds(self, model: ModelInfo, shapes: Sequence[tuple[int, int, int]]) -> float:
        """Predict how long one server computes frames one after another; 0 if nothing is known of the model.

        Parameters
        ----------
        model
            The model that reconstructs them.
        shapes
            (coils, rows, columns) of each frame.
        """
        total = 0.0
        for coils, rows, columns in shapes:
            bucket = Bucket.of(model, rows, columns)
            total += self.costs.seconds(bucket, [coils]) if self.costs.knows(bucket) else 0.0
        return total

    def backlog_seconds(self) -> float:
        """Return the predicted time until the frames that wait and run now are done: of the work that takes longest."""
        now = self._clock()
        longest = 0.0
        for work in ALL_WORK:
            lanes = [lane for lane in self._lanes if work in lane.server.work]
            theirs = {other for lane in lanes for other in lane.server.work} or {work}
            rest = sum(max(lane.busy_until(now) - now, 0.0) for lane in lanes)
            rest += sum(self._seconds_of(job) for job in self._waiting if work_of(job.model) in theirs)
            longest = max(longest, rest / max(self.capacity_for(work), 1))
        return longest

    def frames_ahead(self, model: str = "") -> int:
        """Return how many frames of one request may be under way, so that batches of the size that pays can be filled.

        Parameters
        ----------
        model
            Name of the model, empty if that is not decided.
        """
        sizes = (self.costs.preferred_size(bucket) for bucket in self.costs.buckets_of(model))
        return max(_FRAMES_AHEAD, 2 * self.capacity + 1, 2 * max(sizes, default=1) + 1)

    def learn(self, measurements: Sequence[Measurement]) -> None:
        """Take over what servers measured at their warm-up, where nothing is known yet."""
        for each in measurements:
            bucket = Bucket(each.model, each.version, each.weights_sha256, each.rows, each.columns)
            if not self.costs.measured(bucket, len(each.coils)):
                self.costs.observe(bucket, each.coils, each.seconds, each.peak_bytes)

    # --- frames come and go ---

    def submit(self, job: FrameJob) -> None:
        """Queue a frame. Its `done` gets the outcome, or the RecondError that kept it from one."""
        now = self._clock()
        job.submitted, job.number = now, next(self._numbers)
        self._arrivals.note(job.bucket, now)
        self._wait(job, now)
        job.done.add_done_callback(lambda _: self._settled(job))
        self.dispatch()

    def _wait(self, job: FrameJob, now: float) -> None:
        self._waiting.add(job, now)
        if job.deadline is not None:
            heapq.heappush(self._expiring, (self._give_up_at(job), next(self._numbers), job))

    def _settled(self, job: FrameJob) -> None:
        """See to it that a frame nobody waits for costs nothing more."""
        if job in self._waiting:
            self._waiting.discard(job)
            self._observer.withdrawn("queue")
            self._release(job)
        elif job.done.cancelled() and job.batch is not None:
            self._observer.withdrawn("server")
            job.batch.withdraw(job.place)

    def refuse_waiting(self, error: RecondError, kinds: Collection[Work] = ALL_WORK) -> None:
        """Give every frame that waits for some kinds of work this error."""
        for job in [job for job in self._waiting if work_of(job.model) in kinds]:
            self._fail_waiting(job, error)

    def _fail_waiting(self, job: FrameJob, error: RecondError) -> None:
        self._waiting.discard(job)
        self._finish(job, error)

    def _finish(self, job: FrameJob, result: FrameOutcome | RecondError) -> None:
        """Settle a frame that no server has and that does not wait."""
        job.batch = None
        if job.done.done():
            if isinstance(result, FrameOutcome):
                result.frame.image.close()
        elif isinstance(result, FrameOutcome):
            job.done.set_result(result)
        else:
            job.done.set_exception(result)
        self._release(job)

    @staticmethod
    def _release(job: FrameJob) -> None:
        """Give the memory of a frame back. That of a large block takes milliseconds: not on the event loop."""
        asyncio.get_running_loop().run_in_executor(None, job.frame.block.close)

    # --- frames are handed over ---

    def dispatch(self) -> None:
        """Hand out what can be handed out now. Call it when a server comes up."""
        now = self._clock()
        self._drop_hopeless(now)
        self._recall_staged(now)
        wake_at = math.inf
        while len(self._waiting):
            chosen, wake_at = self._choose(now)
            if chosen is None:
                break
            lane, choice = chosen
            starts = lane.free_at(now)
            late = [job for job in choice.jobs if starts >= self._give_up_at(job)]
            for job in late:
                self._fail_late(job)
            if not late:
                self._hand_over(lane, choice, now)
        self._wake_at(min(wake_at, self._expiring[0][0] if self._expiring else math.inf), now)

    def _choose(self, now: float) -> tuple[tuple[Lane, Choice] | None, float]:
        """Return what a server should get now, if anything, and when to look again if not.

        A frame goes to the first that is free and has its model, so the next gets only what those before it cannot run.
        """
        up = sorted(
            (lane.opens_at(now, self.costs), lane.free_at(now), place)
            for place, lane in enumerate(self._lanes)
            if lane.server.up
        )
        before: list[Lane] = []
        wake_at = math.inf
        for opens_at, starts, place in up:
            if opens_at > now:
                return None, min(wake_at, opens_at)
            lane = self._lanes[place]
            choice = self._batching.choose(
                *(self._waiting, now, starts, lane.server.memory_bytes, lane.speed),
                functools.partial(self._elsewhere, lane, before),
            )
            if choice.jobs and choice.jobs[0].suspect and lane.running:
                continue  # it gets nothing until it has nothing else; others may take the frame
            if choice.jobs:
                return (lane, choice), now
            wake_at = min(wake_at, choice.wake_at or math.inf)
            before.append(lane)
        return None, wake_at

    def _elsewhere(self, lane: Lane, before: Sequence[Lane], job: FrameJob) -> bool:
        """Tell whether a frame is not for a server, because that cannot run it or one before it can."""
        return not self._serves(lane, job) or any(self._serves(each, job) for each in before)

    def _serves(self, lane: Lane, job: FrameJob) -> bool:
        """Tell whether a server has the model of a frame. If none has, any for such work may say so, or any if there is none."""
        if self.does(work_of(job.model)) and work_of(job.model) not in lane.server.work:
            return False
        return lane.server.has(job.model) or not any(each.server.has(job.model) for each in self._lanes)

    def _recall_staged(self, now: float) -> None:
        """Take batches back that were handed over ahead and have not begun, where a more urgent frame waits."""
        urgent = self._waiting.head(now)
        if urgent is None:
            return
        for lane in self._lanes:
            for staged in lane.staged if self._serves(lane, urgent) else ():
                if all(job.priority > urgent.priority and not job.recalled for job in staged.jobs):
                    staged.recalled = True
                    for job in staged.jobs:
                        job.recalled = True  # once: else a frame whose turn has come at last could be put off for ever
                        staged.batch.withdraw(job.place)

    def _wake_at(self, time: float, now: float) -> None:
        if time == self._timer_at and time > now:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = time
        if time < math.inf:
            self._timer = self._call_at(max(time, now + 1e-4), self._woken)

    def _woken(self) -> None:
        self._timer, self._timer_at = None, math.inf
        self.dispatch()

    def _seconds_of(self, job: FrameJob) -> float:
        return self.costs.seconds(job.bucket, [job.coils])

    def _give_up_at(self, job: FrameJob) -> float:
        """Return when a frame that still waits then cannot make its deadline any more."""
        if job.deadline is None:
            return math.inf
        return job.deadline - (_HOPELESS * self._seconds_of(job) / self.costs.margin(job.bucket))

    def _drop_hopeless(self, now: float) -> None:
        """Fail frames that cannot make their deadline any more: what they would cost is better spent on others."""
        while self._expiring and self._expiring[0][0] <= now:
            _, number, job = heapq.heappop(self._expiring)
            if job not in self._waiting:
                continue
            give_up_at = self._give_up_at(job)
            if give_up_at > now:  # predictions have come down meanwhile
                heapq.heappush(self._expiring, (give_up_at, number, job))
                continue
            self._fail_late(job)

    def _fail_late(self, job: FrameJob) -> None:
        error = DeadlineExceededError(
            "a frame waited for a model server until its deadline could not be met any more; allow more time, or come back later",
            reason="DEADLINE_IN_QUEUE",
        )
        self._fail_waiting(job, error)

    def _hand_over(self, lane: Lane, choice: Choice, now: float) -> None:
        jobs, seconds = choice.jobs, choice.seconds
        self._waiting.take(jobs, now)
        first = jobs[0]
        batch = Batch(first.model, tuple(job.frame for job in jobs), seconds)
        for place, job in enumerate(jobs):
            job.batch, job.place = batch, place
        running = BatchInFlight(batch, jobs, now, lane.free_at(now) + seconds, choice.held_seconds)
        lane.running.append(running)
        task = asyncio.get_running_loop().create_task(self._run(lane, running))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            task.get_loop().call_exception_handler({"message": "batch failed", "exception": task.exception()})
        self.dispatch()

    async def _run(self, lane: Lane, running: BatchInFlight) -> None:
        jobs, batch = running.jobs, running.batch
        began = self._clock()
        try:
            if len(batch.withdrawn) == len(jobs):
                outcome = BatchOutcome((None,) * len(jobs))
            else:
                outcome = await lane.server.run(batch)
        except ServerLostError as error:
            lane.running.remove(running)
            self._after_loss(jobs, begun=error.begun)
        except TooLargeError:
            lane.running.remove(running)
            self._after_too_large(jobs)
        except RecondError as error:
            lane.running.remove(running)
            self._after_failure(jobs, error)
        except asyncio.CancelledError:
            lane.running.remove(running)
            closing = UnavailableError(
                "this service has shut down; try another one", reason="DRAINING", retry_after=5.0
            )
            for job in jobs:
                self._finish(job, closing)
            raise
        else:
            lane.running.remove(running)
            self._after_success(lane, running, outcome, began)

    def _after_success(self, lane: Lane, running: BatchInFlight, outcome: BatchOutcome, began: float) -> None:
        jobs, bucket = running.jobs, running.jobs[0].bucket
        now = self._clock()
        done = [job for job, frame in zip(jobs, outcome.frames, strict=True) if frame is not None]
        if len(done) == len(jobs) and outcome.seconds > 0:
            coils = [job.coils for job in jobs]
            expected = self.costs.seconds(bucket, coils)
            if len(self._lanes) > 1:
                ratio = min(max(outcome.seconds / (expected * lane.speed), 0.25), 4.0)
                lane.speed = min(max(lane.speed * ratio**_SPEED_SMOOTHING, 0.1), 10.0)
            self.costs.observe(bucket, coils, outcome.seconds / lane.speed, outcome.peak_bytes)
            self._observer.batch(
                BatchReport(
                    server=lane.server.name,
                    model=bucket.model,
                    size=len(jobs),
                    fill=len(jobs) / max(self.costs.preferred_size(bucket), len(jobs)),
                    coils=sum(coils),
                    predicted_seconds=running.batch.predicted_seconds,
                    seconds=outcome.seconds,
                    forming_seconds=running.held_seconds,
                    handed_over=began,
                    ended=now,
                    links=tuple(job.link for job in jobs),
                )
            )
        share = outcome.seconds / max(len(done), 1)
        for job, frame in zip(jobs, outcome.frames, strict=True):
            if frame is not None:
                queued = max(now - outcome.seconds - job.submitted, 0.0)
                self._observer.frame(job.priority.name, queued, None if job.deadline is None else job.deadline - now)
                self._finish(job, FrameOutcome(frame, queued, share, len(jobs)))
            elif job.done.done():
                job.batch = None
                self._release(job)
            else:
                self._again(job, "recalled")

    def _after_loss(self, jobs: list[FrameJob], *, begun: bool) -> None:
        for job in jobs:
            if begun:
                job.tries += 1
                job.alone = True
            if job.tries < _MOST_TRIES:
                self._again(job, "lost")
            else:
                self._finish(
                    job,
                    UnavailableError(
                        "the model server was lost twice while it had this frame; try again, and report the request id if it "
                        "happens again",
                        reason="WORKER_LOST",
                        retry_after=5.0,
                    ),
                )

    def _after_too_large(self, jobs: list[FrameJob]) -> None:
        bucket = jobs[0].bucket
        if len(jobs) == 1:
            error = LimitExceededError(
                f"a frame of {jobs[0].coils} coils, {bucket.rows} x {bucket.columns}, does not fit the memory of the model server "
                f"for {bucket.model}; compress the coils, or use another model",
                reason="OUT_OF_MEMORY",
                field="spec.model",
            )
            self._finish(jobs[0], error)
            return
        self.costs.limit_size(bucket, len(jobs) // 2)
        _log.warning("batch-too-large", model=bucket.model, frames=len(jobs), now_at_most=len(jobs) // 2)
        for job in jobs:
            self._again(job, "memory")

    def _after_failure(self, jobs: list[FrameJob], error: RecondError) -> None:
        if len(jobs) == 1:
            self._finish(jobs[0], error)
            return
        for job in jobs:
            job.alone = True
            self._again(job, "apart")

    def _again(self, job: FrameJob, why: str) -> None:
        """Let a frame wait again, unless it was withdrawn meanwhile."""
        job.batch = None
        if job.done.done():
            self._release(job)
            return
        self._observer.again(why)
        self._wait(job, self._clock())

    async def close(self) -> None:
        """Stop what runs and refuse what waits."""
        self.refuse_waiting(
            UnavailableError("this service has shut down; try another one", reason="DRAINING", retry_after=5.0)
        )
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
