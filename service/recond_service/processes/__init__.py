"""How the processes of one service are forked, watched and talked to, and how arrays travel between them.

Messages are typed structs over Unix sockets, see `channel`. Arrays live in `memfd`s, which have no name that could be left behind
when a process dies, and travel by descriptor. Children are forked from zygotes that have loaded what they need.
"""

from recond_service.processes.backoff import Backoff
from recond_service.processes.channel import (
    MOST_DESCRIPTORS,
    AsyncChannel,
    BlockingChannel,
    ChannelClosedError,
    Message,
    Received,
    channel_pair,
)
from recond_service.processes.fork_server import serve_forks
from recond_service.processes.frame_layout import FrameLayout
from recond_service.processes.freed_memory import FreedMemory, give_back_freed_memory, keep_freed_memory
from recond_service.processes.shared_block import SharedBlock
from recond_service.processes.slice_layout import SliceLayout
from recond_service.processes.staged_block import StagedKspace
from recond_service.processes.zygote import LOST, ChildProcess, ForkError, Zygote

__all__ = [
    "LOST",
    "MOST_DESCRIPTORS",
    "AsyncChannel",
    "Backoff",
    "BlockingChannel",
    "ChannelClosedError",
    "ChildProcess",
    "ForkError",
    "FrameLayout",
    "FreedMemory",
    "Message",
    "Received",
    "SharedBlock",
    "SliceLayout",
    "StagedKspace",
    "Zygote",
    "channel_pair",
    "give_back_freed_memory",
    "keep_freed_memory",
    "serve_forks",
]
