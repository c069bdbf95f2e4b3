"""Frames of a batch side by side on a CPU.

Threads within an operation meet at its end, every few microseconds in small images; on a machine that does something else besides,
each meeting waits for the scheduler. Frames are independent, so a thread each needs no meetings, and a frame's arrays stay in the
cache of its core.
"""

from __future__ import annotations

import contextvars
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from recond_kernels import interruption
from recond_models.batch import PackedBatch, Reconstruction

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
            batch.deviations,
        )
        for number, (start, end) in enumerate(itertools.pairwise(offsets))
    ]


def map_parallel(work: Callable[[Item], T], batches: Sequence[Item]) -> list[T]:
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
    # So that whoever watches for frames that are withdrawn is asked in those threads too. A context can be entered once at a time.
    contexts = [contextvars.copy_context() for _ in batches]
    # The number of threads within an operation belongs to the thread that calls it.
    with ThreadPoolExecutor(
        workers, "frame", initializer=torch.set_num_threads, initargs=(max(1, threads // workers),)
    ) as pool:
        return list(pool.map(lambda context, batch: context.run(run, batch), contexts, batches))


def reconstruct_each(
    work: Callable[[int, PackedBatch], Reconstruction], batch: PackedBatch, *, at_once: bool
) -> Reconstruction:
    """Reconstruct every frame of a batch by itself. A frame that is withdrawn meanwhile is given up; the others go on.

    Parameters
    ----------
    work
        Gets the number of a frame and a batch of that frame alone, and reconstructs it; called as by `map_parallel`.
    batch
        The frames.
    at_once
        A thread for each frame, as `map_parallel` does it; else one frame after another, with all threads.

    Returns
    -------
    Reconstruction
        What `work` made of them; an image of zeros, with the residual NaN, for a frame that was given up.

    Raises
    ------
    Interrupted
        All of them were.
    """
    parts = split(batch)

    def one(number: int) -> Reconstruction | None:
        try:
            with interruption.computing(number):
                interruption.checkpoint()
                return work(number, parts[number])
        except interruption.Interrupted:
            return None

    done = map_parallel(one, range(len(parts))) if at_once else [one(number) for number in range(len(parts))]
    finished = [part for part in done if part is not None]
    if not finished:
        raise interruption.Interrupted
    whole = [None if part is None else _image(part) for part in done]
    blank = torch.zeros_like(_image(finished[0]))
    notes = [
        (part.notes if part is not None else ()) or ((),) * len(frame) for part, frame in zip(done, parts, strict=True)
    ]
    flat = tuple(itertools.chain.from_iterable(notes))
    trials = tuple(part.trials[0] if part is not None and part.trials else None for part in done)
    doubts = tuple(part.doubts[0] if part is not None and part.doubts else None for part in done)
    return Reconstruction(
        torch.cat([blank if image is None else image for image in whole]),
        _joined([None if part is None else part.residuals for part in done], torch.nan),
        flat if any(flat) else (),
        _joined([None if part is None else part.scales for part in done], 1.0),
        _joined_maps([None if part is None else part.deviations for part in done]),
        doubts if any(doubts) else (),
        trials if any(trials) else (),
    )


def _image(part: Reconstruction) -> Tensor:
    """Return the image of a frame that was reconstructed by itself."""
    if not isinstance(part.images, Tensor):
        raise TypeError("coil images are combined when they are finished; they cannot be put together frame by frame")
    return part.images


def _joined_maps(values: Sequence[Tensor | None]) -> Tensor | None:
    """Return (batch, rows, columns): one map a frame, zeros where there is none; None where there is none at all."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    blank = torch.zeros_like(known[0])
    return torch.cat([blank if value is None else value for value in values])


def _joined(values: Sequence[Tensor | None], otherwise: float) -> Tensor | None:
    """Return float64 (batch,): one value a frame, `otherwise` where there is none; None where there is none at all."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    other = known[0].new_full((1,), otherwise)
    return torch.cat([other if value is None else value for value in values])
