"""The process that workers are forked from: torch and the models' code loaded, no thread started, no GPU touched.

Started as ``python -P -m recond_service.backends.embedded.zygote FD LOG_LEVEL LOG_FORMAT``; `recond_service.processes.fork_server`
says what it does. A worker gets its options, its end of a channel and its board. Importing takes two seconds, forking milliseconds:
a worker that died is replaced before anybody has waited long.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import structlog
import torch

from recond_models import registry
from recond_models.networks import openvino_engine
from recond_service.backends.embedded.board import Board
from recond_service.backends.embedded.messages import StartWorker, ToWorker
from recond_service.backends.embedded.worker import Worker
from recond_service.processes import BlockingChannel, ChannelClosedError, keep_freed_memory, serve_forks
from recond_service.telemetry import configure_logging

_LATE_IMPORTS: Final = (
    "recond_models.classical.cg_sense",
    "recond_models.classical.l1_wavelet",
    "recond_models.classical.rss",
    "recond_models.classical.tv",
    "recond_models.networks.families",
    "recond_models.store.load",
)
_KEPT_BYTES = 1 << 30
_PR_SET_NAME = 15
_log = structlog.get_logger(__name__)


def _prepare() -> None:
    """Load what workers need. Nothing may be computed here: the threads of a library would not be there in the children."""
    configure_logging(cast("Any", sys.argv[2]), cast("Any", sys.argv[3]))
    for module in _LATE_IMPORTS:
        importlib.import_module(module)
    openvino_engine.load_if_installed()
    registry.available()
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        _log.error("zygote-has-threads", threads=threads)
    _name_process("recond-zygote")
    # Collecting garbage writes to every object: what is frozen stays shared with the children.
    gc.collect()
    gc.freeze()


def _work(opening: bytes, fds: list[int]) -> None:
    """Be a worker."""
    options = msgspec.msgpack.decode(opening, type=StartWorker).options
    _name_process(f"recond-{options.name}")
    channel: BlockingChannel[ToWorker] = BlockingChannel(socket.socket(fileno=fds.pop(0)), ToWorker)
    board = Board.received(fds.pop(0))
    threading.excepthook = _on_thread_error
    torch.set_num_threads(options.threads)
    keep_freed_memory(_KEPT_BYTES)
    try:
        Worker(channel, board, options).serve()
    except ChannelClosedError:
        return
    finally:
        problem = sys.exc_info()
        if problem[0] is not None and problem[0] is not ChannelClosedError:
            _log.error("worker-defect", worker=options.name, traceback="".join(traceback.format_exception(*problem)))


def _on_thread_error(problem: threading.ExceptHookArgs) -> None:
    """Log what a thread beside the work could not cope with, and end: without one of its threads a worker only looks alive."""
    _log.error("worker-thread-defect", thread=problem.thread and problem.thread.name, exc_info=problem.exc_value)
    os._exit(1)


def _name_process(name: str) -> None:
    """Set what tools such as ps and top show, at most 15 characters."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


if __name__ == "__main__":
    serve_forks(int(sys.argv[1]), _prepare, _work)
