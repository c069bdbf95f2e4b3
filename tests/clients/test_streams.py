"""Acquisition streams of both clients against a scripted peer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import ismrmrd
import numpy as np
import pytest
from waiting import eventually

import recond_client
from recond_client import AcquisitionBatch, RetryLaterError, batches_of

HEADER = "<ismrmrdHeader/>"


def line(number: int) -> AcquisitionBatch:
    acquisition = ismrmrd.Acquisition.from_array(np.full((2, 4), number, np.complex64))
    return next(batches_of([acquisition]))


async def answer_each(peer: Any) -> None:
    """One image per acquisition, as soon as it comes."""
    await peer.accept()
    assert (await peer.receive()).mrd_header.xml == HEADER.encode()
    await peer.plan(0)
    count = 0
    while (message := await peer.receive()) is not None:
        value = np.frombuffer(message.acquisitions.samples, "<c8")[0].real
        await peer.image(count, np.full((4, 3), value), slice=count)
        count += 1
    await peer.summary(list(range(count)), 4, 3)


async def accept_and_hang(peer: Any) -> None:
    await peer.accept()
    await asyncio.sleep(30)


def test_first_image_before_the_last_line(peer: Any) -> None:
    peer.scripts = [answer_each]
    first_seen = threading.Event()

    def scanner() -> Iterator[AcquisitionBatch]:
        yield line(5)
        assert first_seen.wait(10)
        yield line(6)

    with recond_client.Client(peer.target) as client, client.stream(HEADER, scanner(), expected_bytes=128) as stream:
        image = next(stream)
        assert (image.pixels[0, 0], image.index.slice, stream.model, stream.request_id) == (5, 0, "rss", "r-1")
        first_seen.set()
        assert [image.pixels[0, 0] for image in stream] == [6]
        assert stream.result().images[:, 0, 0].tolist() == [5, 6]
    assert peer.calls[0].received[0].spec.acquisition_stream.expected_bytes == 128


async def test_first_image_before_the_last_line_aio(peer: Any) -> None:
    peer.scripts = [answer_each]
    first_seen = asyncio.Event()

    async def scanner() -> AsyncIterator[AcquisitionBatch]:
        yield line(5)
        await asyncio.wait_for(first_seen.wait(), 10)
        yield line(6)

    async with recond_client.aio.Client(peer.target) as client, client.stream(HEADER, scanner()) as stream:
        assert (await anext(stream)).pixels[0, 0] == 5
        first_seen.set()
        assert [image.pixels[0, 0] async for image in stream] == [6]
        assert (await stream.result()).images[:, 0, 0].tolist() == [5, 6]


async def test_ordinary_iterables_in_aio(peer: Any) -> None:
    peer.scripts = [answer_each]
    async with recond_client.aio.Client(peer.target) as client, client.stream(HEADER, [line(1), line(2)]) as stream:
        assert (await stream.result()).images[:, 0, 0].tolist() == [1, 2]


def test_result_before_the_end_waits_for_it(peer: Any) -> None:
    peer.scripts = [answer_each]
    with recond_client.Client(peer.target) as client, client.stream(HEADER, [line(1), line(2)]) as stream:
        assert stream.result().shape == (2, 4, 3)
        assert stream.result().shape == (2, 4, 3)
        assert list(stream) == []


def test_what_the_scanner_raises_comes_out(peer: Any) -> None:
    peer.scripts = [answer_each]

    def scanner() -> Iterator[AcquisitionBatch]:
        yield line(1)
        raise ConnectionResetError("scanner gone")

    with recond_client.Client(peer.target) as client, pytest.raises(ConnectionResetError, match="scanner gone"):
        client.stream(HEADER, scanner()).result()
    assert peer.ended.wait(5)


async def test_what_the_scanner_raises_comes_out_aio(peer: Any) -> None:
    peer.scripts = [answer_each]

    async def scanner() -> AsyncIterator[AcquisitionBatch]:
        yield line(1)
        raise ConnectionResetError("scanner gone")

    async with recond_client.aio.Client(peer.target) as client, client.stream(HEADER, scanner()) as stream:
        with pytest.raises(ConnectionResetError, match="scanner gone"):
            await stream.result()
    assert await asyncio.to_thread(peer.ended.wait, 5)


def test_nothing_is_taken_from_the_scanner_before_admission(peer: Any, details: SimpleNamespace) -> None:
    async def full(conversation: Any) -> None:
        await conversation.receive()
        await conversation.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", details.retry_in(3))

    peer.scripts = [full, answer_each]
    batches = iter([line(1)])
    with recond_client.Client(peer.target) as client:
        with pytest.raises(RetryLaterError) as caught:
            client.stream(HEADER, batches).result()
        assert caught.value.retry_after == 3
        assert client.stream(HEADER, batches).result().shape == (1, 4, 3)


def test_error_while_the_scanner_is_silent(peer: Any) -> None:
    async def lose(conversation: Any) -> None:
        await conversation.accept()
        await conversation.receive()
        await conversation.abort(grpc.StatusCode.UNAVAILABLE, "worker lost")

    peer.scripts = [lose]
    silence_may_end, spoken = threading.Event(), []

    def scanner() -> Iterator[AcquisitionBatch]:
        silence_may_end.wait(60)
        spoken.append(True)
        yield line(1)

    with recond_client.Client(peer.target) as client, pytest.raises(RetryLaterError):
        client.stream(HEADER, scanner()).result()
    assert not spoken
    silence_may_end.set()


def test_leaving_early_cancels_the_call(peer: Any) -> None:
    peer.scripts = [accept_and_hang]
    before = set(threading.enumerate())
    with recond_client.Client(peer.target) as client:
        with client.stream(HEADER, [line(1)]):
            assert peer.called.wait(10)
        assert peer.ended.wait(5)
    eventually(lambda: set(threading.enumerate()) <= before)


async def test_leaving_early_cancels_the_call_aio(peer: Any) -> None:
    peer.scripts = [accept_and_hang]
    async with recond_client.aio.Client(peer.target) as client:
        async with client.stream(HEADER, [line(1)]) as stream:
            while not stream.request_id:
                taking = asyncio.ensure_future(anext(stream))
                await asyncio.sleep(0.1)
        with pytest.raises(RetryLaterError, match="cancelled"):
            await taking
        assert await asyncio.to_thread(peer.ended.wait, 5)


async def test_cancelled_task_cancels_the_call(peer: Any) -> None:
    peer.scripts = [accept_and_hang]
    async with recond_client.aio.Client(peer.target) as client:
        task = asyncio.create_task(client.reconstruct(kspace=np.ones((1, 2, 2), np.complex64)))
        assert await asyncio.to_thread(peer.called.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(peer.ended.wait, 5)


def test_closing_the_client_ends_a_call_of_another_thread(peer: Any) -> None:
    peer.scripts = [accept_and_hang]
    caught: list[BaseException] = []
    client = recond_client.Client(peer.target)

    def wait() -> None:
        try:
            client.reconstruct(kspace=np.ones((1, 2, 2), np.complex64))
        except recond_client.RecondError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert peer.called.wait(10)
    client.close()
    thread.join(10)
    assert not thread.is_alive()
    assert isinstance(caught[0], RetryLaterError)
    assert caught[0].status == "CANCELLED"


def test_closing_the_client_between_two_attempts_is_a_typed_error(peer: Any) -> None:
    async def full(peer: Any) -> None:
        await peer.accept()
        await peer.receive_all()
        await peer.abort(grpc.StatusCode.UNAVAILABLE, "worker lost")

    peer.scripts = [full] * 3
    client = recond_client.Client(peer.target, sleep=lambda _: client.close())
    with pytest.raises(RetryLaterError, match="was cancelled") as caught:
        client.reconstruct(kspace=np.ones((1, 2, 2), np.complex64))
    assert caught.value.status == "CANCELLED"
    for ask in (client.models, client.health, lambda: client.model("rss")):
        with pytest.raises(RetryLaterError, match="was cancelled"):
            ask()
