"""The errors that reach a client. One class per gRPC status and remedy; `api` turns them into statuses with details."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class RecondError(Exception):
    """Base of all errors that a client sees.

    Parameters
    ----------
    message
        What is wrong and what to do about it, in one or two sentences that name the offending value.
    reason
        Stable name in UPPER_SNAKE_CASE for `google.rpc.ErrorInfo.reason`, such as ``"NOT_HDF5"``.
    field
        Where it is wrong: a field of the spec or a place in the file, such as ``"dataset/xml"`` or ``"data[17]"``.
    retry_after
        Seconds after which another try may succeed.
    """

    status: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, reason: str = "", field: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.status
        self.field = field
        self.retry_after = retry_after


class InvalidInputError(RecondError):
    """The data or the spec are wrong: fix the input."""

    status = "INVALID_ARGUMENT"


class ModelNotFoundError(RecondError):
    """There is no model, version or head of that name: choose another."""

    status = "NOT_FOUND"


class UnsupportedDataError(RecondError):
    """The data are valid, but no model of this service can take them."""

    status = "FAILED_PRECONDITION"


class LimitExceededError(RecondError):
    """The request is over a limit of this service: send less, or have the limit raised."""

    status = "RESOURCE_EXHAUSTED"


class OverloadedError(RecondError):
    """The service is full: come back after `retry_after` seconds."""

    status = "RESOURCE_EXHAUSTED"


class DeadlineExceededError(RecondError):
    """The images cannot be ready before the deadline of the call."""

    status = "DEADLINE_EXCEEDED"


class UnavailableError(RecondError):
    """The service is draining, or has no model server: try another or come back."""

    status = "UNAVAILABLE"


class DefectError(RecondError):
    """A defect in recond."""

    status = "INTERNAL"


_BY_STATUS: dict[str, type[RecondError]] = {
    error.status: error
    for error in (
        OverloadedError,
        LimitExceededError,  # last of its status: what a scan process says over the limit is never about load
        InvalidInputError,
        ModelNotFoundError,
        UnsupportedDataError,
        DeadlineExceededError,
        UnavailableError,
        DefectError,
    )
}


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """An error on its way to another process or into a report.

    Parameters
    ----------
    status
        Name of the gRPC status.
    message, reason, field, retry_after
        As in `RecondError`.
    """

    status: str
    message: str
    reason: str = ""
    field: str = ""
    retry_after: float | None = None

    @classmethod
    def of(cls, error: RecondError) -> ErrorReport:
        """Return the report of an error."""
        return cls(error.status, error.message, error.reason, error.field, error.retry_after)

    def to_error(self) -> RecondError:
        """Return the error; one of an unknown status becomes a `DefectError`."""
        kind = _BY_STATUS.get(self.status, DefectError)
        return kind(self.message, reason=self.reason, field=self.field, retry_after=self.retry_after)
