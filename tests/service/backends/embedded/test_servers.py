"""Workers that are killed, stopped, hang or run out of memory: what becomes of their batches, and who takes their place."""

import asyncio
import contextlib
import os
import signal

import numpy as np
import psutil
import pytest
from model_files import state_file, weights_of
from trial_models import HOG_SECONDS, INFOS
from waiting import eventually_async
from worker_frames import batch_of, directly, frame, open_files, pixels

from recond_models import registry
from recond_models.model import ModelInfo
from recond_models.store.add import AddRequest, add_model
from recond_service.backends import ServerLostError, TooLargeError
from recond_service.processes import zygote as zygotes
from recond_service.types import DefectError, ModelNotFoundError

pytestmark = pytest.mark.asyncio(loop_scope="module")

FRAMES = [frame(coils, seed=coils) for coils in (4, 2, 5)]
CG = registry.find("cg-sense")


@contextlib.contextmanager
def closing(*batches):
    """Close the frames of batches at the end, as the scheduler's callers do."""
    try:
        yield batches
    finally:
        for batch in batches:
            for each in batch.frames:
                each.block.close()


async def image_comes(server) -> None:
    """Have a server make an image, and look at it."""
    with closing(batch_of(CG, FRAMES[0])) as (batch,):
        outcome = await server.run(batch)
    np.testing.assert_allclose(
        pixels(outcome.frames[0], FRAMES[0]), directly("cg-sense", FRAMES[0])[0], rtol=1e-3, atol=1e-3
    )


def shared_memory_of(pid: int) -> int:
    """Return how many frames and images a process has open."""
    return sum("memfd:recond-frame" in name or "memfd:recond-image" in name for name in open_files(pid))


async def test_batches_come_back_in_order_with_their_images(fleet):
    server = fleet.server
    assert (server.name, server.up, server.concurrency) == ("worker-0", True, 1)
    assert server.memory_bytes > 1 << 20
    batches = [batch_of(CG, *FRAMES), batch_of(registry.find("rss"), FRAMES[1]), batch_of(CG, FRAMES[2])]
    with closing(*batches):
        outcomes = await asyncio.gather(*map(server.run, batches))
        ended = [batch.on_withdraw for batch in batches]
    assert ended == [None] * 3
    expected = [directly("cg-sense", *FRAMES), directly("rss", FRAMES[1]), directly("cg-sense", FRAMES[2])]
    for outcome, images, used in zip(outcomes, expected, ([0, 1, 2], [1], [2]), strict=True):
        assert outcome.seconds > 0
        for computed, image, number in zip(outcome.frames, images, used, strict=True):
            np.testing.assert_allclose(pixels(computed, FRAMES[number]), image, rtol=1e-3, atol=1e-3 * image.max())
    assert all(0 < each.residual < 1 for each in outcomes[0].frames)
    assert outcomes[1].frames[0].residual is None
    assert outcomes[0].peak_bytes > 2 * sum(each.kspace.nbytes for each in FRAMES)
    assert shared_memory_of(server.pid) == 0
    assert {(m.model, m.coils) for m in fleet.backend.measurements()} >= {("unrolled-brain", (4,)), ("rss", (4,))}
    assert all(m.seconds > 0 for m in fleet.backend.measurements())


async def test_a_batch_may_have_more_frames_than_a_message_has_descriptors(fleet):
    small = frame(1, 16, 24)
    with closing(batch_of(registry.find("rss"), *[small] * 150)) as (batch,):
        outcome = await fleet.server.run(batch)
    image = directly("rss", small)[0]
    for computed in outcome.frames:
        np.testing.assert_allclose(pixels(computed, small), image, rtol=1e-5)
    assert shared_memory_of(fleet.server.pid) == 0


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_dead_worker_is_replaced_and_says_what_it_had_begun(fleet, way):
    server = fleet.server
    first, second = batch_of(INFOS["gate"], FRAMES[0]), batch_of(CG, FRAMES[1])
    with closing(first, second):
        begun, staged = (asyncio.ensure_future(server.run(batch)) for batch in (first, second))
        await eventually_async((fleet.folder / "begun").exists)
        os.kill(server.pid, way)
        lost = await asyncio.gather(begun, staged, return_exceptions=True)
    assert [type(error) for error in lost] == [ServerLostError, ServerLostError]
    assert [error.begun for error in lost] == [True, False]
    with closing(batch_of(CG, FRAMES[0])) as (batch,):
        if not server.up:
            with pytest.raises(ServerLostError) as down:
                await server.run(batch)
            assert not down.value.begun
    await fleet.up()
    assert fleet.changes == [("worker-0", False), ("worker-0", True)]
    await image_comes(server)


async def test_a_frame_that_kills_its_worker_does_so_alone(fleet):
    for times in (1, 2):
        with closing(batch_of(INFOS["suicide"], FRAMES[0])) as (batch,), pytest.raises(ServerLostError) as lost:
            await fleet.server.run(batch)
        assert lost.value.begun
        await fleet.up(times)
    await image_comes(fleet.server)


async def test_a_batch_that_takes_too_long_ends_its_worker(start):
    async with start(batch_seconds=0.5) as started:
        pid = started.server.pid
        with closing(batch_of(INFOS["gate"], FRAMES[0])) as (batch,), pytest.raises(ServerLostError) as lost:
            await started.server.run(batch)
        assert lost.value.begun
        await started.up(2)
        assert started.server.pid != pid
        # What was predicted to take long may: the gate is opened after the time that was too much before.
        with closing(batch_of(INFOS["gate"], FRAMES[0], seconds=10)) as (batch,):
            running = asyncio.ensure_future(started.server.run(batch))
            await asyncio.sleep(0.7)
            (started.folder / "open").touch()
            (await running).frames[0].image.close()
        assert len(started.changes) == 3


async def test_a_worker_that_dies_while_it_is_measured_is_replaced_by_one_that_is_not(start):
    async with start(warm_up=("suicide:2x16x16",)) as started:
        assert started.server.starts == 2
        assert not started.backend.measurements()
        await image_comes(started.server)


async def test_a_silent_worker_that_computes_is_left_alone_and_one_that_does_nothing_is_replaced(start):
    async with start(heartbeat_seconds=0.8) as started:
        pid = started.server.pid
        assert HOG_SECONDS > 2 * 0.8
        with closing(batch_of(INFOS["hog"], FRAMES[0])) as (batch,):
            (await started.server.run(batch)).frames[0].image.close()
        assert started.server.pid == pid
        assert started.changes == [("worker-0", True)]
        with closing(batch_of(INFOS["deaf"], FRAMES[0])) as (batch,), pytest.raises(ServerLostError):
            await started.server.run(batch)
        await started.up(2)
        assert started.server.pid != pid
        await image_comes(started.server)


async def test_withdrawn_frames_get_no_image_and_the_others_theirs(fleet):
    server = fleet.server
    with closing(batch_of(INFOS["endless"], *FRAMES), batch_of(CG, *FRAMES), batch_of(CG, FRAMES[0])) as batches:
        batches[1].withdraw(1)  # before it is handed over
        running = [asyncio.ensure_future(server.run(batch)) for batch in batches]
        await eventually_async((fleet.folder / "step").exists)
        batches[2].withdraw(0)  # handed over, not begun
        batches[0].withdraw(0)  # in the middle of its work
        outcomes = await asyncio.gather(*running)
    assert [[computed is not None for computed in outcome.frames] for outcome in outcomes] == [
        [False, True, True],
        [True, False, True],
        [False],
    ]
    assert (pixels(outcomes[0].frames[1], FRAMES[1]) == 1).all()
    outcomes[0].frames[2].image.close()
    images = directly("cg-sense", *FRAMES)
    for number in (0, 2):
        np.testing.assert_allclose(
            pixels(outcomes[1].frames[number], FRAMES[number]), images[number], rtol=1e-3, atol=1e-3 * images.max()
        )
    assert fleet.changes == []


async def test_a_cancelled_call_frees_the_worker(fleet):
    with closing(batch_of(INFOS["endless"], FRAMES[0]), batch_of(INFOS["endless"], FRAMES[0])) as batches:
        running = [asyncio.ensure_future(fleet.server.run(batch)) for batch in batches]
        await eventually_async((fleet.folder / "step").exists)
        for call in running:
            call.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        assert all(call.cancelled() for call in running)
    await image_comes(fleet.server)
    assert fleet.changes == []


async def test_a_batch_that_does_not_fit_says_so_and_the_worker_stays(fleet):
    with closing(batch_of(INFOS["glutton"], *FRAMES[:2]), batch_of(INFOS["glutton"], FRAMES[0])) as batches:
        with pytest.raises(TooLargeError, match="memory"):
            await fleet.server.run(batches[0])
        (await fleet.server.run(batches[1])).frames[0].image.close()
    assert fleet.changes == []


async def test_errors_of_models_come_back_and_the_worker_stays(fleet):
    unknown = ModelInfo("nobody", "1", "-", "classical", "-", needs_calibration=False, fits_samples=False)
    for info, error, reason in (
        (INFOS["breaker"], DefectError, "MODEL_FAILED"),
        (INFOS["not-finite"], DefectError, "MODEL_NOT_FINITE"),
        (unknown, ModelNotFoundError, "NO_SUCH_MODEL"),
    ):
        with closing(batch_of(info, FRAMES[0])) as (batch,), pytest.raises(error) as refused:
            await fleet.server.run(batch)
        assert refused.value.reason == reason
    await image_comes(fleet.server)
    assert fleet.changes == []


async def test_workers_compute_at_the_same_time_and_die_alone(start):
    async with start(workers=2, warm_up=("rss:2x16x24", "nonsense", "nobody:2x16x16", "cg-sense:1x16x16")) as started:
        one, other = started.backend.servers
        await eventually_async(lambda: other.up)
        for server in (one, other):
            warm = [measured.coils for measured in server.measurements if (measured.rows, measured.columns) == (16, 24)]
            assert warm == [(2,), (2, 2), (2, 2, 2, 2)]
        assert [one.name, other.name] == ["worker-0", "worker-1"]
        names = {psutil.Process(server.pid).name() for server in (one, other)}
        assert names == {"recond-worker-0", "recond-worker-1"}
        with closing(batch_of(INFOS["gate"], FRAMES[0]), batch_of(CG, FRAMES[1])) as (held, free):
            waiting = asyncio.ensure_future(one.run(held))
            await eventually_async((started.folder / "begun").exists)
            (await other.run(free)).frames[0].image.close()
            os.kill(other.pid, signal.SIGKILL)
            await eventually_async(lambda: not other.up)
            await eventually_async(lambda: other.up)
            assert not waiting.done()
            (started.folder / "open").touch()
            (await waiting).frames[0].image.close()
        assert one.starts == 1
        assert sorted(started.changes) == [
            ("worker-0", True),
            ("worker-1", False),
            ("worker-1", True),
            ("worker-1", True),
        ]


async def test_a_killed_zygote_is_replaced_with_its_workers(fleet):
    zygote = fleet.backend.zygote_pid
    assert psutil.Process(zygote).num_threads() == 1
    assert psutil.Process(fleet.server.pid).ppid() == zygote
    os.kill(zygote, signal.SIGKILL)
    await fleet.up()
    assert fleet.backend.zygote_pid != zygote
    await image_comes(fleet.server)


async def test_a_stopped_zygote_is_replaced_when_it_is_needed(fleet, monkeypatch):
    monkeypatch.setattr(zygotes, "_FORK_SECONDS", 0.5)
    zygote = fleet.backend.zygote_pid
    os.kill(zygote, signal.SIGSTOP)
    os.kill(fleet.server.pid, signal.SIGKILL)
    await fleet.up()
    assert fleet.backend.zygote_pid != zygote
    await image_comes(fleet.server)


async def test_a_model_that_is_replaced_serves_those_that_were_planned_with_it(start, tmp_path):
    async with start() as started:
        add_model(AddRequest(state_file(tmp_path), name="mine"))
        old = registry.find("mine")
        planned = batch_of(old, FRAMES[0]), batch_of(old, FRAMES[0])
        with closing(*planned):
            first = pixels((await started.server.run(planned[0])).frames[0], FRAMES[0])
            add_model(AddRequest(state_file(tmp_path, weights_of(seed=1)), name="mine", replace=True))
            with closing(batch_of(registry.find("mine"), FRAMES[0])) as (fresh,):
                other = pixels((await started.server.run(fresh)).frames[0], FRAMES[0])
            again = pixels((await started.server.run(planned[1])).frames[0], FRAMES[0])
        np.testing.assert_array_equal(again, first)
        assert np.abs(other - first).max() > 1e-3 * first.max()
        assert started.server.starts == 1


async def test_closing_in_the_middle_of_work_ends_everything(start):
    async with start(workers=2) as started:
        with closing(batch_of(INFOS["gate"], FRAMES[0])) as (batch,):
            running = asyncio.ensure_future(started.server.run(batch))
            await eventually_async((started.folder / "begun").exists)
            await started.backend.close()
            with pytest.raises(ServerLostError):
                await running
        assert False not in {up for _, up in started.changes}


async def test_nothing_adds_up_over_deaths(fleet):
    counts = []
    for times in (1, 2, 3):
        with closing(batch_of(INFOS["suicide"], FRAMES[0]), batch_of(CG, *FRAMES)) as batches:
            await asyncio.gather(*map(fleet.server.run, batches), return_exceptions=True)
        await fleet.up(times)
        counts.append((len(open_files()), len(open_files(fleet.server.pid))))
    assert len(set(counts)) == 1
