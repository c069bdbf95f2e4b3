"""Frames of a batch side by side on a CPU.

Threads within an operation meet at its end, every few microseconds in small images; on a machine that does something else besides,
each meeting waits for the scheduler. Frames are independent, so a thread each needs no meetings, and a frame's arrays stay in the
cache of its core.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from recond_models.batch import PackedBatch

T = TypeVar("T")
Item = TypeVar("Item")


def split(batch: PackedBatch) -> list[PackedBatch]:
    """Return a batch of one for every frame; views, no copies."""
    offsets = batch.coil_offsets.tolist()
    return [
        PackedBatch(
            batch.kspace[start:end],
            torch.tensor([0, end - start]),
            batch.masks[number : number + 1],
            batch.calibrations[number : number + 1],
            batch.crops[number : number + 1],
        )
        for number, (start, end) in enumerate(itertools.pairwise(offsets))
    ]


def each(work: Callable[[Item], T], batches: Sequence[Item]) -> list[T]:
    """Do the same work for several batches, or parts of one, at most as many at a time as torch has threads here.

    Parameters
    ----------
    work
        Called under `torch.inference_mode`, possibly in another thread.
    batches
        What to do it for, at least one.

    Returns
    -------
    list
        What `work` returned, in order; the first error is raised.
    """
    threads = torch.get_num_threads()
    workers = min(threads, len(batches))

    def run(batch: Item) -> T:
        with torch.inference_mode():
            return work(batch)

    if workers == 1:
        return [run(batch) for batch in batches]
    # The number of threads within an operation belongs to the thread that calls it.
    with ThreadPoolExecutor(
        workers, "frame", initializer=torch.set_num_threads, initargs=(max(1, threads // workers),)
    ) as pool:
        return list(pool.map(run, batches))
