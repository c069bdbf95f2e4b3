import asyncio
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recond_service.transport import AsyncChannel, BlockingChannel, ChannelClosedError, SharedBlock, channel_pair

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@given(op=st.text(), body=st.dictionaries(st.text(), json_values))
@settings(max_examples=50, deadline=None)
def test_any_message_arrives_as_it_was_sent(op, body):
    ours, theirs = channel_pair()
    left, right = BlockingChannel(ours), BlockingChannel(theirs)
    left.send(op, body)
    message = right.receive()
    assert (message.op, message.body, message.fds) == (op, body, [])
    left.close()
    right.close()


def test_long_message_and_descriptors_travel_together_and_nothing_stays_open():
    before = open_descriptors()
    ours, theirs = channel_pair()
    left, right = BlockingChannel(ours), BlockingChannel(theirs)
    body = {"text": "k" * 1_000_000}
    with SharedBlock.holding("test", b"space") as block:
        left.send("long", body, [block.fd])
    message = right.receive()
    assert message.body == body
    with message.take_block(5) as received:
        assert received.read(0, 5) == b"space"
    left.close()
    right.close()
    assert open_descriptors() == before


def test_descriptors_of_a_malformed_message_are_closed():
    ours, theirs = channel_pair()
    right = BlockingChannel(theirs)
    before = open_descriptors()
    for packet in (b"inot json", b'i["op"]', b"i[1, {}]", b"b99999999999999", b"x"):
        with SharedBlock.create("test", 10) as block:
            socket.send_fds(ours, [packet], [block.fd])
        with pytest.raises(ValueError, match="malformed"):
            right.receive()
        assert open_descriptors() == before
    ours.close()
    right.close()


def test_the_other_end_being_gone_is_told_apart():
    ours, theirs = channel_pair()
    left = BlockingChannel(ours)
    theirs.close()
    with pytest.raises(ChannelClosedError):
        left.receive()
    with pytest.raises(ChannelClosedError):
        left.send("anybody there")
    left.close()


async def test_loop_is_not_blocked_by_a_receiver_that_does_not_read():
    ours, theirs = channel_pair()
    left, right = AsyncChannel(ours), AsyncChannel(theirs)
    sending = asyncio.create_task(_send_many(left, 500))
    await asyncio.sleep(0.05)
    assert not sending.done()  # the socket is full, and this line was reached
    numbers = [(await right.receive()).body["number"] for _ in range(500)]
    await sending
    assert numbers == list(range(500))
    left.close()
    with pytest.raises(ChannelClosedError):
        await right.receive()
    right.close()


async def _send_many(channel: AsyncChannel, count: int) -> None:
    for number in range(count):
        await channel.send("fill", {"number": number, "text": "x" * 8192})


def test_last_words_are_heard_although_something_was_left_unread():
    ours, theirs = channel_pair()
    left, right = BlockingChannel(ours), BlockingChannel(theirs)
    left.send("never read")
    right.send("error", {"reason": "NOT_HDF5"})
    right.close()
    assert left.receive().body == {"reason": "NOT_HDF5"}
    with pytest.raises(ChannelClosedError):
        left.receive()
    left.close()
