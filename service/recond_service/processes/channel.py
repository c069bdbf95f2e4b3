"""Typed messages between processes, with file descriptors, over a Unix socket that keeps message boundaries (SOCK_SEQPACKET).

A message is a `msgspec.Struct`; what an end may receive is declared when the channel is made, and anything else is refused.
Nothing is unpickled: what comes from a process that parses untrusted bytes is data only.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import msgspec

from recond_service.processes.shared_block import SharedBlock

_INLINE_BYTES = 48 << 10  # longer messages go through shared memory; the default socket buffer holds several of these
_LONGEST_MESSAGE = 64 << 20
_MOST_FDS = 64
MOST_DESCRIPTORS: Final = _MOST_FDS - 1
"""Descriptors that one message can carry; a long message needs one for its own bytes."""
_INLINE, _BLOCK = b"i", b"b"

_encoder: Final = msgspec.msgpack.Encoder()

Incoming = TypeVar("Incoming")


class ChannelClosedError(ConnectionError):
    """The process at the other end is gone."""


class Message(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Base of all messages; the name of the class travels along and tells messages apart."""


@dataclass(slots=True)
class Received(Generic[Incoming]):
    """A message that has arrived, and the descriptors that came with it.

    Parameters
    ----------
    message
        What was sent.
    fds
        Descriptors in the order in which they were sent. The receiver owns them.
    """

    message: Incoming
    fds: list[int] = field(default_factory=list)

    def take_block(self, size: int) -> SharedBlock:
        """Take the first descriptor as a shared block of `size` bytes.

        Raises
        ------
        ValueError
            There is none, or it is no such block.
        """
        if not self.fds:
            raise ValueError(f"a {type(self.message).__name__} came without its shared block")
        return SharedBlock.received(self.fds.pop(0), size)

    def close_fds(self) -> None:
        """Close the descriptors that nobody took."""
        while self.fds:
            os.close(self.fds.pop())


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets, one for each process."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _encode(message: Message) -> bytes:
    """Return the bytes of a message; what is no Unicode in its texts, from names within files say, becomes question marks."""
    try:
        return _encoder.encode(message)
    except UnicodeEncodeError:
        return _encoder.encode(_unicode(msgspec.to_builtins(message, builtin_types=(bytes,))))


def _unicode(value: object) -> object:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_unicode(key): _unicode(held) for key, held in value.items()}
    return [_unicode(held) for held in value] if isinstance(value, list | tuple) else value


class _Packet:
    """A message as it goes through the socket: at most 48 KiB inline, more in a shared block."""

    __slots__ = ("_block", "bytes", "fds")

    def __init__(self, message: Message, fds: Sequence[int]) -> None:
        if len(fds) > MOST_DESCRIPTORS:
            raise ValueError(f"{len(fds)} descriptors in one message; at most {MOST_DESCRIPTORS} fit")
        encoded = _encode(message)
        self._block: SharedBlock | None = None
        if len(encoded) <= _INLINE_BYTES:
            self.bytes, self.fds = _INLINE + encoded, list(fds)
        else:
            self._block = SharedBlock.holding("recond-message", encoded)
            self.bytes, self.fds = _BLOCK + str(len(encoded)).encode(), [self._block.fd, *fds]

    def send(self, sock: socket.socket) -> None:
        """Send it; raises BlockingIOError where the socket is full."""
        if self.fds:
            socket.send_fds(sock, [self.bytes], self.fds)
        else:
            sock.send(self.bytes)

    def close(self) -> None:
        """Let go of the shared block, once the message was sent."""
        if self._block is not None:
            self._block.close()


class _Inbox(Generic[Incoming]):
    """Reads messages of declared types from a socket."""

    def __init__(self, sock: socket.socket, incoming: Any) -> None:  # noqa: ANN401 - a union of classes has no type of its own
        self._sock = sock
        self._decoder: msgspec.msgpack.Decoder[Incoming] = msgspec.msgpack.Decoder(incoming)

    def read(self) -> Received[Incoming]:
        """Return the next message; raises BlockingIOError where there is none, ChannelClosedError at the end, else ValueError."""
        packet, fds, flags = self._receive()
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ValueError("message was cut off")
            if not packet:
                raise ChannelClosedError("the other end was closed")
            encoded = packet[1:]
            if packet[:1] == _BLOCK:
                size = int(encoded)
                if not fds or not 0 <= size <= _LONGEST_MESSAGE:
                    raise ValueError("malformed message: long, and without its shared block")
                with SharedBlock.received(fds.pop(0), size) as block:
                    encoded = block.read(0, size)
            try:
                return Received(self._decoder.decode(encoded), fds)
            except msgspec.DecodeError as error:
                raise ValueError(f"malformed message: {error}") from error
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise

    def _receive(self) -> tuple[bytes, list[int], int]:
        size = _INLINE_BYTES + 64
        try:
            packet, fds, flags, _ = socket.recv_fds(self._sock, size, _MOST_FDS, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            # The other end went away before it had read everything. What it had sent is still there.
            packet, fds, flags, _ = socket.recv_fds(self._sock, size, _MOST_FDS, socket.MSG_CMSG_CLOEXEC)
        return packet, fds, flags


class BlockingChannel(Generic[Incoming]):
    """The end of a channel in a process that waits for its messages.

    Parameters
    ----------
    sock
        One end of `channel_pair`; the channel owns it.
    incoming
        Class of the messages that may arrive, or a union of classes.
    """

    def __init__(self, sock: socket.socket, incoming: Any) -> None:  # noqa: ANN401
        sock.setblocking(True)
        self._sock = sock
        self._inbox: _Inbox[Incoming] = _Inbox(sock, incoming)

    def fileno(self) -> int:
        """Return the descriptor of the socket, for `select`."""
        return self._sock.fileno()

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send a message; waits while the other end does not read.

        Raises
        ------
        ChannelClosedError
            The other end is gone.
        """
        packet = _Packet(message, fds)
        try:
            packet.send(self._sock)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ChannelClosedError(str(error)) from error
        finally:
            packet.close()

    def receive(self) -> Received[Incoming]:
        """Wait for a message.

        Raises
        ------
        ChannelClosedError
            The other end is gone.
        ValueError
            What came is none of the messages that may arrive. Its descriptors are closed.
        """
        return self._inbox.read()

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


class AsyncChannel(Generic[Incoming]):
    """The end of a channel that lives on an event loop.

    Parameters
    ----------
    sock
        One end of `channel_pair`; the channel owns it.
    incoming
        Class of the messages that may arrive, or a union of classes.
    """

    def __init__(self, sock: socket.socket, incoming: Any) -> None:  # noqa: ANN401
        sock.setblocking(False)
        self._sock = sock
        self._inbox: _Inbox[Incoming] = _Inbox(sock, incoming)
        self._sending = asyncio.Lock()

    async def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send a message; waits, without blocking the loop, while the other end does not read.

        Raises
        ------
        ChannelClosedError
            The other end is gone.
        """
        packet = _Packet(message, fds)
        try:
            async with self._sending:
                while True:
                    if self._sock.fileno() < 0:
                        raise ChannelClosedError("the channel is closed")
                    try:
                        packet.send(self._sock)
                    except BlockingIOError:
                        await self._ready(write=True)
                    else:
                        return
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ChannelClosedError(str(error)) from error
        finally:
            packet.close()

    async def receive(self) -> Received[Incoming]:
        """Wait for a message. Only one task may wait at a time.

        Raises
        ------
        ChannelClosedError
            The other end is gone.
        ValueError
            What came is none of the messages that may arrive. Its descriptors are closed.
        """
        while True:
            if self._sock.fileno() < 0:
                raise ChannelClosedError("the channel is closed")
            try:
                return self._inbox.read()
            except BlockingIOError:
                await self._ready(write=False)

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
