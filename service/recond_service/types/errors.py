"""The errors that reach a client. One class per gRPC status and remedy; `api` turns them into statuses with details."""

from __future__ import annotations

from typing import Any, ClassVar


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

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary that `from_json` turns back into the same error."""
        return {
            "status": self.status,
            "message": self.message,
            "reason": self.reason,
            "field": self.field,
            "retry_after": self.retry_after,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> RecondError:
        """Return the error that `to_json` described; an unknown status becomes a `DefectError`."""
        retry_after = data.get("retry_after")
        return _BY_STATUS.get(str(data.get("status")), DefectError)(
            str(data.get("message", "")),
            reason=str(data.get("reason", "")),
            field=str(data.get("field", "")),
            retry_after=None if retry_after is None else float(retry_after),
        )


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
