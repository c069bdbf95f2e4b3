"""Messages between processes over a Unix socket that keeps message boundaries (SOCK_SEQPACKET)."""

from __future__ import annotations

import array
import asyncio
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from recond_service.transport.memory import SharedBlock

_INLINE_BYTES = 48 << 10  # longer texts go through shared memory; the default socket buffer holds several of these
_LONGEST_TEXT = 64 << 20
_MOST_FDS = 64
MOST_DESCRIPTORS = _MOST_FDS - 1
"""In one message; a long message takes one for its text."""
_INLINE, _BLOCK = b"i", b"b"


class ChannelClosedError(ConnectionError):
    """The process at the other end is gone."""


@dataclass(slots=True)
class Message:
    """What a channel carries.

    Parameters
    ----------
    op
        What it is about.
    body
        JSON values.
    fds
        Descriptors. The receiver owns them.
    """

    op: str
    body: dict[str, Any] = field(default_factory=dict)
    fds: list[int] = field(default_factory=list)

    def take_block(self, size: int) -> SharedBlock:
        """Take the first descriptor as a shared block of `size` bytes.

        Raises
        ------
        ValueError
            If there is none, or it is not such a block.
        """
        if not self.fds:
            raise ValueError(f"message {self.op!r} came without its shared block")
        return SharedBlock.received(self.fds.pop(0), size)

    def close_fds(self) -> None:
        """Close the descriptors that nobody took."""
        while self.fds:
            os.close(self.fds.pop())


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets, one for each process."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _encode(op: str, body: dict[str, Any], fds: Sequence[int]) -> tuple[bytes, list[int], SharedBlock | None]:
    """Return the packet, its descriptors, and the block that has to live until it is sent."""
    if len(fds) > MOST_DESCRIPTORS:
        raise ValueError(f"{len(fds)} descriptors in one message")
    text = json.dumps([op, body], separators=(",", ":"), allow_nan=True).encode()
    if len(text) <= _INLINE_BYTES:
        return _INLINE + text, list(fds), None
    block = SharedBlock.holding("recond-message", text)
    return _BLOCK + str(len(text)).encode(), [block.fd, *fds], block


def _decode(packet: bytes, fds: list[int]) -> Message:
    """Return the message of a packet; closes the descriptors if it is none."""
    try:
        text = packet[1:]
        if packet[:1] == _BLOCK:
            size = int(text)
            if not fds or not 0 <= size <= _LONGEST_TEXT:
                raise ValueError("long message without its text")
            with SharedBlock.received(fds.pop(0), size) as block:
                text = block.read(0, size)
        op, body = json.loads(text)
        if not isinstance(op, str) or not isinstance(body, dict):
            raise TypeError("message is not [op, body]")
    except (ValueError, TypeError) as error:
        for fd in fds:
            os.close(fd)
        raise ValueError(f"malformed message: {error}") from error
    return Message(op, body, fds)


def _receive_packet(sock: socket.socket) -> tuple[bytes, list[int]]:
    """Receive one packet and its descriptors, which are closed on exec; raises BlockingIOError if there is none."""
    fds = array.array("i")
    space = socket.CMSG_SPACE(_MOST_FDS * fds.itemsize)
    try:
        packet, ancillary, flags, _ = sock.recvmsg(_INLINE_BYTES + 64, space, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        # The other end went away before it had read everything. What it had sent is still there.
        packet, ancillary, flags, _ = sock.recvmsg(_INLINE_BYTES + 64, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        for fd in fds:
            os.close(fd)
        raise ValueError("message was cut off")
    return packet, list(fds)


def _raw_send(sock: socket.socket, packet: bytes, fds: list[int]) -> None:
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([packet], ancillary, socket.MSG_NOSIGNAL)


class BlockingChannel:
    """The end of a channel in a process that waits for its messages.

    Parameters
    ----------
    sock
        One end of `channel_pair`; the channel owns it.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self._sock = sock

    def fileno(self) -> int:
        """Return the descriptor of the socket, for `select`."""
        return self._sock.fileno()

    def send(self, op: str, body: dict[str, Any] | None = None, fds: Sequence[int] = ()) -> None:
        """Send a message; waits while the other end does not read.

        Raises
        ------
        ChannelClosedError
            If the other end is gone.
        """
        packet, all_fds, block = _encode(op, body or {}, fds)
        try:
            _raw_send(self._sock, packet, all_fds)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ChannelClosedError(str(error)) from error
        finally:
            if block is not None:
                block.close()

    def receive(self) -> Message:
        """Wait for a message.

        Raises
        ------
        ChannelClosedError
            If the other end is gone.
        """
        packet, fds = _receive_packet(self._sock)
        if not packet:
            raise ChannelClosedError("the other end was closed")
        return _decode(packet, fds)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


class AsyncChannel:
    """The end of a channel that lives on an event loop.

    Parameters
    ----------
    sock
        One end of `channel_pair`; the channel owns it.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._sending = asyncio.Lock()

    async def send(self, op: str, body: dict[str, Any] | None = None, fds: Sequence[int] = ()) -> None:
        """Send a message; waits, without blocking the loop, while the other end does not read.

        Raises
        ------
        ChannelClosedError
            If the other end is gone.
        """
        packet, all_fds, block = _encode(op, body or {}, fds)
        try:
            async with self._sending:
                while True:
                    if self._sock.fileno() < 0:
                        raise ChannelClosedError("the channel is closed")
                    try:
                        _raw_send(self._sock, packet, all_fds)
                    except BlockingIOError:
                        await self._ready(write=True)
                    else:
                        return
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ChannelClosedError(str(error)) from error
        finally:
            if block is not None:
                block.close()

    async def receive(self) -> Message:
        """Wait for a message. Only one task may wait at a time.

        Raises
        ------
        ChannelClosedError
            If the other end is gone.
        ValueError
            If what came is not a message.
        """
        while True:
            if self._sock.fileno() < 0:
                raise ChannelClosedError("the channel is closed")
            try:
                packet, fds = _receive_packet(self._sock)
            except BlockingIOError:
                await self._ready(write=False)
                continue
            if not packet:
                raise ChannelClosedError("the other end was closed")
            return _decode(packet, fds)

    async def _ready(self, *, write: bool) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        fd = self._sock.fileno()
        add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        add(fd, wake)
        try:
            await ready
        finally:
            remove(fd)

    def close(self) -> None:
        """Close the socket. Do this only when no task waits on the channel."""
        self._sock.close()
