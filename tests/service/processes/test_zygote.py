"""Real zygotes and children: forked, talked to, killed, stopped, out of descriptors; nothing is left behind."""

import asyncio
import contextlib
import errno
import os
import signal
from pathlib import Path

import psutil
import pytest
import trial_zygote
from trial_zygote import Begin, Tell, Told
from waiting import eventually_async

from recond_service.processes import LOST, ForkError, SharedBlock, Zygote
from recond_service.processes import zygote as zygotes


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.asynccontextmanager
async def running():
    zygote = Zygote("trial zygote", "trial_zygote", environment={"PYTHONPATH": str(Path(trial_zygote.__file__).parent)})
    before, family = descriptors(), set(psutil.Process().children(recursive=True))
    zygote.start()
    zygote.start()
    async with asyncio.timeout(30):
        await zygote.wait_ready()
    try:
        yield zygote
    finally:
        await zygote.close()
    await eventually_async(lambda: descriptors() == before)
    assert set(psutil.Process().children(recursive=True)) <= family


async def test_children_get_their_opening_and_descriptors_and_answer():
    async with running() as zygote:
        with SharedBlock.holding("test", b"space") as block:
            children = [await zygote.fork(Begin("answer"), Told, [block.fd] * number) for number in range(3)]
        assert zygote.children == 3
        for number, child in enumerate(children):
            await child.channel.send(Tell("hello"))
            assert (await child.channel.receive()).message == Told("HELLO", number)
            assert psutil.Process(child.pid).ppid() == zygote.pid
        children[0].close()
        children[0].close()
        assert await children[0].exit_status == -signal.SIGKILL
        await children[1].end()
        assert not psutil.pid_exists(children[1].pid) or psutil.Process(children[1].pid).status() == "zombie"
        children[2].close()


@pytest.mark.parametrize(("what", "status"), [("exit", 7), ("die", -signal.SIGABRT)])
async def test_how_a_child_ended_is_told(what, status):
    async with running() as zygote:
        child = await zygote.fork(Begin(what), Told)
        assert await asyncio.wait_for(child.exit_status, 10) == status
        child.close()
        await eventually_async(lambda: zygote.children == 0)


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGHUP]])
async def test_signals_to_the_whole_group_do_not_reach_the_work(signals):
    async with running() as zygote:
        child = await zygote.fork(Begin("answer"), Told)
        for number in signals:
            for pid in (zygote.pid, child.pid):
                os.kill(pid, number)
        await child.channel.send(Tell("still here"))
        assert (await child.channel.receive()).message.text == "STILL HERE"
        (await zygote.fork(Begin("exit"), Told)).close()
        child.close()


async def test_a_killed_zygote_takes_its_children_along_and_comes_back():
    async with running() as zygote:
        child, first = await zygote.fork(Begin("sleep"), Told), zygote.pid
        os.kill(first, signal.SIGKILL)
        assert await asyncio.wait_for(child.exit_status, 10) == LOST
        child.close()
        await eventually_async(lambda: not psutil.pid_exists(child.pid))
        async with asyncio.timeout(30):
            again = await zygote.fork(Begin("answer"), Told)
        assert zygote.pid != first
        again.close()


async def test_a_zygote_that_dies_while_descriptors_are_short_comes_back(monkeypatch):
    pairs, failures = zygotes.channel_pair, [OSError(errno.EMFILE, "Too many open files")] * 2

    def channel_pair():
        if failures:
            raise failures.pop()
        return pairs()

    async with running() as zygote:
        monkeypatch.setattr(zygotes, "channel_pair", channel_pair)
        os.kill(zygote.pid, signal.SIGKILL)
        await eventually_async(lambda: not failures)
        async with asyncio.timeout(30):
            (await zygote.fork(Begin("answer"), Told)).close()


async def test_a_stopped_zygote_is_replaced_when_it_is_needed(monkeypatch):
    monkeypatch.setattr(zygotes, "_FORK_SECONDS", 0.3)
    async with running() as zygote:
        first = zygote.pid
        os.kill(first, signal.SIGSTOP)
        with pytest.raises(ForkError, match="did not answer"):
            await zygote.fork(Begin("answer"), Told)
        async with asyncio.timeout(30):
            (await zygote.fork(Begin("answer"), Told)).close()
        assert zygote.pid != first


async def test_a_fork_that_is_cancelled_leaves_nothing():
    async with running() as zygote:
        for delay in range(6):
            asking = asyncio.create_task(zygote.fork(Begin("answer"), Told))
            for _ in range(delay):
                await asyncio.sleep(0)
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                (await asking).close()
        await eventually_async(lambda: zygote.children == 0)
        before = descriptors()
        (await zygote.fork(Begin("answer"), Told)).close()
        assert descriptors() == before
