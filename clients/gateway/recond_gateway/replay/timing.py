"""When acquisitions are due."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from defusedxml.ElementTree import ParseError, fromstring
from numpy.typing import NDArray

from recond_client.errors import InputError
from recond_gateway.mrd.layouts import TICK_SECONDS

LONGEST_PAUSE: Final = 10.0
"""Seconds; longer pauses between two acquisitions, such as to a noise scan of the hour before, are shortened to this."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast a scan is played.

    Parameters
    ----------
    factor
        Times as fast as it was measured; None for as fast as the other side takes it.
    """

    factor: float | None

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Read ``REAL``, ``MAX`` or a factor such as ``2x``.

        Raises
        ------
        ValueError
            It is none of these.
        """
        if text.upper() == "MAX":
            return cls(None)
        if text.upper() == "REAL":
            return cls(1.0)
        match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)x", text.strip().lower())
        if not match or not float(match[1]):
            msg = f"{text!r} is not REAL, MAX or a factor such as 2x"
            raise ValueError(msg)
        return cls(float(match[1]))


@dataclass(frozen=True, slots=True, eq=False)
class Timing:
    """When to send what.

    Parameters
    ----------
    due
        (n,) seconds from the first acquisition to each; None for at once.
    source
        Where that comes from, for people.
    """

    due: NDArray[np.float64] | None
    source: str


def timing_of(stamps: NDArray[np.int64], xml: bytes, rate: Rate) -> Timing:
    """Return when acquisitions are due: by their time stamps, or by the repetition time if they have none.

    Parameters
    ----------
    stamps
        (n,) time stamps in ticks of 2.5 ms.
    xml
        The MRD header, for its repetition time.
    rate
        How fast to play.

    Raises
    ------
    InputError
        There are neither time stamps nor a repetition time, and the rate needs them.
    """
    if rate.factor is None:
        return Timing(None, "as fast as it is taken")
    speed = "" if rate.factor == 1 else f", {rate.factor:g} times as fast"
    if np.ptp(stamps) or len(stamps) == 1:
        # Stamps count in 32 bits, and those of scans that follow one another may begin anew: what goes back takes no time.
        steps = np.diff(stamps, prepend=stamps[0]).clip(0) * TICK_SECONDS
        shortened = int((steps > LONGEST_PAUSE).sum())
        pauses = f", {shortened} pauses shortened to {LONGEST_PAUSE:g} s" if shortened else ""
        due = np.cumsum(np.minimum(steps, LONGEST_PAUSE) / rate.factor, dtype=np.float64)
        return Timing(due, f"time stamps{pauses}{speed}")
    repetition_time = _repetition_time(xml)
    if repetition_time is None:
        msg = (
            "the acquisitions have no time stamps and the header no repetition time (TR): play the file with --rate MAX"
        )
        raise InputError(msg, reason="NO_TIMES", field="rate")
    due = np.arange(len(stamps), dtype=np.float64) * (repetition_time / 1000 / rate.factor)
    return Timing(due, f"TR of {repetition_time:g} ms for each acquisition, since they have no time stamps{speed}")


def _repetition_time(xml: bytes) -> float | None:
    """Return the first repetition time in ms."""
    try:
        root = fromstring(xml)
    except (ParseError, ValueError):
        return None
    for element in root.iterfind(".//{*}sequenceParameters/{*}TR"):
        try:
            value = float(element.text or "")
        except ValueError:
            continue
        if 0 < value < 1e6:
            return value
    return None
