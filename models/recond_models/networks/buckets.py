"""U-Nets of a model, compiled for the sizes that come in. Compiled beside the work, checked, and few at a time."""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from recond_models.networks.engines import LARGEST_DIFFERENCE, Engine, PlainEngine, Precision
from recond_models.networks.unet import Unet

_log = logging.getLogger(__name__)

_BYTES = 4 << 30
"""Estimated memory of all compiled buckets of a model."""

_BUCKETS = 8

_leaving = threading.Event()
_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()

Size = tuple[int, int]
Compile = Callable[[Unet, Size, Precision, int], Engine]


class Buckets:
    """The engines of one model on a CPU.

    The first image of a size starts compiling for that size in another thread; until it is done and checked, images of that size
    take the plain path. Without OpenVINO all do.

    Parameters
    ----------
    unets
        The networks of the model; their weights must not change afterwards.
    precision
        Of the convolutions.
    compiler
        Makes an engine of a network, for a size (rows, columns) and a number of threads; None for no compiling at all.
    """

    def __init__(self, unets: Sequence[Unet], precision: Precision, compiler: Compile | None) -> None:
        self._plain: list[Engine] = [PlainEngine(unet, torch.device("cpu"), precision) for unet in unets]
        self._unets = list(unets)
        self._precision: Precision = precision
        self._compiler = compiler
        self._lock = threading.Lock()
        self._compiled: OrderedDict[Size, Sequence[Engine]] = OrderedDict()
        self._working: dict[Size, threading.Thread] = {}

    def engines(self, size: Size) -> Sequence[Engine]:
        """Return an engine for every network: compiled ones if they are ready for that size.

        Parameters
        ----------
        size
            (rows, columns) of the images, padded as the networks want them.
        """
        with self._lock:
            if size in self._compiled:
                self._compiled.move_to_end(size)
                return self._compiled[size] or self._plain
            if self._compiler is not None and not self._working and self._bytes(size) <= _BYTES:
                thread = threading.Thread(
                    target=self._compile,
                    args=(size, torch.get_num_threads(), self._compiler),
                    name="compile",
                    daemon=True,  # ended by `_leave`: in the middle of torch it would take the process down with it
                )
                self._working[size] = thread
                _threads.add(thread)
                thread.start()
        return self._plain

    def wait(self) -> None:
        """Return when nothing is being compiled."""
        for thread in list(self._working.values()):
            thread.join()

    def ready(self, size: Size) -> bool:
        """Tell whether images of this size run on compiled networks."""
        with self._lock:
            return bool(self._compiled.get(size))

    def _compile(self, size: Size, threads: int, compiler: Compile) -> None:
        """Compile all networks for a size and keep them if they agree with the plain ones."""
        # The work goes on meanwhile, and the number of threads belongs to the thread that calls.
        torch.set_num_threads(1)
        engines: list[Engine] = []
        try:
            for number, unet in enumerate(self._unets):
                if _leaving.is_set():
                    engines.clear()
                    break
                engine = compiler(unet, size, self._precision, threads)
                difference = _difference(engine, unet, size)
                engine.release()
                if not difference <= LARGEST_DIFFERENCE[self._precision]:
                    _log.warning(
                        "compiled network %d for %d x %d refused: it differs by %.2g from the plain one; images of this size take "
                        "the plain path",
                        *(number, *size, difference),
                    )
                    engines.clear()
                    break
                engines.append(engine)
        except (ImportError, MemoryError, OSError, RuntimeError, TypeError, ValueError):
            # Whatever a compiler cannot do, the plain path can.
            _log.exception("cannot compile for %d x %d; images of this size take the plain path", *size)
            engines.clear()
        with self._lock:
            self._compiled[size] = engines
            self._evict()
            del self._working[size]

    def _evict(self) -> None:
        """Forget the sizes that were not used for longest, until the others fit."""
        while len(self._compiled) > 1 and (
            len(self._compiled) > _BUCKETS
            or sum(self._bytes(size) for size, engines in self._compiled.items() if engines) > _BYTES
        ):
            self._compiled.popitem(last=False)

    def _bytes(self, size: Size) -> int:
        """Estimate what the compiled networks for a size take: weights in two layouts, and the feature maps of one of them."""
        weights = sum(weight.numel() for unet in self._unets for weight in unet.parameters())
        maps = max(20 * size[0] * size[1] * unet.channels for unet in self._unets)
        return 12 * weights + maps


@atexit.register
def _leave() -> None:
    """Let compiling threads end before what they use is torn down."""
    _leaving.set()
    for thread in list(_threads):
        thread.join()


@torch.inference_mode()
def _difference(engine: Engine, unet: Unet, size: Size) -> float:
    """Return the relative difference between an engine and the plain float32 network on noise of variance 1."""
    noise = torch.randn(1, unet.in_channels, *size, generator=torch.Generator().manual_seed(0))
    expected: Tensor = unet(noise.contiguous(memory_format=torch.channels_last))
    difference = torch.linalg.vector_norm(engine(noise) - expected) / torch.linalg.vector_norm(expected)
    return float(difference)
