"""Dates as people write them, refused where they may mean two days."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date as Date  # noqa: N812 - fields are called date elsewhere
from typing import Final

_YEAR_FIRST: Final = re.compile(r"(\d{4})(?:([-/.])(\d{1,2})\2(\d{1,2})|(\d{2})(\d{2}))(?:[T ]\d{1,2}:\d{2}.*)?")
_YEAR_LAST: Final = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})(?:[T ]\d{1,2}:\d{2}.*)?")
_EARLIEST: Final = 1900
_LATEST: Final = 2200


@dataclass(frozen=True, slots=True)
class DateReader:
    """Reads the dates of one file.

    Parameters
    ----------
    day_first
        By the separator of dates with the year last: whether the day comes first. A separator that is missing here leaves open what
        02/03 means.
    """

    day_first: dict[str, bool]

    @classmethod
    def of(cls, texts: Iterable[str], day_first: bool | None = None) -> DateReader:
        """Learn from all dates of a file how it writes them.

        Parameters
        ----------
        texts
            The cells.
        day_first
            What the caller knows; None: a date such as 25/03/2024 tells it for all that are written alike, unless another of them
            says the opposite.
        """
        if day_first is not None:
            return cls(dict.fromkeys("-/.", day_first))
        votes: dict[str, set[bool]] = {}
        for text in texts:
            found = _YEAR_LAST.fullmatch(text)
            if found is None:
                continue
            first, second = int(found[1]), int(found[3])
            if (first > 12) != (second > 12):
                votes.setdefault(found[2], set()).add(first > 12)
        return cls({separator: vote.pop() for separator, vote in votes.items() if len(vote) == 1})

    def read(self, text: str) -> Date:
        """Return a date.

        Parameters
        ----------
        text
            ``2024-03-25``, ``2024/03/25``, ``20240325``, ``25.03.2024``, ``25/03/2024`` or ``03/25/2024``; a time after
            it is left out.

        Raises
        ------
        ValueError
            It is no date, or may mean two days.
        """
        found = _YEAR_FIRST.fullmatch(text)
        if found is not None:
            return _date(int(found[1]), int(found[3] or found[5]), int(found[4] or found[6]), text)
        found = _YEAR_LAST.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no date: write it as 2024-03-25")
        first, second, year = int(found[1]), int(found[3]), int(found[4])
        day_first = self.day_first.get(found[2])
        if first > 12 or second > 12:
            day_first = first > 12
        elif first != second and day_first is None:
            raise ValueError(
                f"{text!r} may mean two days: write it as {year}-{second:02d}-{first:02d}, the month in the middle"
            )
        day, month = (first, second) if day_first else (second, first)
        return _date(year, month, day, text)


def _date(year: int, month: int, day: int, text: str) -> Date:
    """Return a date, or raise `ValueError` with what was written."""
    try:
        found = Date(year, month, day)
    except ValueError:
        found = None
    if found is None or not _EARLIEST <= year <= _LATEST:
        raise ValueError(f"{text!r} is no day of the calendar: write it as 2024-03-25")
    return found
