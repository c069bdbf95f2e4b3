"""Why visits are not compared: one class a remedy."""

from __future__ import annotations


class FollowUpError(ValueError):
    """Base of all errors of the follow-up; the message says what is wrong and what to do.

    Attributes
    ----------
    reason
        Stable name of what is wrong.
    """

    reason = "FOLLOW_UP_REFUSED"


class VisitError(FollowUpError):
    """A visit is not complete or contradicts itself: its image or a label map cannot be used."""

    reason = "FOLLOW_UP_VISIT"


class VisitOrderError(FollowUpError):
    """The current scan is older than the prior one, or two visits are of different patients: check which is which."""

    reason = "FOLLOW_UP_ORDER"


class RegistrationFailedError(FollowUpError):
    """The two scans were not brought onto each other: check that both show the same part of the same patient."""

    reason = "FOLLOW_UP_REGISTRATION"


class RegistrationUnavailableError(FollowUpError):
    """The library that registers is not installed: ``pip install 'recond[follow-up]'``."""

    reason = "FOLLOW_UP_UNAVAILABLE"


class ClinicalRowsError(FollowUpError):
    """A table of clinical rows cannot be read.

    Parameters
    ----------
    message
        What is wrong and what to do.
    line
        Line of the file, from 1; None if it is about the whole file.

    Attributes
    ----------
    line
        As above.
    """

    reason = "FOLLOW_UP_CLINICAL_ROWS"

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message if line is None else f"line {line}: {message}")
        self.line = line
