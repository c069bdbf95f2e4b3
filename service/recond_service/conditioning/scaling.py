"""Scaling by powers of two, which changes no mantissa: the same scan at any scale gives the same frame, bit for bit."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_STEP = 120  # 2**120 and 2**-120 are normal float32 numbers
_WANTED_RMS_EXPONENT = -2  # image root mean square near 1/4: its bright parts are then near 1
_SAFE_EXPONENT = (
    40  # squares of values up to 2**40, and down to 2**-40, are normal float32 numbers, and so are their sums
)


# Of all samples together, and of each on average: the largest of them then lies between 2**-40 and 2**40.
_MOST_ENERGY = 2.0 ** (2 * _SAFE_EXPONENT)
_LEAST_ENERGY = 2.0 ** (-2 * _SAFE_EXPONENT)


def peak_of(kspace: NDArray[np.complex64]) -> float:
    """Return the largest absolute value of a real or imaginary part; not finite if a sample is not."""
    parts = kspace.reshape(-1).view(np.float32)
    return float(np.maximum(parts.max(), -parts.min())) if parts.size else 0.0


def multiply_by_power(kspace: NDArray[np.complex64], exponent: int) -> None:
    """Multiply by ``2**exponent`` in place."""
    while exponent:
        step = max(-_STEP, min(_STEP, exponent))
        kspace *= np.float32(2.0**step)
        exponent -= step


def bring_to_range(kspace: NDArray[np.complex64], peak: float) -> int:
    """Multiply in place so that arithmetic in float32 neither overflows nor underflows; return the exponent.

    Does nothing where `peak` is between 2**-40 and 2**40.
    """
    exponent = range_exponent(peak)
    multiply_by_power(kspace, exponent)
    return exponent


def exponent_to_range(kspace: NDArray[np.complex64]) -> tuple[int, bool]:
    """Return the exponent of `bring_to_range` for samples in C order, and whether they are all finite."""
    parts = kspace.reshape(-1).view(np.float32)
    if _is_moderate(_energy_of(parts), parts.size):
        return 0, True
    peak = peak_of(kspace)
    return (range_exponent(peak), True) if math.isfinite(peak) else (0, False)


def _energy_of(parts: NDArray[np.float32]) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.dot(parts, parts))


def _is_moderate(energy: float, count: int) -> bool:
    """Tell by the sum of their squares that the largest of some values lies between 2**-40 and 2**40: one pass in place of two."""
    return count * _LEAST_ENERGY <= energy <= _MOST_ENERGY


def range_exponent(peak: float) -> int:
    """Return the exponent of `bring_to_range`: 0 where `peak` is between 2**-40 and 2**40."""
    exponent = math.frexp(peak)[1] if peak > 0 else 0
    return 0 if abs(exponent) <= _SAFE_EXPONENT else -exponent


def normalise(kspace: NDArray[np.complex64]) -> int:
    """Multiply a frame in place so that its image has a root mean square near 1/4; return the exponent, 0 for a frame of zeros.

    By Parseval's theorem the root mean square of the root-sum-of-squares image is that of k-space over the coils. It takes the
    whole frame into account, where the largest sample would follow a single spike.

    Parameters
    ----------
    kspace
        (coils, rows, columns), C order, values as `bring_to_range` leaves them.
    """
    return _normalise(kspace, _energy_of(kspace.reshape(-1).view(np.float32)))


def _normalise(kspace: NDArray[np.complex64], energy: float) -> int:
    if energy <= 0:
        return 0
    rms = math.sqrt(energy / (kspace.shape[-2] * kspace.shape[-1]))
    exponent = _WANTED_RMS_EXPONENT - math.frexp(rms)[1] + 1
    multiply_by_power(kspace, exponent)
    return exponent


def bring_to_unity(kspace: NDArray[np.complex64]) -> int | None:
    """Do what `bring_to_range` and `normalise` do; return the exponent, None for a frame of zeros.

    Parameters
    ----------
    kspace
        (coils, rows, columns), C order, finite.
    """
    parts = kspace.reshape(-1).view(np.float32)
    energy = _energy_of(parts)
    if _is_moderate(energy, parts.size):
        return _normalise(kspace, energy)
    peak = peak_of(kspace)
    return bring_to_range(kspace, peak) + normalise(kspace) if peak > 0 else None
