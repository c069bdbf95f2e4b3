"""How the processes of one service talk: JSON messages with file descriptors, arrays in anonymous shared memory.

Nothing here unpickles: what comes from the process that parses untrusted bytes is data only. Arrays live in `memfd`s,
which have no name that could be left behind when a process dies.
"""

from recond_service.transport.allocation import FreedMemory, give_back_freed_memory, keep_freed_memory
from recond_service.transport.channel import (
    MOST_DESCRIPTORS,
    AsyncChannel,
    BlockingChannel,
    ChannelClosedError,
    Message,
    channel_pair,
)
from recond_service.transport.forking import ForkServer, serve_forks
from recond_service.transport.frames import FrameLayout
from recond_service.transport.lifetime import die_with_parent
from recond_service.transport.memory import SharedBlock

__all__ = [
    "MOST_DESCRIPTORS",
    "AsyncChannel",
    "BlockingChannel",
    "ChannelClosedError",
    "ForkServer",
    "FrameLayout",
    "FreedMemory",
    "Message",
    "SharedBlock",
    "channel_pair",
    "die_with_parent",
    "give_back_freed_memory",
    "keep_freed_memory",
    "serve_forks",
]
