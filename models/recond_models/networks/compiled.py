"""The U-Nets of a model on a CPU: plain at first, compiled for the sizes that are worth it, in the middle of a request if need be.

Compiling pays where it saves more than it takes. If the images of one request save more, they wait for it; if it takes many small
requests, it happens beside the work once enough of them have come. What was compiled, and was found to compute the same as the
plain network, is kept on disk for the next process.
"""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from recond_kernels import interruption
from recond_models.networks import openvino_engine
from recond_models.networks.engines import LARGEST_DIFFERENCE, Engine, PlainEngine, Precision, Program
from recond_models.networks.program_cache import ProgramCache, default_cache, key_of
from recond_models.networks.unet import Unet

_log = logging.getLogger(__name__)

_BYTES = 4 << 30
"""Estimated memory of all compiled programs of a model."""

_PROGRAMS = 16

_PLACES = 256
"""Sizes that are remembered, compiled or not."""

_WEIGHTS = 28
"""Weights of a U-Net for each square of the feature maps at its coarsest level."""

_SAVED_SECONDS = 4e-11
"""Of one thread for each multiplication of a compiled network: what the plain one takes longer. As measured on servers of 2023."""

_CHECKED_SECONDS = 1.1e-10
"""Of one thread for each multiplication: the plain and the compiled network once each."""

_COMPILE_SECONDS = 0.5
"""For a program. Not measured anew: a busy or slower machine compiles slower and computes slower, and only the ratio matters."""

_IMPORTED_SHARE = 0.6
"""Of the time for compiling: what a program from disk takes."""

_leaving = threading.Event()
_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()

Size = tuple[int, int]
Widths = tuple[int, int, int, int]
Compiler = Callable[[Unet, Size, Precision, int, bytes | None], Program]


@dataclass(slots=True)
class _Place:
    """A program, or what there is in its place.

    Parameters
    ----------
    engines
        By the number of the network, once compiled.
    program
        None before, and for ever where it was refused.
    refused
        It cannot be compiled, or computes something else.
    saved
        What the images so far would have saved, seconds.
    known
        The cache has it; None while nobody has looked.
    thread
        Compiles it.
    """

    engines: dict[int, Engine] = field(default_factory=dict)
    program: Program | None = None
    refused: bool = False
    saved: float = 0.0
    known: bool | None = None
    thread: threading.Thread | None = None


class CompiledNetworks:
    """The engines of the networks of one model.

    Parameters
    ----------
    unets
        The networks; their weights must not change afterwards.
    precision
        Of the convolutions.
    compiler
        Compiles a network for a size (rows, columns) and a number of threads; None for no compiling at all.
    cache
        Keeps compiled programs; None for none.
    identity
        What programs depend on besides the network: the compiler and the processor.
    """

    def __init__(
        self,
        unets: Sequence[Unet],
        precision: Precision,
        compiler: Compiler | None,
        cache: ProgramCache | None = None,
        identity: Callable[[], str] = str,
    ) -> None:
        self._plain: list[Engine] = [PlainEngine(unet, torch.device("cpu"), precision) for unet in unets]
        self._unets = list(unets)
        self._widths = [_widths(unet) for unet in unets]
        self._precision: Precision = precision
        self._compiler = compiler
        self._cache = cache
        self._identity = identity
        self._lock = threading.Lock()
        self._places: OrderedDict[tuple[Widths, Size], _Place] = OrderedDict()  # the one unused longest first

    @classmethod
    def by_openvino(cls, unets: Sequence[Unet], precision: Precision, *, compiled: bool) -> CompiledNetworks:
        """Return the networks of a model, compiled by OpenVINO where that is wanted and installed, and kept for this user."""
        compiler = openvino_engine.compiler() if compiled else None
        return cls(unets, precision, compiler, default_cache(), openvino_engine.build_identity)

    def prepare(self, size: Size, runs: Sequence[int]) -> None:
        """Compile what is worth it before, or beside, the images of a request.

        Parameters
        ----------
        size
            (rows, columns) of the images, padded as the networks want them.
        runs
            For each network how many images of that size it will get.
        """
        if self._compiler is None:
            return
        for widths in dict.fromkeys(self._widths):
            images = sum(count for count, found in zip(runs, self._widths, strict=True) if found == widths)
            if images:
                self._prepare(widths, size, images, self._compiler)

    def engine(self, number: int, size: Size) -> Engine:
        """Return an engine for a network and a size, which takes the compiled way from the moment that there is one."""
        return _Latest(self, number, size)

    def latest(self, number: int, size: Size) -> Engine:
        """Return the fastest engine that there is now."""
        place = self._places.get((self._widths[number], size))
        if place is None or place.program is None:
            return self._plain[number]
        engine = place.engines.get(number)
        if engine is None:
            engine = place.engines[number] = place.program.bind(self._unets[number])
        return engine

    def wait(self) -> None:
        """Return when nothing is being compiled."""
        for place in list(self._places.values()):
            if place.thread is not None:
                place.thread.join()

    def ready(self, size: Size) -> bool:
        """Tell whether all networks run compiled on images of this size."""
        places = [self._places.get((widths, size)) for widths in self._widths]
        return all(place is not None and place.program is not None for place in places)

    def _prepare(self, widths: Widths, size: Size, images: int, compiler: Compiler) -> None:
        """Compile a program now, beside the work, or not yet."""
        work, threads = _multiplications(widths, size), torch.get_num_threads()
        with self._lock:
            place = self._places.setdefault((widths, size), _Place())
            self._places.move_to_end((widths, size))
            idle = (key for key, other in self._places.items() if other.thread is None or not other.thread.is_alive())
            if len(self._places) > _PLACES:
                del self._places[next(idle)]
            if place.program is not None or place.refused or _bytes(widths, size) > _BYTES:
                return
            saved = images * work * _SAVED_SECONDS / threads
            place.saved += saved
            least = _IMPORTED_SHARE * _COMPILE_SECONDS
            if place.saved <= least:
                return  # not even worth looking what there is on disk
            if place.known is None:
                place.known = self._cache is not None and self._cache.has(self._key(widths, size, threads))
            cost = least if place.known else _COMPILE_SECONDS + work * _CHECKED_SECONDS / threads
            now = place.thread is None and saved > cost
            if place.thread is None and not now and place.saved > cost and not self._is_compiling():
                place.thread = threading.Thread(
                    target=self._compile_beside,
                    args=(widths, size, threads, place, compiler),
                    name="compile",
                    daemon=True,  # ended by `_leave`: in the middle of torch it would take the process down with it
                )
                _threads.add(place.thread)
                place.thread.start()
        if now:
            interruption.checkpoint()
            self._compile(widths, size, threads, place, compiler)

    def _is_compiling(self) -> bool:
        return any(place.thread is not None and place.thread.is_alive() for place in self._places.values())

    def _compile_beside(self, widths: Widths, size: Size, threads: int, place: _Place, compiler: Compiler) -> None:
        # The work goes on meanwhile, and the number of threads belongs to the thread that calls.
        torch.set_num_threads(1)
        if not _leaving.is_set():
            self._compile(widths, size, threads, place, compiler)

    def _compile(self, widths: Widths, size: Size, threads: int, place: _Place, compiler: Compiler) -> None:
        """Compile a program and keep it if it agrees with the plain network."""
        unet = self._unets[self._widths.index(widths)]
        program = None
        try:
            program = self._from_disk(widths, size, threads, compiler, unet) or self._anew(
                widths, size, threads, compiler, unet
            )
        except (ImportError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError):
            # Whatever a compiler cannot do, the plain path can.
            _log.exception("cannot compile for %d x %d; images of this size take the plain path", *size)
        with self._lock:
            place.program, place.refused = program, program is None
            self._evict()

    def _from_disk(self, widths: Widths, size: Size, threads: int, compiler: Compiler, unet: Unet) -> Program | None:
        """Return a program that an earlier process compiled and checked, if there is one."""
        if self._cache is None:
            return None
        key = self._key(widths, size, threads)
        exported = self._cache.load(key)
        if exported is None:
            return None
        try:
            return compiler(unet, size, self._precision, threads, exported)
        except RuntimeError as error:
            _log.warning("a compiled network on disk cannot be used and is compiled anew: %s", error)
            self._cache.forget(key)
            return None

    def _anew(self, widths: Widths, size: Size, threads: int, compiler: Compiler, unet: Unet) -> Program | None:
        """Compile a program, compare it with the plain network, and keep it on disk; None if they differ."""
        program = compiler(unet, size, self._precision, threads, None)
        engine = program.bind(unet)
        difference = _difference(engine, unet, size)
        engine.release()
        if not difference <= LARGEST_DIFFERENCE[self._precision]:
            _log.warning(
                "a compiled network for %d x %d is refused: it differs by %.2g from the plain one; images of this size take the "
                "plain path",
                *(*size, difference),
            )
            return None
        if self._cache is not None:
            self._cache.store(self._key(widths, size, threads), program.export())
        return program

    def _key(self, widths: Widths, size: Size, threads: int) -> str:
        return key_of(self._identity(), widths, size, self._precision, threads)

    def _evict(self) -> None:
        """Forget the programs that were not used for longest, until the others fit."""
        compiled = [key for key, place in self._places.items() if place.program is not None]
        total = sum(_bytes(*key) for key in compiled)
        for key in compiled[:-1]:
            if len(compiled) <= _PROGRAMS and total <= _BYTES:
                break
            compiled.remove(key)
            total -= _bytes(*key)
            del self._places[key]


class _Latest:
    """The fastest engine for a network and a size, chosen anew for every image."""

    def __init__(self, networks: CompiledNetworks, number: int, size: Size) -> None:
        self._networks, self._number, self._size = networks, number, size

    def __call__(self, channels: Tensor) -> Tensor:
        """Return float32 (batch, out_channels, rows, columns)."""
        return self._networks.latest(self._number, self._size)(channels)

    def release(self) -> None:
        """Give the memory of the feature maps back."""
        self._networks.latest(self._number, self._size).release()


@atexit.register
def _leave() -> None:
    """Let compiling threads end before what they use is torn down."""
    _leaving.set()
    for thread in list(_threads):
        thread.join()


def _widths(unet: Unet) -> Widths:
    """Return what tells the graph of one U-Net from that of another."""
    return unet.in_channels, unet.out_channels, unet.channels, len(unet.down_sample_layers)


def _multiplications(widths: Widths, size: Size) -> int:
    """Return how many multiplications the convolutions of a U-Net take for one image."""
    inputs, outputs, channels, pools = widths
    pixels = size[0] * size[1]
    total = pixels * channels * (9 * (inputs + channels) + outputs)
    for level in range(1, pools + 1):
        maps = channels << level
        total += 9 * (pixels >> 2 * level) * (maps // 2 + maps) * maps
    for level in range(pools):
        maps = channels << level
        total += (pixels >> 2 * level) * maps * (2 * maps + 9 * 3 * maps)
    return total


def _bytes(widths: Widths, size: Size) -> int:
    """Estimate what a program takes: feature maps, and the weights of one network in the layout of the compiler."""
    channels, pools = widths[2:]
    return 20 * size[0] * size[1] * channels + 8 * _WEIGHTS * (channels << pools) ** 2


@torch.inference_mode()
def _difference(engine: Engine, unet: Unet, size: Size) -> float:
    """Return the relative difference between an engine and the plain float32 network on noise of variance 1."""
    noise = torch.randn(1, unet.in_channels, *size, generator=torch.Generator().manual_seed(0))
    expected: Tensor = unet(noise.contiguous(memory_format=torch.channels_last))
    difference = torch.linalg.vector_norm(engine(noise) - expected) / torch.linalg.vector_norm(expected)
    return float(difference)
