"""How a figure changed between two dates, and whether that is more than noise."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date as Date  # noqa: N812 - a parameter is called date
from typing import Any, Final, Literal

from recond_models.follow_up.errors import VisitOrderError

DAYS_OF_A_MONTH: Final = 30.4375
"""A twelfth of 365.25 days."""

Trend = Literal["stable", "grown", "shrunk"]


@dataclass(frozen=True, slots=True)
class Change:
    """A figure at two times.

    Parameters
    ----------
    prior, current
        The figure; None if it was not measured, which is not zero.
    months
        Time between the two; None if a date is unknown.
    """

    prior: float | None
    current: float | None
    months: float | None = None

    @property
    def absolute(self) -> float | None:
        """Current less prior; None if one was not measured."""
        return None if self.prior is None or self.current is None else self.current - self.prior

    @property
    def percent(self) -> float | None:
        """Change as a share of the prior figure; None if one was not measured or the prior is zero."""
        change = self.absolute
        return None if change is None or not self.prior else 100 * change / self.prior

    @property
    def per_month(self) -> float | None:
        """Change per month of 30.4375 days; None if a figure or a date is missing, or both scans are of one day."""
        change = self.absolute
        return None if change is None or not self.months else change / self.months

    def to_json(self, unit: str) -> dict[str, float | None]:
        """Return a plain dictionary whose keys end in the unit, such as ``prior_ml``."""
        return {
            f"prior_{unit}": self.prior,
            f"current_{unit}": self.current,
            f"change_{unit}": self.absolute,
            "change_percent": self.percent,
            f"{unit}_per_month": self.per_month,
        }


@dataclass(frozen=True, slots=True)
class Noise:
    """What a volume differs by when nothing has changed: repositioning, sampling by voxels, segmentation.

    A change counts if it is larger than both.

    Parameters
    ----------
    volume_ml
        mL.
    percent
        Of the prior volume.
    """

    volume_ml: float
    percent: float

    def trend(self, change: Change) -> Trend | None:
        """Tell whether a volume grew, shrank or stayed; None if it was not measured twice."""
        difference, prior = change.absolute, change.prior
        if difference is None or prior is None:
            return None
        if abs(difference) <= max(self.volume_ml, prior * self.percent / 100):
            return "stable"
        return "grown" if difference > 0 else "shrunk"

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return {"volume_ml": self.volume_ml, "percent": self.percent}


def months_between(prior: Date | None, current: Date | None) -> float | None:
    """Return the time between two dates in months of 30.4375 days; None if one is unknown.

    Raises
    ------
    VisitOrderError
        The current date is before the prior one.
    """
    if prior is None or current is None:
        return None
    days = (current - prior).days
    if days < 0:
        raise VisitOrderError(
            f"the current scan ({current}) is older than the prior one ({prior}): give them in order of time"
        )
    return days / DAYS_OF_A_MONTH
