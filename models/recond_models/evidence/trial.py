"""What candidates predicted of samples that were held out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_LEAST_SHARE: Final = 0.05  # of an error that is not noise at least, for the noise is estimated
_SMALLEST: Final = 1e-12


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How well candidates predicted held-out samples of a frame.

    Parameters
    ----------
    errors
        By name of the candidate: sum of the squared magnitudes of prediction minus sample, over all virtual coils.
    energy
        Sum of the squared magnitudes of the samples.
    noise
        What of each of the errors is noise of the samples, which nobody can predict; as estimated.
    hidings
        How often other samples were held out.
    """

    errors: dict[str, float]
    energy: float
    noise: float = 0.0
    hidings: int = 1

    def relative(self, candidate: str) -> float:
        """Return ``||prediction - samples|| / ||samples||`` of a candidate."""
        return float((self.errors[candidate] / self.energy) ** 0.5)

    def logarithm(self, candidate: str) -> float:
        """Return the logarithm of the same without the noise: that is alike for all candidates, and hides by what they differ."""
        error = max(self.errors[candidate] - self.noise, _LEAST_SHARE * self.errors[candidate])
        return 0.5 * math.log(max(error / self.energy, _SMALLEST))


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
    noise = sum(trial.noise / trial.energy for trial in trials)
    return HeldOut(errors, float(len(trials)), noise, sum(trial.hidings for trial in trials))
