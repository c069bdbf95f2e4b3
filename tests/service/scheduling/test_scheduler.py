"""What the scheduler does, event by event, in virtual time."""

import asyncio

import pytest
from virtual_servers import CG, RSS, Block, VirtualServer, VirtualTime, frame_job, scheduler_on, settle

from recond_service.backends import Measurement, TooLargeError
from recond_service.scheduling import Bucket, CostModel
from recond_service.types import DeadlineExceededError, DefectError, LimitExceededError, Priority, UnavailableError


def frames_of(server: VirtualServer) -> list:
    return [frame for _, batch in server.handed for frame in batch.frames]


def prefers(size: int, rows: int = 4) -> CostModel:
    """Return costs by which a batch of `size` is as dear as a single frame."""
    costs = CostModel()
    bucket = Bucket.of(frame_job().model, rows, 4)
    frames = 1
    while frames <= size:
        for _ in range(6):
            costs.observe(bucket, [8] * frames, 0.1)
        frames *= 2
    for _ in range(6):
        costs.observe(bucket, [8] * frames, 0.1 * frames)  # beyond it nothing is gained
    return costs


def single() -> CostModel:
    """Return costs by which a frame takes 0.1 s, and company gains nothing."""
    costs = CostModel()
    for rows in (4, 8):
        for frames in (1, 2):
            for _ in range(30):
                costs.observe(Bucket.of(frame_job().model, rows, 4), [8] * frames, 0.1 * frames)
    return costs


async def test_urgent_frames_go_first_and_clients_take_turns():
    time = VirtualTime()
    server = VirtualServer(time)
    scheduler = scheduler_on(time, server, costs=single())
    first = frame_job("first")
    scheduler.submit(first)
    volume = [frame_job("hospital") for _ in range(4)]
    other = [frame_job("scanner") for _ in range(2)]
    stat = frame_job("late", Priority.STAT)
    research = frame_job("anyone", Priority.RESEARCH)
    for each in [research, *volume, *other, stat]:
        scheduler.submit(each)
    await time.advance(10)
    expected = [first, stat, volume[0], other[0], volume[1], other[1], volume[2], volume[3], research]
    assert frames_of(server) == [each.frame for each in expected]


async def test_weighted_clients_get_their_shares():
    time = VirtualTime()
    server = VirtualServer(time)
    scheduler = scheduler_on(time, server, weights={"large": 3.0}, costs=single())
    owners = {}
    for client in ["large"] * 40 + ["small"] * 40:
        job = frame_job(client)
        owners[job.frame] = client
        scheduler.submit(job)
    await time.advance(4.05)  # about 40 frames
    served = [owners[frame] for frame in server.computed]
    assert 38 <= len(served) <= 41
    assert 28 <= served.count("large") <= 32


async def test_a_slice_is_served_between_those_of_a_volume():
    time = VirtualTime()
    server = VirtualServer(time)
    scheduler = scheduler_on(time, server, costs=prefers(4))
    for _ in range(300):
        scheduler.submit(frame_job("hospital"))
    await time.advance(1.0)
    single = frame_job("scanner", Priority.STAT)
    asked = time.now
    scheduler.submit(single)
    while not single.done.done():
        await time.advance(0.01)
    longest_batch = max(0.1 * len(batch.frames) for _, batch in server.handed)
    assert time.now - asked <= 2 * longest_batch + 0.1 + 0.02  # the one that runs, at most one that is staged, its own


async def test_a_batch_holds_one_bucket_and_any_coils():
    time = VirtualTime()
    server = VirtualServer(time, up=False)
    scheduler = scheduler_on(time, server, costs=prefers(4))
    for rows, coils in ((4, 4), (8, 8), (4, 16), (8, 8), (4, 6), (4, 12)):
        scheduler.submit(frame_job(rows=rows, coils=coils))
    server.up = True
    scheduler.dispatch()
    await time.advance(10)
    shapes = [[(frame.layout.rows, frame.layout.coils) for frame in batch.frames] for _, batch in server.handed]
    assert shapes[0] == [(4, 4), (4, 16), (4, 6), (4, 12)]
    assert all(len({rows for rows, _ in batch}) == 1 for batch in shapes)
    assert sum(map(len, shapes)) == 6


async def test_no_batch_is_made_where_it_does_not_pay():
    time = VirtualTime()
    server = VirtualServer(time, seconds=lambda frames, coils: 0.1 * frames * (1 + 0.2 * (frames - 1)))
    scheduler = scheduler_on(time, server)
    for _ in range(300):
        scheduler.submit(frame_job())
    await time.advance(60)
    sizes = [len(batch.frames) for _, batch in server.handed]
    assert sum(sizes) == 300
    assert sizes.count(1) >= 285  # a few trials of two frames at the start
    assert set(sizes[-200:]) == {1}


async def test_batches_grow_where_that_pays():
    time = VirtualTime()
    server = VirtualServer(time, seconds=lambda frames, coils: 0.1 + 0.001 * frames)
    scheduler = scheduler_on(time, server)
    for _ in range(2000):
        scheduler.submit(frame_job())
    await time.advance(60)
    assert len(server.computed) == 2000
    assert max(len(batch.frames) for _, batch in server.handed) == 64


async def test_the_next_batch_is_there_before_the_server_runs_dry():
    time = VirtualTime()
    server = VirtualServer(time)
    scheduler = scheduler_on(time, server, costs=single())
    for _ in range(50):
        scheduler.submit(frame_job())
    await time.advance(5.05)
    assert len(server.computed) >= 49
    leads = [end - start for (start, _), (end, _) in zip(server.handed[10:], server.handed[11:], strict=False)]
    assert max(leads) < 0.15
    assert max(len(server.held), 1) <= 2


async def test_a_frame_waits_for_company_only_while_that_pays():
    time = VirtualTime()
    server = VirtualServer(time, seconds=lambda frames, coils: 0.1)
    scheduler = scheduler_on(time, server, costs=prefers(4))

    async def burst(count: int) -> list[int]:
        before = len(server.handed)
        for _ in range(count):
            scheduler.submit(frame_job())
            await time.advance(0.002)
        await time.advance(1.0)
        return [len(batch.frames) for _, batch in server.handed[before:]]

    assert await burst(4) == [1, 3]  # nothing was known of arrivals when the first came
    assert await burst(4) == [4]
    asked = time.now
    assert await burst(1) == [1]
    assert 0 < server.handed[-1][0] - asked <= 0.02  # held back, but not for long
    for _ in range(12):
        await burst(1)
    asked = time.now
    await burst(1)
    assert server.handed[-1][0] == asked  # frames come one by one now: no use in waiting


async def test_two_servers_share_the_work_by_their_speed():
    time = VirtualTime()
    fast = VirtualServer(time, "fast", seconds=lambda frames, coils: 0.05 * frames)
    slow = VirtualServer(time, "slow", seconds=lambda frames, coils: 0.15 * frames)
    scheduler = scheduler_on(time, fast, slow, costs=single())
    for _ in range(200):
        scheduler.submit(frame_job())
    await time.advance(8)
    assert len(fast.computed) + len(slow.computed) == 200
    assert 2.2 < len(fast.computed) / len(slow.computed) < 4.0


async def test_frames_go_where_their_model_is():
    time = VirtualTime()
    both, only = VirtualServer(time, "both"), VirtualServer(time, "only", models={"rss"})
    scheduler = scheduler_on(time, only, both, costs=single())
    first = [frame_job(model=CG) for _ in range(4)]
    second = [frame_job(client="b", model=RSS) for _ in range(2)]
    for job in first + second:
        scheduler.submit(job)
    await time.advance(0.5)
    assert all(job.done.done() for job in first + second)
    assert only.computed == [job.frame for job in second]  # not kept by frames that it cannot run
    assert both.computed == [job.frame for job in first]
    both.lose()
    waiting, other = frame_job(model=CG), frame_job(model=RSS)
    scheduler.submit(waiting)
    scheduler.submit(other)
    await time.advance(5.0)
    assert other.done.done()
    assert not waiting.done.done()
    both.up = True
    scheduler.dispatch()
    await time.advance(0.5)
    assert waiting.done.result().frame.image.content is waiting.frame
    await scheduler.close()


async def test_a_model_that_no_server_has_is_refused_by_one():
    time = VirtualTime()
    server = VirtualServer(time, models={"rss"})
    scheduler = scheduler_on(time, server)
    job = frame_job(model=CG)
    scheduler.submit(job)
    await settle()
    assert [batch.model for _, batch in server.handed] == [CG]
    await time.advance(1.0)
    await scheduler.close()


async def test_frames_of_a_lost_server_run_elsewhere():
    time = VirtualTime()
    first, second = VirtualServer(time, "first"), VirtualServer(time, "second")
    scheduler = scheduler_on(time, first, second, costs=single())
    jobs = [frame_job() for _ in range(20)]
    for each in jobs:
        scheduler.submit(each)
    await time.advance(0.25)
    first.lose()
    await time.advance(10)
    for each in jobs:
        assert (await each.done).frame.image.content is each.frame


async def test_a_frame_that_kills_servers_is_given_up_and_harms_no_other():
    time = VirtualTime()
    server = VirtualServer(time)
    scheduler = scheduler_on(time, server, costs=prefers(4))

    def restart() -> None:
        server.up = True
        scheduler.dispatch()

    server.on_down = lambda: time.call_at(time.now + 1, restart)
    jobs = [frame_job() for _ in range(12)]
    server.deadly = {jobs[2].frame}
    for each in jobs:
        scheduler.submit(each)
    await time.advance(60)
    with pytest.raises(UnavailableError, match="twice") as caught:
        await jobs[2].done
    assert caught.value.retry_after is not None
    for each in jobs[:2] + jobs[3:]:
        assert (await each.done).frame.image.content is each.frame


async def test_frames_that_may_have_killed_a_server_run_with_nothing_beside_them():
    time = VirtualTime()
    server = VirtualServer(time, concurrency=2)
    scheduler = scheduler_on(time, server, costs=single())

    def restart() -> None:
        server.up = True
        scheduler.dispatch()

    server.on_down = lambda: time.call_at(time.now + 1, restart)
    killer, innocent, others = frame_job(), frame_job(), [frame_job() for _ in range(6)]
    server.deadly = {killer.frame}
    for each in (innocent, killer, *others):
        scheduler.submit(each)
    await time.advance(60)
    with pytest.raises(UnavailableError, match="twice"):
        await killer.done
    for each in (innocent, *others):
        assert (await each.done).frame.image.content is each.frame
    await scheduler.close()


async def test_a_staged_frame_is_not_blamed_for_the_death_of_its_server():
    time = VirtualTime()
    server = VirtualServer(time)
    scheduler = scheduler_on(time, server, costs=single())
    scheduler.submit(frame_job())
    await time.advance(5)
    running, staged = frame_job(), frame_job()
    scheduler.submit(running)
    scheduler.submit(staged)
    await time.advance(0.095)
    assert len(server.held) == 2
    server.lose()
    await settle()
    assert (running.tries, running.alone) == (1, True)
    assert (staged.tries, staged.alone) == (0, False)


async def test_a_bad_frame_of_a_batch_fails_alone():
    time = VirtualTime()
    server = VirtualServer(time)
    scheduler = scheduler_on(time, server, costs=prefers(4))
    scheduler.submit(frame_job())
    jobs = [frame_job() for _ in range(8)]
    server.poison = {jobs[1].frame}
    for each in jobs:
        scheduler.submit(each)
    await time.advance(30)
    assert any(jobs[1].frame in batch.frames and len(batch.frames) > 1 for _, batch in server.handed)
    with pytest.raises(DefectError):
        await jobs[1].done
    for each in jobs[:1] + jobs[2:]:
        assert (await each.done).frame.image.content is each.frame


async def test_a_batch_that_does_not_fit_is_made_smaller():
    time = VirtualTime()
    server = VirtualServer(time, most_frames=2)
    scheduler = scheduler_on(time, server, costs=prefers(8))
    jobs = [frame_job() for _ in range(40)]
    for each in jobs:
        scheduler.submit(each)
    await time.advance(60)
    assert all(each.done.result() for each in jobs)
    assert [len(batch.frames) > 2 for _, batch in server.handed].count(
        True
    ) <= 4  # one that runs and one that is staged, 8 and 4


async def test_a_frame_that_does_not_fit_alone_is_refused():
    time = VirtualTime()
    server = VirtualServer(time, most_frames=0)
    scheduler = scheduler_on(time, server)
    job = frame_job()
    scheduler.submit(job)
    await time.advance(1)
    with pytest.raises(LimitExceededError, match="does not fit") as caught:
        await job.done
    assert caught.value.reason == "OUT_OF_MEMORY"
    assert str(TooLargeError()) == ""


async def test_memory_bounds_a_batch():
    time = VirtualTime()
    costs = prefers(8)
    bucket = Bucket.of(frame_job().model, 4, 4)
    for frames in (1, 2, 4):
        for _ in range(8):
            costs.observe(bucket, [8] * frames, 0.1, peak_bytes=1000 * frames)
    server = VirtualServer(time, memory_bytes=3500)
    scheduler = scheduler_on(time, server, costs=costs)
    for _ in range(30):
        scheduler.submit(frame_job())
    await time.advance(10)
    assert max(len(batch.frames) for _, batch in server.handed) == 3


async def test_deadlines_bound_a_batch():
    time = VirtualTime()
    server = VirtualServer(time, seconds=lambda frames, coils: 0.1 * frames, up=False)
    costs = CostModel()
    bucket = Bucket.of(frame_job().model, 4, 4)
    for frames in (1, 2, 4, 8):
        for _ in range(6):
            costs.observe(bucket, [8] * frames, 0.1 * frames**0.9)
    scheduler = scheduler_on(time, server, costs=costs)
    urgent = frame_job(deadline=time.now + 0.3)
    scheduler.submit(urgent)
    for _ in range(10):
        scheduler.submit(frame_job())
    server.up = True
    scheduler.dispatch()
    await time.advance(5)
    assert 1 <= len(server.handed[0][1].frames) <= 3
    assert await urgent.done


async def test_hopeless_and_withdrawn_frames_are_not_computed():
    time = VirtualTime()
    server = VirtualServer(time)
    scheduler = scheduler_on(time, server, costs=single())
    scheduler.submit(frame_job())
    await time.advance(1)
    running = frame_job()
    scheduler.submit(running)
    late, withdrawn, last = frame_job(deadline=time.now + 0.12), frame_job(), frame_job()
    for each in (withdrawn, late, last):
        scheduler.submit(each)
    withdrawn.done.cancel()
    await time.advance(5)
    assert [running.frame, last.frame] == frames_of(server)[1:]
    with pytest.raises(DeadlineExceededError) as caught:
        await late.done
    assert caught.value.reason == "DEADLINE_IN_QUEUE"
    assert scheduler.waiting == 0


async def test_a_frame_that_is_withdrawn_from_a_server_frees_it():
    time = VirtualTime()
    server = VirtualServer(time)
    scheduler = scheduler_on(time, server, costs=prefers(2))
    jobs = [frame_job() for _ in range(3)]
    for each in jobs:
        scheduler.submit(each)
    await time.advance(0.15)
    told = []
    batch = server.held[0].batch
    batch.on_withdraw = told.append
    victim = next(each for each in jobs if each.batch is batch)
    victim.done.cancel()
    await time.advance(1)
    assert told == [victim.place]
    assert victim.frame not in server.computed


async def test_a_staged_batch_is_taken_back_for_a_more_urgent_frame():
    time = VirtualTime()
    server = VirtualServer(time, seconds=lambda frames, coils: 1.0 * frames)
    costs = CostModel()
    for _ in range(5):
        costs.observe(Bucket.of(frame_job().model, 4, 4), [8], 1.0)
        costs.observe(Bucket.of(frame_job().model, 4, 4), [8] * 2, 2.0)
    scheduler = scheduler_on(time, server, costs=costs)
    research = [frame_job("university", Priority.RESEARCH) for _ in range(3)]
    for each in research:
        scheduler.submit(each)
    await time.advance(0.95)
    assert [held.batch.frames[0] for held in server.held] == [research[0].frame, research[1].frame]
    stat = frame_job("scanner", Priority.STAT)
    scheduler.submit(stat)
    await time.advance(1.1)
    assert stat.done.done()
    await time.advance(10)
    assert server.computed == [research[0].frame, stat.frame, research[1].frame, research[2].frame]
    assert research[1].tries == 0


async def test_no_class_starves():
    time = VirtualTime()
    server = VirtualServer(time)
    scheduler = scheduler_on(time, server, ageing_seconds=2.0, costs=single())
    research = [frame_job("university", Priority.RESEARCH) for _ in range(3)]
    for each in research:
        scheduler.submit(each)
    slowest = 0.0
    for number in range(300):  # stat frames that fill the server by themselves
        stat = frame_job("scanner", Priority.STAT)
        scheduler.submit(stat)
        began = time.now
        await time.advance(0.1)
        if number > 5 and stat.done.done():
            slowest = max(slowest, time.now - began)
    assert all(each.done.done() for each in research)
    assert slowest <= 0.5


async def test_what_servers_measured_at_their_start_is_used():
    time = VirtualTime()
    scheduler = scheduler_on(time, VirtualServer(time))
    model = frame_job().model
    assert scheduler.predict_seconds(model, [(8, 64, 64)]) == 0
    scheduler.learn([Measurement(model.name, model.version, model.weights_sha256, 64, 64, (8,), 0.5)])
    assert scheduler.predict_seconds(model, [(8, 64, 64)] * 2) == pytest.approx(1.0, rel=0.05)
    assert scheduler.predict_seconds(model, [(8, 128, 64)]) == pytest.approx(1.0, rel=0.05)


async def test_closing_answers_every_frame_and_gives_its_memory_back():
    time = VirtualTime()
    server = VirtualServer(time)
    scheduler = scheduler_on(time, server)
    jobs = [frame_job() for _ in range(5)]
    for each in jobs:
        scheduler.submit(each)
    await settle()
    await scheduler.close()
    for each in jobs:
        with pytest.raises(UnavailableError):
            await each.done
    await asyncio.get_running_loop().shutdown_default_executor()
    blocks = [each.frame.block for each in jobs]
    assert all(isinstance(block, Block) and block.closed == 1 for block in blocks)
