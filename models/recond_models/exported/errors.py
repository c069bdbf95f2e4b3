"""Why an exported program is refused."""

from __future__ import annotations


class ProgramError(ValueError):
    """An exported program cannot be read, or does what is not known here."""


class SignatureError(ProgramError):
    """The program does not take (k-space, mask[, maps]) and return an image."""
