"""Runs a head on a batch: blocks of slices of one size, whatever requests they came from."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recond_kernels import interruption
from recond_models.evidence import HeldOut
from recond_models.heads.exported import SliceTooLargeError
from recond_models.heads.head import Head
from recond_models.note import Note
from recond_service.execution.device import Device, ran_out_of_memory
from recond_service.execution.run_batch import BatchResult, ModelFailedError, OutOfDeviceMemoryError
from recond_service.processes import SliceLayout
from recond_service.types import UnsupportedDataError


@dataclass(frozen=True, slots=True)
class HeadAnswer:
    """What a head says of a block of slices.

    Parameters
    ----------
    arrays
        As `SliceLayout` describes the answer.
    residual, notes, trial
        None and empty: they belong to reconstructed frames, whose way back to the client an answer goes.
    """

    arrays: tuple[NDArray[Any], ...]
    residual: float | None = None
    notes: tuple[Note, ...] = ()
    trial: HeldOut | None = None

    def pieces(self) -> list[memoryview]:
        """Return the bytes of the answer."""
        return [np.ascontiguousarray(array).data.cast("B") for array in self.arrays]


def run_head(
    head: Head,
    blocks: Sequence[Tensor],
    layouts: Sequence[SliceLayout],
    device: Device,
    *,
    kind: Hashable,
    input_bytes: int = 0,
    withdrawn: Callable[[int], bool] = lambda block: False,  # noqa: ARG005 - documents the call
) -> BatchResult:
    """Run a head on the blocks of a batch.

    Parameters
    ----------
    head
        The head.
    blocks
        float32 (slices, rows, columns) each, on the CPU.
    layouts
        Sizes of each block and its answer.
    device
        Where it is computed.
    kind
        Batches of a kind take the same memory.
    input_bytes
        Memory that the blocks take.
    withdrawn
        Tells whether nobody waits for a block any more.

    Returns
    -------
    BatchResult
        A `HeadAnswer` for each block, None for one that was withdrawn.

    Raises
    ------
    OutOfDeviceMemoryError
        There was not enough memory.
    UnsupportedDataError
        The images are larger than the program of the head takes.
    ModelFailedError
        The head failed, or its outputs are not finite.
    """
    begun = time.perf_counter()
    no_memory = ""
    try:
        with interruption.watching(withdrawn, len(layouts)):
            interruption.checkpoint()
            answers, peak_bytes = device.run(kind, lambda: _compute(head, blocks, layouts, withdrawn), input_bytes)
        return BatchResult(answers, time.perf_counter() - begun, peak_bytes)
    except interruption.Interrupted:
        return BatchResult((None,) * len(layouts))
    except SliceTooLargeError as error:
        raise UnsupportedDataError(f"{head.info.name}: {error}", reason="FIELD_TOO_LARGE", field="spec.heads") from None
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, MemoryError, OSError) as error:
        if not ran_out_of_memory(error):
            raise ModelFailedError(head.info.name, error) from None
        no_memory = str(error) or type(error).__name__
    # Behind the handler, whose traceback holds on to the arrays of the attempt.
    raise OutOfDeviceMemoryError(no_memory)


@torch.inference_mode()
def _compute(
    head: Head, blocks: Sequence[Tensor], layouts: Sequence[SliceLayout], withdrawn: Callable[[int], bool]
) -> tuple[HeadAnswer | None, ...]:
    answers: list[HeadAnswer | None] = []
    for number, (block, layout) in enumerate(zip(blocks, layouts, strict=True)):
        if withdrawn(number):
            answers.append(None)
            continue
        with interruption.computing(number):
            if layout.answer == "pixels":
                labelled = head.label(block, layout.framing)
                made: tuple[Tensor, ...] = (labelled.sums, labelled.labels, labelled.confidence)
            elif layout.has_attention:
                made = head.explain(block, layout.framing)
            else:
                made = (head.classify(block, layout.framing),)
        if not all(bool(torch.isfinite(array).all()) for array in made if array.is_floating_point()):
            raise ArithmeticError("outputs that are not finite")
        if tuple(made[0].shape[:2]) != (layout.count, layout.outputs):
            raise ValueError(f"outputs of the shape {tuple(made[0].shape)} for {layout}")
        if layout.has_attention and tuple(made[1].shape) != layout.attention_shape:
            raise ValueError(f"an attention map of the shape {tuple(made[1].shape)} for {layout}")
        answers.append(HeadAnswer(tuple(array.cpu().numpy() for array in made)))
    return tuple(answers)
