"""Where the centre of k-space lies along an axis: as the header says, unless that cannot be or the energy of the samples denies it.

The samples about k = 0 hold most of the energy of an image. The header is believed as long as the energy does not lie clearly
elsewhere; where it says nothing, or something with which measured lines would fall off the matrix, the energy decides, and where
that is not clear, the block of calibration lines about the centre.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

_CLEAR = 4.0  # times the energy at the stated centre from which another one is believed
_DISTINCT = 3.0  # times the median energy of a line from which a peak is one
_NEAR = 24  # of an axis: by a 24th, and by two lines, the peak may lie off the centre (linear phase of the object or the field)


class Doubt(Enum):
    """What was wrong with the centre that the header states."""

    NONE = "none"
    ABSENT = "absent"
    IMPOSSIBLE = "impossible"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Centre:
    """The centre of k-space along an axis.

    Parameters
    ----------
    step
        Value of the phase-encode counter, or number of the sample, at k = 0.
    doubt
        Why it is not the one that the header states.
    certain
        The samples tell it, or nothing else is possible: it holds for all images of the encoding.
    """

    step: int
    doubt: Doubt = Doubt.NONE
    certain: bool = True


def find_centre(
    energy: NDArray[np.float64],
    first: int,
    possible: tuple[int, int],
    stated: int | None,
    calibrated: int | None = None,
    *,
    length: int,
) -> Centre:
    """Return the centre of k-space along an axis.

    Parameters
    ----------
    energy
        Of each line (lines,), 0 where nothing was measured.
    first
        Counter of the first of them.
    possible
        Least and greatest centre with which no measured line falls off the matrix.
    stated
        Counter of the centre as the header has it; None where it has none.
    calibrated
        Counter of the middle of the calibration lines; None where there are none.
    length
        Of the matrix.
    """
    low, high = possible
    peak, distinct = _peak(energy)
    if stated is not None and low <= stated <= high:
        found = min(max(first + peak, low), high)
        gap = _gap(energy, peak)
        far = abs(found - stated) > max(2, length // _NEAR) + gap
        if distinct and far and _about(energy, found - first, gap) > _CLEAR * _about(energy, stated - first, gap):
            return Centre(found, Doubt.DENIED)
        return Centre(stated, certain=distinct)
    doubt = Doubt.ABSENT if stated is None else Doubt.IMPOSSIBLE
    if low == high:
        return Centre(low, doubt)
    if distinct:
        return Centre(min(max(first + peak, low), high), doubt)
    guess = length // 2 if calibrated is None else calibrated
    return Centre(min(max(guess, low), high), doubt, certain=False)


def _peak(energy: NDArray[np.float64]) -> tuple[int, bool]:
    """Return the line of the most energy, and whether it stands out of the measured ones."""
    measured = energy[energy > 0]
    if not measured.size:
        return 0, False
    return int(np.argmax(energy)), bool(energy.max() > _DISTINCT * np.median(measured))


def _about(energy: NDArray[np.float64], line: int, gap: int) -> float:
    """Return the most energy of the measured lines next to `line`, of which `gap` in a row may have been left out."""
    near = energy[max(0, line - 1 - gap) : max(0, line + 2 + gap)]
    return float(near.max(initial=0.0))


def _gap(energy: NDArray[np.float64], line: int) -> int:
    """Return how many lines were left out next to `line`, on the side where there are more."""
    measured = np.flatnonzero(energy > 0)
    place = int(np.searchsorted(measured, line))
    gaps = np.diff(measured[max(0, place - 1) : place + 2])
    return int(gaps.max(initial=1)) - 1
