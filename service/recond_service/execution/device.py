"""Where a worker computes: what a batch needs before it can begin, how much memory there is and was used, and how it runs out."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from recond_models.batch import PackedBatch
from recond_service.execution.staging import PinnedUpload
from recond_service.processes import give_back_freed_memory

T = TypeVar("T")

_CPU_SHARE, _GPU_SHARE = 0.5, 0.9
_CGROUP_LIMIT, _CGROUP_USE = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
_MOST_PEAKS = 1024
_NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory|cannot allocate memory", re.IGNORECASE)


class Device(Protocol):
    """A device of torch."""

    @property
    def name(self) -> str:
        """As torch has it."""
        ...

    @property
    def first_runs(self) -> int:
        """How many runs of a new size take longer than those that follow."""
        ...

    def memory_bytes(self, workers: int) -> int:
        """Return how much memory the batches of a worker may take at once, of so many workers that share it."""
        ...

    def stage(self, batch: PackedBatch) -> Callable[[], PackedBatch]:
        """Begin to bring a batch to the device, from another thread than that which computes.

        Returns
        -------
        callable
            To be called by the thread that computes: returns the batch, ready for what this thread does with it.
        """
        ...

    def run(self, kind: Hashable, work: Callable[[], T], input_bytes: int) -> tuple[T, int]:
        """Do some work and return what it returned, and the most memory that it took; 0 where that is not known.

        Parameters
        ----------
        kind
            Work of a kind takes the same memory every time.
        work
            Computes; its result is returned.
        input_bytes
            Memory that was taken before, when the work was staged.
        """
        ...

    def recover(self) -> None:
        """Give back what memory can be given back, after it has run out."""
        ...


def device_of(name: str) -> Device:
    """Return the device that torch calls so."""
    return Gpu(name) if name.startswith("cuda") else Processor()


def ran_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that the memory of a device, or of the machine, did not suffice."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None


class Processor:
    """The processor. Memory is measured when work of a kind is done first: what is kept of freed memory hides it later."""

    name = "cpu"
    first_runs = 1  # libraries get ready

    def __init__(self) -> None:
        self._peaks: dict[Hashable, int] = {}

    def memory_bytes(self, workers: int) -> int:
        """Return a share of the memory that is available now."""
        return int(_CPU_SHARE * _available_bytes() / workers)

    def stage(self, batch: PackedBatch) -> Callable[[], PackedBatch]:
        """Return the batch as it is."""
        return lambda: batch

    def run(self, kind: Hashable, work: Callable[[], T], input_bytes: int) -> tuple[T, int]:
        """Do some work. See `Device.run`."""
        if kind in self._peaks or len(self._peaks) >= _MOST_PEAKS:
            return work(), self._peaks.get(kind, 0)
        give_back_freed_memory()
        before = _reset_peak()
        result = work()
        self._peaks[kind] = max(0, _memory_of_process("VmHWM") - before) + input_bytes if before else 0
        return result, self._peaks[kind]

    def recover(self) -> None:
        """Give freed memory back to the kernel."""
        gc.collect()
        give_back_freed_memory()


class Gpu:
    """An NVIDIA GPU.

    Parameters
    ----------
    name
        As torch has it, such as ``"cuda:0"``.
    """

    first_runs = 2  # libraries get ready; networks are recorded

    def __init__(self, name: str) -> None:
        self.name = name
        self._device = torch.device(name)
        torch.cuda.set_device(self._device)
        self._upload = PinnedUpload(self._device)

    def memory_bytes(self, workers: int) -> int:
        """Return a share of the memory of the GPU."""
        return int(_GPU_SHARE * torch.cuda.get_device_properties(self._device).total_memory / workers)

    def stage(self, batch: PackedBatch) -> Callable[[], PackedBatch]:
        """Begin to copy the k-space to the GPU beside what it computes. See `Device.stage`."""
        return self._upload.begin(batch)

    def run(self, kind: Hashable, work: Callable[[], T], input_bytes: int) -> tuple[T, int]:  # noqa: ARG002
        """Do some work. See `Device.run`."""
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        result = work()
        peak = torch.cuda.max_memory_allocated(self._device) - before
        return result, max(0, peak) + input_bytes

    def recover(self) -> None:
        """Give cached memory back to the GPU."""
        gc.collect()
        torch.cuda.empty_cache()


def _available_bytes() -> int:
    """Return the memory that can still be taken, bytes: of the machine, or of the container if that is less."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) << 10
            break
    else:
        return 0
    try:
        limit = _CGROUP_LIMIT.read_text(encoding="ascii").strip()
        used = int(_CGROUP_USE.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return available
    return min(available, max(0, int(limit) - used)) if limit.isdigit() else available


def _reset_peak() -> int:
    """Set the most memory that this process ever had to what it has now, and return that, bytes; 0 if that is not allowed."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): resets VmHWM
    except OSError:
        return 0
    return _memory_of_process("VmHWM")


def _memory_of_process(entry: str) -> int:
    """Return an entry of /proc/self/status, bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(entry):
            return int(line.split()[1]) << 10
    return 0
