"""What candidates predicted of samples that were held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How well candidates predicted held-out samples of a frame.

    Parameters
    ----------
    errors
        By name of the candidate: sum of the squared magnitudes of prediction minus sample, over all virtual coils.
    energy
        Sum of the squared magnitudes of the samples.
    hidings
        How often other samples were held out.
    """

    errors: dict[str, float]
    energy: float
    hidings: int = 1

    def relative(self, candidate: str) -> float:
        """Return ``||prediction - samples|| / ||samples||`` of a candidate."""
        return float((self.errors[candidate] / self.energy) ** 0.5)


def pool(trials: Sequence[HeldOut]) -> HeldOut:
    """Return several trials as one, in which every frame counts alike.

    Raises
    ------
    ValueError
        There is none.
    """
    if not trials:
        raise ValueError("there are no trials to pool")
    names = [name for name in trials[0].errors if all(name in trial.errors for trial in trials)]
    errors = {name: sum(trial.errors[name] / trial.energy for trial in trials) for name in names}
    return HeldOut(errors, float(len(trials)), sum(trial.hidings for trial in trials))
