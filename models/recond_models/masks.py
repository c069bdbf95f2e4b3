"""Cartesian sampling masks after fastMRI (Zbontar et al. 2018, arXiv:1811.08839), digit for digit.

Masks are drawn from numpy's legacy generator and seeded by the name of the file, so that everybody who knows the name gets the
same mask.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Kind = Literal["random", "equispaced", "equispaced_fraction"]


def mask_for(
    kind: Kind,
    columns: int,
    acceleration: float | tuple[float, ...],
    center_fraction: float | tuple[float, ...],
    name: str,
) -> NDArray[np.bool_]:
    """Draw the mask that belongs to a file.

    Parameters
    ----------
    kind
        ``"random"``: every line outside the centre with equal probability. ``"equispaced"``: every R-th line from a random offset,
        and the centre, so that fewer lines are left out than R says. ``"equispaced_fraction"``: the distance is widened so that R
        is met with the centre.
    columns
        Number of phase-encode lines.
    acceleration
        R, more than 1. Or several: one pair of R and centre fraction is drawn.
    center_fraction
        Fraction of the columns that is kept in the centre. As many as accelerations.
    name
        File name with ending and without folders; seeds the generator. Data without a name all get one mask.

    Returns
    -------
    ndarray
        bool (columns,), true where the line is kept.

    Raises
    ------
    ValueError
        The request cannot be met; the message says why.
    """
    accelerations, fractions = _as_tuple(acceleration), _as_tuple(center_fraction)
    if kind not in get_args(Kind):
        raise ValueError(f"unknown mask {kind!r}, expected one of {', '.join(get_args(Kind))}")
    if not accelerations or len(accelerations) != len(fractions):
        raise ValueError(f"need as many centre fractions as accelerations, got {fractions} and {accelerations}")
    for factor, fraction in zip(accelerations, fractions, strict=True):
        _check(columns, factor, fraction)
    generator = np.random.RandomState([ord(character) for character in name] or [0])
    # A choice among one consumes nothing from the generator, among two it does: fastMRI's masks depend on that.
    pair = int(generator.randint(len(fractions)))
    factor, low = accelerations[pair], round(columns * fractions[pair])
    mask = np.zeros(columns, dtype=np.bool_)
    if kind == "random":
        mask |= generator.uniform(size=columns) < (columns / factor - low) / (columns - low)
    elif kind == "equispaced":
        mask[generator.randint(0, round(factor)) :: round(factor)] = True
    else:
        spacing = factor * (low - columns) / (low * factor - columns)
        offset = generator.randint(0, round(spacing))
        mask[np.around(np.arange(offset, columns - 1, spacing)).astype(np.int64)] = True
    start = (columns - low + 1) // 2
    mask[start : start + low] = True
    return mask


def _check(columns: int, acceleration: float, center_fraction: float) -> None:
    """Raise ValueError for a request that cannot be met."""
    if columns < 1:
        raise ValueError(f"a mask needs at least one column, got {columns}")
    if not (math.isfinite(acceleration) and acceleration > 1):
        raise ValueError(f"acceleration must be more than 1, got {acceleration}")
    if not 0 <= center_fraction < 1:
        raise ValueError(f"the centre fraction must be at least 0 and less than 1, got {center_fraction}")
    if round(acceleration) > columns:
        raise ValueError(f"acceleration {acceleration} leaves no line of {columns}")
    low = round(columns * center_fraction)
    if low >= columns / acceleration:
        raise ValueError(
            f"the centre alone keeps {low} of {columns} lines, but acceleration {acceleration} allows "
            f"{columns / acceleration:.1f}: lower the centre fraction below {1 / acceleration:.3g} or the acceleration"
        )


def _as_tuple(value: float | tuple[float, ...]) -> tuple[float, ...]:
    """Return one or several values as a tuple."""
    return tuple(value) if isinstance(value, tuple) else (value,)
