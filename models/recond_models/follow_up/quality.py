"""Whether a registration succeeded, by figures that the search did not optimise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from recond_models.follow_up.search import overlap
from recond_models.follow_up.views import View
from recond_models.note import Note

_BINS: Final = 32
_AWAY_MM: Final = 12.0
_AWAY_DEGREES: Final = 12.0
_LARGEST_DEGREES: Final = 60.0
_LEAST_OVERLAP: Final = 0.6
_LEAST_PEAK: Final = 0.2
_LOW_PEAK: Final = 0.3
_PEAK_OF_ONE_PERSON: Final = 0.37
"""Below the least of all pairs of scans of one person that were measured, and above most of two people: docs/follow-up.md."""

_LEAST_DICE: Final = 0.8
_LOW_DICE: Final = 0.9


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures of a registration.

    Parameters
    ----------
    overlap
        Share of the smaller head that lies inside the other, 0 to 1.
    mutual_information
        Of the two images inside the head, nats.
    peak
        By which share mutual information falls, on average, when the scan is moved by 12 mm or turned by 12 degrees: a scan that
        lies right has a steep peak, one that was laid on something else has none.
    brain_dice
        Overlap of the brain masks (Dice); None without masks.
    rotation_degrees
        Angle between the scans.
    """

    overlap: float
    mutual_information: float
    peak: float
    brain_dice: float | None
    rotation_degrees: float

    @property
    def failure(self) -> str | None:
        """What is wrong with the registration, in words; None if it succeeded."""
        if self.overlap < _LEAST_OVERLAP:
            return f"{self.overlap:.0%} of the smaller head lie in the other, less than {_LEAST_OVERLAP:.0%}"
        if self.rotation_degrees > _LARGEST_DEGREES:
            return f"they are turned by {self.rotation_degrees:.0f} degrees, more than {_LARGEST_DEGREES:.0f}"
        if self.peak < _LEAST_PEAK:
            return f"moving it away costs {self.peak:.0%} of the mutual information, less than {_LEAST_PEAK:.0%}"
        if self.brain_dice is not None and self.brain_dice < _LEAST_DICE:
            return f"the brain masks overlap with a Dice of {self.brain_dice:.2f}, less than {_LEAST_DICE}"
        return None

    @property
    def notes(self) -> tuple[Note, ...]:
        """What the reader should know of a registration that succeeded."""
        found = []
        if self.peak < _LOW_PEAK:
            message = f"Moving the scan away costs only {self.peak:.0%} of the mutual information: look at the picture."
            found.append(Note("registration-weak", message))
        if self.peak < _PEAK_OF_ONE_PERSON:
            message = (
                f"The scans are no more alike than those of two people: moving one away costs {self.peak:.0%} of the mutual "
                f"information, between scans of one person {_PEAK_OF_ONE_PERSON:.0%} or more. Check that both are of this patient."
            )
            found.append(Note("registration-another-person", message))
        if self.brain_dice is not None and self.brain_dice < _LOW_DICE:
            message = f"The brain masks overlap with a Dice of {self.brain_dice:.2f} only: look at the picture."
            found.append(Note("registration-brain-differs", message))
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return {
            "overlap": self.overlap,
            "mutual_information": self.mutual_information,
            "peak": self.peak,
            "brain_dice": self.brain_dice,
        }


def judge(fixed: View, moving: View, matrix: NDArray[np.float64]) -> Quality:
    """Return the figures of a registration.

    Parameters
    ----------
    fixed, moving
        On grids of some millimetres.
    matrix
        (4, 4): positions in the fixed scan to positions in the moving one, RAS+ mm.
    """
    middle = fixed.grid.positions(np.argwhere(fixed.head & fixed.foreground).mean(axis=0)[None])[0]
    here = _information(fixed, moving, matrix)
    away = [_information(fixed, moving, matrix @ one) for one in _displacements(middle)]
    peak = 1 - float(np.mean(away)) / here if here > 0 else 0.0
    angle = float(np.degrees(Rotation.from_matrix(matrix[:3, :3]).magnitude()))
    return Quality(overlap(fixed, moving, matrix), here, peak, _brain_dice(fixed, moving, matrix), angle)


def _displacements(middle: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return small rigid motions, (4, 4) each: along and about each axis, to both sides."""
    found = []
    for axis in range(3):
        for sign in (-1, 1):
            shift = np.eye(4)
            shift[axis, 3] = sign * _AWAY_MM
            turn = np.eye(4)
            turn[:3, :3] = Rotation.from_euler("xyz"[axis], sign * _AWAY_DEGREES, degrees=True).as_matrix()
            turn[:3, 3] = middle - turn[:3, :3] @ middle
            found += [shift, turn]
    return found


def _sampled(
    values: NDArray[np.float32], fixed: View, moving: View, matrix: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return values of the moving scan on the grid of the fixed one, -1 outside."""
    index = np.linalg.inv(moving.grid.affine) @ matrix @ fixed.grid.affine
    shape = fixed.values.shape
    return np.asarray(ndimage.affine_transform(values, index[:3, :3], index[:3, 3], shape, order=1, cval=-1.0))


def _information(fixed: View, moving: View, matrix: NDArray[np.float64]) -> float:
    """Return the mutual information inside the head of the fixed scan, where the moving one was measured, nats."""
    other = _sampled(moving.values, fixed, moving, matrix)
    where = fixed.head & (other >= 0)
    if not where.any():
        return 0.0
    joint, _, _ = np.histogram2d(fixed.values[where], other[where], bins=_BINS, range=[[0, 1], [0, 1]])
    joint /= joint.sum()
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    some = joint > 0
    return float((joint[some] * np.log(joint[some] / product[some])).sum())


def _brain_dice(fixed: View, moving: View, matrix: NDArray[np.float64]) -> float | None:
    """Return the overlap of the brain masks where both scans were measured; None without masks."""
    if fixed.brain_only is None or moving.brain_only is None:
        return None
    measured = _sampled(moving.values, fixed, moving, matrix) >= 0
    other = _sampled(moving.brain_only.astype(np.float32), fixed, moving, matrix) >= 0.5
    here = fixed.brain_only & measured
    total = int(here.sum()) + int(other.sum())
    return 2 * int((here & other).sum()) / total if total else 0.0
