"""Servers for reconstructions and workers for heads behind one queue, in virtual time."""

import pytest
from virtual_servers import RSS, TISSUE, VirtualServer, VirtualTime, frame_job, scheduler_on, settle

from recond_service.scheduling import Admission, Demand
from recond_service.types import UnavailableError

FRAMES, HEADS = frozenset({"reconstruction"}), frozenset({"heads"})


def two_kinds(time: VirtualTime) -> tuple[VirtualServer, VirtualServer]:
    """Servers like Triton, which lose sight of their models when they are down, and head workers, which have every head."""
    return (
        VirtualServer(time, "triton", models={"rss"}, work=FRAMES),
        VirtualServer(time, "heads", models={"tissue"}, work=HEADS),
    )


async def test_each_server_gets_its_own_work():
    time = VirtualTime()
    triton, heads = two_kinds(time)
    scheduler = scheduler_on(time, triton, heads)
    frames, blocks = [frame_job() for _ in range(5)], [frame_job(model=TISSUE) for _ in range(5)]
    for job in (job for pair in zip(blocks, frames, strict=True) for job in pair):
        scheduler.submit(job)
    await time.advance(5.0)
    assert triton.computed == [job.frame for job in frames]
    assert heads.computed == [job.frame for job in blocks]
    assert (scheduler.capacity, scheduler.capacity_for("heads")) == (1, 1)
    await scheduler.close()


async def test_a_head_worker_never_gets_a_frame_and_a_frame_server_no_block():
    time = VirtualTime()
    triton, heads = two_kinds(time)
    scheduler = scheduler_on(time, triton, heads)
    triton.lose()
    triton.models = set()  # forgotten after a while
    frame, block = frame_job(), frame_job(model=TISSUE)
    scheduler.submit(frame)
    scheduler.submit(block)
    await time.advance(5.0)
    assert block.done.done()
    assert not frame.done.done()
    assert not [batch for _, batch in heads.handed if batch.model is RSS]
    assert (scheduler.capacity, scheduler.capacity_for("heads")) == (0, 1)
    heads.lose()
    lost = frame_job(model=TISSUE)
    scheduler.submit(lost)
    triton.up, triton.models = True, {"rss"}
    scheduler.dispatch()
    await time.advance(5.0)
    assert frame.done.done()
    assert not lost.done.done()
    scheduler.refuse_waiting(UnavailableError("gone", reason="NO_WORKER"), {"reconstruction"})
    assert not lost.done.done()
    heads.up = True
    scheduler.dispatch()
    await time.advance(5.0)
    assert lost.done.result().frame.image.content is lost.frame
    await scheduler.close()


async def test_waiting_blocks_can_be_refused_alone():
    time = VirtualTime()
    triton, heads = two_kinds(time)
    triton.up = heads.up = False
    scheduler = scheduler_on(time, triton, heads)
    frame, block = frame_job(), frame_job(model=TISSUE)
    scheduler.submit(frame)
    scheduler.submit(block)
    scheduler.refuse_waiting(UnavailableError("gone", reason="NO_WORKER"), {"heads"})
    with pytest.raises(UnavailableError):
        await block.done
    assert not frame.done.done()
    assert scheduler.waiting == 1
    scheduler.refuse_waiting(UnavailableError("gone", reason="NO_WORKER"))
    with pytest.raises(UnavailableError):
        await frame.done


async def test_where_nobody_runs_heads_a_server_gets_them_to_refuse_them():
    time = VirtualTime()
    triton = VirtualServer(time, models={"rss"}, work=FRAMES)
    scheduler = scheduler_on(time, triton)
    scheduler.submit(frame_job(model=TISSUE))
    await settle()
    assert [batch.model for _, batch in triton.handed] == [TISSUE]
    assert not scheduler.does("heads")
    await time.advance(1.0)
    await scheduler.close()


async def test_the_backlog_is_that_of_the_work_that_takes_longest():
    time = VirtualTime()
    triton, heads = two_kinds(time)
    scheduler = scheduler_on(time, triton, heads)
    for _ in range(10):
        scheduler.submit(frame_job())
    await time.advance(0.1)
    before = scheduler.backlog_seconds()
    assert before > 0
    scheduler.submit(frame_job(model=TISSUE))
    await settle()
    assert scheduler.backlog_seconds() == pytest.approx(before, abs=0.05)  # an idle head worker does not halve it
    await time.advance(30.0)
    await scheduler.close()


async def test_requests_for_images_and_for_heads_are_let_in_apart():
    now, frames, heads = [0.0], [1], [0]
    door = Admission(10, 1000, 60, lambda: frames[0], lambda: now[0], 5.0, lambda: heads[0])
    analysis, labels = Demand(1, work="heads"), Demand(1, work=None)
    door.admit(analysis)  # perhaps it is only being started again
    now[0] = 6.0
    with pytest.raises(UnavailableError, match="heads") as caught:
        door.admit(analysis)
    assert caught.value.reason == "NO_WORKER"
    door.admit(Demand(1))
    frames[0], heads[0] = 0, 1
    door.admit(analysis)
    door.admit(Demand(1))
    now[0] = 12.0
    door.admit(analysis)
    with pytest.raises(UnavailableError, match="reconstruction"):
        door.admit(Demand(1))
    door.admit(labels)  # label maps are compared without a model server
