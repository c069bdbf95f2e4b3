"""ISMRMRD acquisition flags, written against the C header: flag n is bit n - 1 of a 64-bit word."""

from __future__ import annotations


def _bit(flag: int) -> int:
    return 1 << (flag - 1)


LAST_IN_SLICE = _bit(8)
LAST_IN_REPETITION = _bit(14)
NOISE = _bit(19)
CALIBRATION = _bit(20)
CALIBRATION_AND_IMAGING = _bit(21)
REVERSE = _bit(22)
LAST_IN_MEASUREMENT = _bit(25)

# Navigation, phase correction, feedback, dummy scans, surface coil correction, phase stabilisation.
NOT_IMAGING = sum(_bit(flag) for flag in (23, 24, 26, 27, 28, 29, 30, 31))
