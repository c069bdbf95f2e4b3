"""Which lines a network takes as measured, and which as calibration."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recond_models.model import MINIMUM_CALIBRATION, UnsuitableModelError
from recond_models.note import Note

_TRAINED_FRACTION = 0.08
"""Share of the lines that calibrated the published networks at 4-fold in training."""


@dataclass(frozen=True, slots=True)
class CentreLines:
    """The middle lines from which a network estimates sensitivities.

    Parameters
    ----------
    start, stop
        Columns from `start` to `stop - 1`.
    notes
        What the reader of the image should know about the choice.
    """

    start: int
    stop: int
    notes: tuple[Note, ...] = ()

    @classmethod
    def about(cls, centre_of: int, count: int, notes: tuple[Note, ...] = ()) -> CentreLines:
        """Return `count` lines about the centre of `centre_of`, placed as in fastMRI: for odd counts as for even ones."""
        start = (centre_of - count + 1) // 2
        return cls(start, start + count, notes)


def measured_lines(masks: Tensor, name: str) -> Tensor:
    """Return which phase-encoding lines were measured.

    Parameters
    ----------
    masks
        Bool (batch, rows, columns), on the CPU.
    name
        Of the model, for the message of the error.

    Returns
    -------
    Tensor
        Bool (batch, columns).

    Raises
    ------
    UnsuitableModelError
        A mask is not made of whole lines.
    """
    lines: Tensor = masks.any(dim=1)
    broken = (masks != lines[:, None, :]).flatten(1).any(dim=1)
    if broken.any():
        number = int(broken.nonzero()[0, 0])
        raise UnsuitableModelError(
            f"{name} reconstructs whole phase-encoding lines only, but the mask of frame {number} of the batch has lines that were "
            f"measured in part (two-dimensional undersampling or an asymmetric echo): use one of the models l1-wavelet, tv or rss"
        )
    return lines


def fastmri_count(lines: Tensor) -> int:
    """Return how many calibration lines fastMRI's VarNet reads from a mask at inference.

    Twice the shorter of the two runs of measured lines on both sides of ``columns // 2``, the line there counted to the right; at
    least 1. A side without a gap counts as no run at all, so that full sampling leaves one line: see `calibration_lines`.

    Parameters
    ----------
    lines
        Bool (columns,), on the CPU.
    """
    left, right = _runs(lines)
    half = lines.shape[0] // 2
    counted = (left if left < half else 0, right if right < lines.shape[0] - half else 0)
    return max(2 * min(counted), 1)


def calibration_lines(lines: Tensor, *, as_fastmri: bool) -> CentreLines:
    """Choose the calibration lines of a frame: those of fastMRI, except where no line is missing on a side of the centre.

    There fastMRI would calibrate with a single line. Here as many are taken as were usual in training, or as there are.

    Parameters
    ----------
    lines
        Bool (columns,), on the CPU.
    as_fastmri
        Follow fastMRI there, too.
    """
    columns = lines.shape[0]
    count = fastmri_count(lines)
    left, right = _runs(lines)
    available = 2 * min(left, right)
    if count < available and not as_fastmri:
        count = min(available, max(round(_TRAINED_FRACTION * columns), MINIMUM_CALIBRATION))
        message = (
            f"no line is missing on a side of the centre of k-space; sensitivities are estimated from the {count} middle lines, "
            f"and the network was trained on undersampled data"
        )
        return CentreLines.about(columns, count, (Note("fully-sampled", message),))
    notes: tuple[Note, ...] = ()
    if count < MINIMUM_CALIBRATION:
        found = f"only {count}" if available else "no"
        message = (
            f"{found} middle line(s) without a gap to estimate coil sensitivities from; the image may be shaded or aliased: "
            f"measure at least {MINIMUM_CALIBRATION} lines around the centre"
        )
        notes = (Note("few-calibration-lines", message),)
    return CentreLines.about(columns, count, notes)


def _runs(lines: Tensor) -> tuple[int, int]:
    """Return how many lines follow each other without a gap below the centre and from the centre upwards."""
    half = lines.shape[0] // 2
    runs = [torch.cumprod(side.to(torch.int64), dim=0).sum() for side in (lines[:half].flip(0), lines[half:])]
    return int(runs[0]), int(runs[1])
