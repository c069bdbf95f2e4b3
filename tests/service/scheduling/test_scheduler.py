import asyncio
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recond_models import registry
from recond_service.backends import BatchOutcome, FrameInput, WorkerLostError
from recond_service.scheduling import Admission, FrameJob, Scheduler
from recond_service.transport import FrameLayout, SharedBlock
from recond_service.types import (
    DeadlineExceededError,
    DefectError,
    LimitExceededError,
    OverloadedError,
    Priority,
    UnavailableError,
)

RSS = registry.find("rss")


class ScriptedBackend:
    """Takes batches and lets the test say what becomes of each."""

    def __init__(self, slots: int = 1, max_batch: int = 1) -> None:
        self.slots = slots
        self.max_batch = max_batch
        self.batches: list[tuple[list[FrameInput], asyncio.Future[BatchOutcome]]] = []

    async def run(self, model, frames):
        future = asyncio.get_running_loop().create_future()
        self.batches.append((list(frames), future))
        return await future

    def finish(self, number: int = -1) -> None:
        frames, future = self.batches[number]
        images = tuple(SharedBlock.create("image", 4) for _ in frames)
        future.set_result(BatchOutcome(images, (None,) * len(frames), 0.5))

    def fail(self, error: Exception, number: int = -1) -> None:
        self.batches[number][1].set_exception(error)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def job(client="a", priority=Priority.CLINICAL, deadline=None, rows=4) -> FrameJob:
    layout = FrameLayout(1, rows, 4)
    frame = FrameInput(layout, SharedBlock.create("frame", layout.size))
    return FrameJob(RSS, frame, client, priority, deadline, asyncio.get_running_loop().create_future())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def run_through(backend: ScriptedBackend, count: int) -> list[FrameInput]:
    order = []
    for number in range(count):
        await settle()
        assert len(backend.batches) == number + 1
        order += backend.batches[number][0]
        backend.finish(number)
    await settle()
    return order


async def test_urgent_frames_go_first_and_clients_take_turns():
    backend = ScriptedBackend()
    scheduler = Scheduler(backend, Clock())
    volume = [job("hospital") for _ in range(4)]
    other = [job("scanner") for _ in range(2)]
    stat = job("late", Priority.STAT)
    research = job("anyone", Priority.RESEARCH)
    for each in [research, *volume, *other, stat]:
        scheduler.submit(each)
    order = await run_through(backend, 8)
    expected = [
        research,
        stat,
        volume[0],
        other[0],
        volume[1],
        other[1],
        volume[2],
        volume[3],
    ]  # research found it idle
    assert order == [each.frame for each in expected]


async def test_batch_holds_one_bucket_and_leaves_the_others_their_place():
    backend = ScriptedBackend(slots=0, max_batch=3)
    scheduler = Scheduler(backend, Clock())
    jobs = [job(rows=rows) for rows in (4, 8, 4, 8, 4, 4)]
    for each in jobs:
        scheduler.submit(each)
    backend.slots = 1
    scheduler.dispatch()
    await run_through(backend, 3)
    sizes = [[frame.layout.rows for frame in frames] for frames, _ in backend.batches]
    assert sizes == [[4, 4, 4], [8, 8], [4]]


async def test_frame_of_a_dead_worker_runs_once_more_and_not_twice():
    backend = ScriptedBackend()
    scheduler = Scheduler(backend, Clock())
    once, twice = job(), job()
    scheduler.submit(once)
    await settle()
    backend.fail(WorkerLostError())
    await settle()
    assert len(backend.batches) == 2
    backend.finish()
    assert (await once.done).compute_seconds == 0.5
    scheduler.submit(twice)
    for _ in range(2):
        await settle()
        backend.fail(WorkerLostError())
    with pytest.raises(UnavailableError, match="twice") as caught:
        await twice.done
    assert caught.value.retry_after is not None


async def test_failed_frame_gets_its_error_and_the_next_one_runs():
    backend = ScriptedBackend()
    scheduler = Scheduler(backend, Clock())
    bad, good = job(), job()
    scheduler.submit(bad)
    scheduler.submit(good)
    await settle()
    backend.fail(DefectError("model failed"))
    await settle()
    backend.finish()
    with pytest.raises(DefectError):
        await bad.done
    assert (await good.done).image.size == 4


async def test_late_and_withdrawn_frames_are_not_computed():
    backend, clock = ScriptedBackend(), Clock()
    scheduler = Scheduler(backend, clock)
    running, late, withdrawn, last = job(), job(deadline=clock() + 1), job(), job()
    for each in (running, late, withdrawn, last):
        scheduler.submit(each)
    await settle()
    withdrawn.done.cancel()
    clock.now += 2
    backend.finish()
    await settle()
    assert [frames for frames, _ in backend.batches] == [[running.frame], [last.frame]]
    with pytest.raises(DeadlineExceededError):
        await late.done
    backend.finish()
    await last.done


async def test_closing_refuses_what_waits():
    backend = ScriptedBackend(slots=0)
    scheduler = Scheduler(backend, Clock())
    waiting = job()
    scheduler.submit(waiting)
    await scheduler.close()
    with pytest.raises(UnavailableError):
        await waiting.done


@given(seed=st.integers(0, 2**32), max_batch=st.integers(1, 4), slots=st.integers(1, 3), count=st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_or_done_twice_whatever_happens(seed, max_batch, slots, count):
    async def scenario() -> None:
        chance = random.Random(seed)
        backend = ScriptedBackend(slots, max_batch)
        scheduler = Scheduler(backend, Clock())
        jobs = [
            job(f"client{chance.randrange(3)}", Priority(chance.randint(1, 3)), rows=chance.choice([4, 8]))
            for _ in range(count)
        ]
        finished: list[int] = []
        for each in jobs:
            scheduler.submit(each)
            if chance.random() < 0.1:
                each.done.cancel()
            await step(backend, chance, finished)
        for _ in range(20 * count):
            await step(backend, chance, finished)
        assert all(each.done.done() for each in jobs)
        assert scheduler.waiting == 0
        for each in jobs:
            runs = sum(each.frame in frames for frames, _ in backend.batches)
            served = sum(each.frame in backend.batches[number][0] for number in finished)
            assert runs <= 2
            assert served <= 1
            if not each.done.cancelled() and each.done.exception() is None:
                assert served == 1
        for frames, _ in backend.batches:
            assert len(frames) <= max_batch
            assert len({frame.layout.rows for frame in frames}) == 1

    async def step(backend: ScriptedBackend, chance: random.Random, finished: list[int]) -> None:
        await settle()
        pending = [number for number, (_, future) in enumerate(backend.batches) if not future.done()]
        assert len(pending) <= backend.slots
        if pending:
            number = chance.choice(pending)
            if chance.random() < 0.2:
                backend.fail(WorkerLostError(), number)
            else:
                backend.finish(number)
                finished.append(number)

    asyncio.run(scenario())


async def test_admission_counts_requests_and_bytes_and_says_when_to_come_back():
    admission = Admission(max_requests=2, max_bytes=1000, backlog_seconds=lambda: 7.0)
    with admission.admit(600) as first:
        with pytest.raises(OverloadedError, match="600 of 1000") as caught:
            admission.admit(500)
        assert caught.value.retry_after == 7.0
        with admission.admit(300), pytest.raises(OverloadedError, match="2 requests"):
            admission.admit(1)
        first.hold(5000)  # frames of a request that is in are counted, never refused
        assert admission.bytes_held == 5600
        with pytest.raises(OverloadedError):
            admission.admit(1)
    assert (admission.bytes_held, admission.requests) == (0, 0)
    with pytest.raises(LimitExceededError, match="1001"):
        admission.admit(1001)


async def test_draining_admits_nobody_and_waits_for_those_inside():
    admission = Admission(2, 1000, lambda: 0.0)
    ticket = admission.admit(10)
    admission.draining = True
    with pytest.raises(UnavailableError, match="shutting down"):
        admission.admit(10)
    assert not await admission.wait_for_empty(0.01)
    waiting = asyncio.create_task(admission.wait_for_empty(10))
    await settle()
    with ticket:
        pass
    assert await waiting


def test_running_mean_predicts_the_backlog():
    async def scenario() -> float:
        backend = ScriptedBackend()
        scheduler = Scheduler(backend, Clock())
        for _ in range(40):
            scheduler.submit(job())
            await settle()
            backend.finish()
            await settle()
        backend.slots = 0
        for _ in range(10):
            scheduler.submit(job())
        return scheduler.backlog_seconds()

    assert np.isclose(asyncio.run(scenario()), 10 * 0.5, rtol=0.01)
