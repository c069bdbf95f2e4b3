"""Model servers that compute in virtual time, for tests of the scheduler."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from recond_models import registry
from recond_models.model import ModelInfo
from recond_service.backends import (
    ALL_WORK,
    Batch,
    BatchOutcome,
    ComputedFrame,
    FrameInput,
    ServerLostError,
    TooLargeError,
    Work,
)
from recond_service.processes import FrameLayout
from recond_service.scheduling import FrameJob, Scheduler
from recond_service.types import DefectError, Priority

RSS, CG = registry.find("rss"), registry.find("cg-sense")
TISSUE = registry.find_head("tissue")


class VirtualTime:
    """A clock that stands still until it is told to go on, and its timers."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now
        self._timers: list[tuple[float, int, VirtualTimer]] = []
        self._numbers = itertools.count()

    def __call__(self) -> float:
        return self.now

    def call_at(self, time: float, action: Callable[[], None]) -> VirtualTimer:
        timer = VirtualTimer(action)
        heapq.heappush(self._timers, (time, next(self._numbers), timer))
        return timer

    async def advance(self, seconds: float) -> None:
        end = self.now + seconds
        await settle()
        while self._timers and self._timers[0][0] <= end:
            time, _, timer = heapq.heappop(self._timers)
            self.now = max(self.now, time)
            if not timer.cancelled:
                timer.action()
                await settle()
        self.now = end


@dataclass(eq=False)
class VirtualTimer:
    action: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


class Block:
    """Stands for the shared memory of a frame or image, and knows whether it was given back."""

    def __init__(self, content: object = None) -> None:
        self.content = content
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


@dataclass(eq=False)
class Held:
    """A batch that a server has."""

    batch: Batch
    done: asyncio.Future[BatchOutcome]
    handed_over: float
    started: float | None = None
    ends: VirtualTimer | None = None


@dataclass(eq=False)
class VirtualServer:
    """Computes batches in the order in which they come; frames named in `poison` fail, those in `deadly` bring it down."""

    time: VirtualTime
    name: str = "virtual-0"
    concurrency: int = 1
    memory_bytes: int = 0
    seconds: Callable[[int, int], float] = lambda frames, coils: 0.1 * frames
    most_frames: int = 1 << 20
    up: bool = True
    poison: set[FrameInput] = field(default_factory=set)
    deadly: set[FrameInput] = field(default_factory=set)
    held: list[Held] = field(default_factory=list)
    handed: list[tuple[float, Batch]] = field(default_factory=list)
    computed: list[FrameInput] = field(default_factory=list)
    models: set[str] | None = None  # None: all
    work: frozenset[Work] = ALL_WORK
    on_down: Callable[[], None] = lambda: None
    busy_seconds: float = 0.0

    def has(self, model: ModelInfo) -> bool:
        return self.models is None or model.name in self.models

    async def run(self, batch: Batch) -> BatchOutcome:
        if not self.up:
            raise ServerLostError(begun=False)
        self.handed.append((self.time.now, batch))
        held = Held(batch, asyncio.get_running_loop().create_future(), self.time.now)
        self.held.append(held)
        self._start()
        return await held.done

    def _start(self) -> None:
        for held in list(self.held):
            if held.started is None and len(held.batch.withdrawn) == len(held.batch.frames):
                self.held.remove(held)  # nobody wants it
                held.done.set_result(BatchOutcome((None,) * len(held.batch.frames)))
        for held in self.held[: self.concurrency]:
            if held.started is None:
                held.started = self.time.now
                seconds = self.seconds(len(held.batch.frames), sum(frame.layout.coils for frame in held.batch.frames))
                self.busy_seconds += seconds
                held.ends = self.time.call_at(self.time.now + seconds, lambda held=held, s=seconds: self._end(held, s))

    def _end(self, held: Held, seconds: float) -> None:
        frames = held.batch.frames
        if self.deadly & set(frames):
            self.lose()
            return
        self.held.remove(held)
        if not held.done.done():
            if len(frames) > self.most_frames:
                held.done.set_exception(TooLargeError())
            elif self.poison & set(frames):
                held.done.set_exception(DefectError("the model failed", reason="MODEL_FAILED"))
            else:
                gone = held.batch.withdrawn
                computed = tuple(
                    None if place in gone else ComputedFrame(Block(frame)) for place, frame in enumerate(frames)
                )
                self.computed += [frame for place, frame in enumerate(frames) if place not in gone]
                held.done.set_result(BatchOutcome(computed, seconds))
        self._start()

    def lose(self) -> None:
        """Die: what it computed may have been the cause, what lay behind was not."""
        self.up = False
        for held in self.held:
            if held.ends is not None:
                held.ends.cancel()
            if not held.done.done():
                held.done.set_exception(ServerLostError(begun=held.started is not None))
        self.held.clear()
        self.on_down()


def frame_job(
    client: str = "a",
    priority: Priority = Priority.CLINICAL,
    deadline: float | None = None,
    rows: int = 4,
    coils: int = 8,
    model: ModelInfo = RSS,
) -> FrameJob:
    frame = FrameInput(FrameLayout(coils, rows, 4), Block())
    return FrameJob(model, frame, client, priority, deadline, asyncio.get_running_loop().create_future())


def scheduler_on(time: VirtualTime, *servers: VirtualServer, **options: object) -> Scheduler:
    return Scheduler(servers, time, time.call_at, **options)
