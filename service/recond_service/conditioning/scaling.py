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
    parts = kspace.reshape(-1).view(np.float32)
    energy = float(np.dot(parts, parts))
    if energy <= 0:
        return 0
    rms = math.sqrt(energy / (kspace.shape[-2] * kspace.shape[-1]))
    exponent = _WANTED_RMS_EXPONENT - math.frexp(rms)[1] + 1
    multiply_by_power(kspace, exponent)
    return exponent
