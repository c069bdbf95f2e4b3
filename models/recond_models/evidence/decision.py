"""Which candidate reconstructs a scan, by what is known of its kind of sampling and by its own held-out samples."""

from __future__ import annotations

from dataclasses import dataclass

from recond_models.evidence.calibration import Calibration, Cell
from recond_models.evidence.trial import HeldOut


@dataclass(frozen=True, slots=True)
class Decision:
    """Which candidate is expected to be best.

    Parameters
    ----------
    model
        Its name.
    preferred
        What the kind of sampling alone would have chosen.
    expected
        By name of the candidate: the SSIM in the object that is expected of it.
    """

    model: str
    preferred: str
    expected: dict[str, float]


def decide(cell: Cell, trial: HeldOut, learnt: Calibration) -> Decision:
    """Decide between the candidates.

    Parameters
    ----------
    cell
        What scans that were sampled alike showed.
    trial
        What held-out samples of the very scan show.
    learnt
        How much these count.

    Returns
    -------
    Decision
        Another than the cell prefers only where it is expected to be better by more than the margin.
    """
    preferred = cell.best
    slope = learnt.slope(lines=cell.lines)
    surprise = {name: trial.logarithm(name) - usual for name, usual in cell.log_error.items() if name in trial.errors}
    known = cell.expected
    expected = {name: known[name] + slope * (surprise[preferred] - value) for name, value in surprise.items()}
    best = max(expected, key=lambda name: expected[name])
    model = best if expected[best] > expected[preferred] + learnt.margin else preferred
    return Decision(model, preferred, expected)
