"""Figures as people read them."""

from __future__ import annotations

from typing import Final

#: Stands where there is no value.
NONE: Final = "\N{EN DASH}"


def seconds_text(value: float | None) -> str:
    """Return a time in ms or s with three digits, or a dash."""
    if value is None:
        return NONE
    return f"{1e3 * value:.3g} ms" if value < 0.9995 else f"{value:.3g} s"


def number_text(value: float | None) -> str:
    """Return a number with three digits, or a dash."""
    if value is None:
        return NONE
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
