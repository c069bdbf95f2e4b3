"""ISMRMRD acquisition flags, written against the C header: flag n is bit n - 1 of a 64-bit word."""

from __future__ import annotations


def bit_of(flag: int) -> int:
    """Return the bit of flag number `flag`, counted from 1."""
    return 1 << (flag - 1)


LAST_IN_SLICE = bit_of(8)
LAST_IN_REPETITION = bit_of(14)
NOISE = bit_of(19)
CALIBRATION = bit_of(20)
CALIBRATION_AND_IMAGING = bit_of(21)
REVERSE = bit_of(22)
LAST_IN_MEASUREMENT = bit_of(25)

# Navigation, phase correction, feedback and dummy scans.
NOT_IMAGING = sum(bit_of(flag) for flag in (23, 24, 26, 27, 28))

DOUBTFUL = {29: "surface coil correction", 30: "phase stabilisation reference", 31: "phase stabilisation"}
"""Flags of readouts apart from the images, which some files carry on the imaging readouts themselves."""

ALL_DOUBTFUL = sum(bit_of(flag) for flag in DOUBTFUL)
