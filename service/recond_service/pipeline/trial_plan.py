"""On which frames of a volume samples are held out, so that it costs a bounded part of the work and of the memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SHARE = 0.15
"""Largest part of the predicted work on a volume that trials may take."""

MOST_TRIALS = 4
FEWEST_TRIALS = 2
"""A single hiding says too little."""

HELD_BYTES = 128 << 20
"""Frames that wait for the decision take at most this memory, beyond those that are under way anyway."""

_WEAK = 3  # powers of two by which the largest sample of a slice may be smaller than that of the strongest


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """How many trials there are, and when they begin.

    Parameters
    ----------
    trials
        How many.
    held
        How many frames are held back before the trials begin.
    """

    trials: int
    held: int

    def places(self, exponents: Sequence[int], expected: int) -> list[int]:
        """Choose frames among those that were held back: about the middle of the volume, with signal.

        Parameters
        ----------
        exponents
            For each held frame the power of two that its samples were multiplied by: large where the signal is weak.
        expected
            How many frames the volume has; 0 if that is not known.

        Returns
        -------
        list of int
            Numbers of the frames, in order.
        """
        count = len(exponents)
        strong = [place for place in range(count) if exponents[place] <= min(exponents) + _WEAK]
        volume = expected or count
        chosen: set[int] = set()
        for number in range(self.trials):
            wanted = volume * (0.25 + 0.5 * (number + 0.5) / self.trials)
            free = [place for place in strong if place not in chosen]
            if free:
                chosen.add(min(free, key=lambda place: abs(place - wanted)))
        return sorted(chosen)


def plan_trials(
    expected: int, frame_seconds: float, trial_seconds: float, frame_bytes: int, ahead: int
) -> TrialPlan | str:
    """Plan the trials of a volume.

    Parameters
    ----------
    expected
        Frames of the volume; 0 if that is not known before all have come.
    frame_seconds, trial_seconds
        Predicted time of a frame, and of a trial on one; 0 if nothing is known.
    frame_bytes
        Memory that a frame takes.
    ahead
        How many frames are under way at a time anyway.

    Returns
    -------
    TrialPlan or str
        The plan; or why there are no trials, as a clause.
    """
    if expected == 1:
        return "the scan has a single image"
    if not frame_seconds > 0 or not trial_seconds > 0:
        return "nothing is known yet of what the models cost here"
    holdable = max(HELD_BYTES // max(frame_bytes, 1), ahead)
    if not expected:
        least = math.ceil(FEWEST_TRIALS * trial_seconds / (SHARE * frame_seconds))
        if least > holdable:
            return f"the number of images is not known before {least} of them have come"
        return TrialPlan(FEWEST_TRIALS, least)
    trials = min(int(SHARE * expected * frame_seconds / trial_seconds), MOST_TRIALS, expected, holdable)
    if trials < FEWEST_TRIALS:
        return f"{FEWEST_TRIALS} trials would take more than {SHARE:.0%} of the work on {expected} images"
    return TrialPlan(trials, min(expected, holdable, math.ceil(0.75 * expected)))
