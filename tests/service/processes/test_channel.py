import asyncio
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recond_service.processes import (
    AsyncChannel,
    BlockingChannel,
    ChannelClosedError,
    Message,
    SharedBlock,
    channel_pair,
)


class Told(Message, frozen=True):
    text: str
    number: int = 0
    values: tuple[float | None, ...] = ()


class Asked(Message, frozen=True):
    text: str


class Unheard(Message, frozen=True):
    text: str


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def pair():
    ours, theirs = channel_pair()
    channels = BlockingChannel(ours, Told | Asked), BlockingChannel(theirs, Told | Asked)
    yield channels
    for channel in channels:
        channel.close()


@given(
    message=st.builds(
        Told,
        st.text(),
        st.integers(-(2**63), 2**63 - 1),
        st.lists(st.none() | st.floats(allow_nan=False)).map(tuple),
    )
    | st.builds(Asked, st.text())
)
@settings(max_examples=50, deadline=None)
def test_any_message_arrives_as_it_was_sent(message):
    ours, theirs = channel_pair()
    left, right = BlockingChannel(ours, Told), BlockingChannel(theirs, Told | Asked)
    left.send(message)
    received = right.receive()
    assert (received.message, received.fds) == (message, [])
    left.close()
    right.close()


def test_long_message_and_descriptors_travel_together_and_nothing_stays_open(pair):
    before = open_descriptors()
    left, right = pair
    message = Told("k" * 1_000_000)
    with SharedBlock.holding("test", b"space") as block:
        left.send(message, [block.fd])
    received = right.receive()
    assert received.message == message
    with received.take_block(5) as found:
        assert found.read(0, 5) == b"space"
    with pytest.raises(ValueError, match="without its shared block"):
        received.take_block(5)
    assert open_descriptors() == before


def test_text_that_is_no_unicode_arrives_with_question_marks(pair):
    left, right = pair
    left.send(Told("group \udcff: \u00b5", 3, (None, 0.5)))
    assert right.receive().message == Told("group ?: \u00b5", 3, (None, 0.5))


def test_descriptors_of_a_malformed_message_are_closed():
    ours, theirs = channel_pair()
    right = BlockingChannel(theirs, Told)
    before = open_descriptors()
    packets = [b"inot msgpack", b"i", b"b99999999999999", b"bno number", b"x", b"i" + b"\x81\xa4type\xa4Told"]
    for packet in packets:
        with SharedBlock.create("test", 10) as block:
            socket.send_fds(ours, [packet], [block.fd])
        with pytest.raises(ValueError, match=r"malformed|invalid literal|expected 9"):
            right.receive()
        assert open_descriptors() == before
    ours.close()
    right.close()


def test_a_message_that_was_not_declared_is_refused(pair):
    left, right = pair
    left.send(Unheard("of"))
    with pytest.raises(ValueError, match="malformed message"):
        right.receive()
    left.send(Asked("again"))
    assert right.receive().message == Asked("again")


def test_the_other_end_being_gone_is_told_apart():
    ours, theirs = channel_pair()
    left = BlockingChannel(ours, Told)
    theirs.close()
    with pytest.raises(ChannelClosedError):
        left.receive()
    with pytest.raises(ChannelClosedError):
        left.send(Asked("anybody there"))
    left.close()


async def test_loop_is_not_blocked_by_a_receiver_that_does_not_read():
    ours, theirs = channel_pair()
    left, right = AsyncChannel(ours, Told), AsyncChannel(theirs, Told)
    sent = 0

    async def send_many() -> None:
        nonlocal sent
        for number in range(500):
            await left.send(Told("x" * 8192, number))
            sent = number + 1

    sending = asyncio.create_task(send_many())
    before = -1
    while sent != before:  # until the socket is full; this line is reached meanwhile
        before = sent
        await asyncio.sleep(0.01)
    assert 0 < sent < 500
    numbers = [(await right.receive()).message.number for _ in range(500)]
    await sending
    assert numbers == list(range(500))
    left.close()
    with pytest.raises(ChannelClosedError):
        await right.receive()
    right.close()


def test_last_words_are_heard_although_something_was_left_unread(pair):
    left, right = pair
    left.send(Told("never read"))
    right.send(Asked("NOT_HDF5"))
    right.close()
    assert left.receive().message == Asked("NOT_HDF5")
    with pytest.raises(ChannelClosedError):
        left.receive()
