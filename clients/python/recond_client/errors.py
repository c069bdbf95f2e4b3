"""What can go wrong, one class per remedy.

========================  =====================  ===============================================================
Class                     Remedy                 gRPC statuses
========================  =====================  ===============================================================
`InputError`              fix the input          INVALID_ARGUMENT, FAILED_PRECONDITION, NOT_FOUND, OUT_OF_RANGE,
                                                 RESOURCE_EXHAUSTED over a limit
`RetryLaterError`         come back later        RESOURCE_EXHAUSTED by load (with RetryInfo), UNAVAILABLE,
                                                 DEADLINE_EXCEEDED, CANCELLED, ABORTED
`ServiceError`            ask the administrator  INTERNAL, UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED, ...
========================  =====================  ===============================================================
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_DETAILS_KEY: Final = "grpc-status-details-bin"
_INPUT: Final = frozenset({"INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND", "OUT_OF_RANGE"})
_LATER: Final = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED"})


class RecondError(Exception):
    """Base of all errors of this package.

    Parameters
    ----------
    message
        What is wrong and what to do about it.
    status
        Name of the gRPC status, such as ``"INVALID_ARGUMENT"``; found before a call was made, the status that the
        service would have given.
    reason
        Stable name of what is wrong, such as ``"NOT_HDF5"``; empty if the service gave none.
    field
        Where it is wrong: a field of the spec or a place in the file; empty if the service gave none.
    request_id
        Names the request in the logs of the service; empty if it was not admitted.
    retry_after
        Seconds after which another try may succeed, None if the service gave none.
    """

    def __init__(
        self,
        message: str,
        *,
        status: str,
        reason: str = "",
        field: str = "",
        request_id: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        self.field = field
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field and self.field not in self.message else ""
        return f"{where}{self.message}"


class InputError(RecondError):
    """The data or the options are wrong, or no model takes them: fix the input."""

    def __init__(
        self,
        message: str,
        *,
        status: str = "INVALID_ARGUMENT",
        reason: str = "",
        field: str = "",
        request_id: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(
            message, status=status, reason=reason, field=field, request_id=request_id, retry_after=retry_after
        )


class RetryLaterError(RecondError):
    """The service is full, away, or too slow for the deadline: try again, not before `retry_after` seconds."""


class ServiceError(RecondError):
    """The service is defective or does not let this client in: ask its administrator, naming `request_id`."""


def error_from_status(
    status: str, message: str, trailing_metadata: Iterable[tuple[str, str | bytes]] = (), request_id: str = ""
) -> RecondError:
    """Turn the end of a call into the error to raise.

    Parameters
    ----------
    status
        Name of the gRPC status.
    message
        The message that came with it.
    trailing_metadata
        Key and value pairs; ``grpc-status-details-bin`` holds the details.
    request_id
        What is known of it from the call itself.
    """
    reason = field = ""
    retry_after = None
    for packed in _details(trailing_metadata):
        if packed.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            packed.Unpack(info)
            reason = info.reason
        elif packed.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            packed.Unpack(bad)
            field = bad.field_violations[0].field if bad.field_violations else ""
        elif packed.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            packed.Unpack(retry)
            retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        elif packed.Is(error_details_pb2.RequestInfo.DESCRIPTOR):
            request = error_details_pb2.RequestInfo()
            packed.Unpack(request)
            request_id = request.request_id or request_id
    kind: type[RecondError] = ServiceError
    if status in _INPUT or (status == "RESOURCE_EXHAUSTED" and retry_after is None):
        kind = InputError
    elif status in _LATER or status == "RESOURCE_EXHAUSTED":
        kind = RetryLaterError
    return kind(
        message or f"the service answered {status} without a message",
        status=status,
        reason=reason,
        field=field,
        request_id=request_id,
        retry_after=retry_after,
    )


def _details(metadata: Iterable[tuple[str, str | bytes]]) -> list[status_pb2.Any]:
    """Return the packed details; what cannot be read counts as absent, because the status itself still stands."""
    for key, value in metadata:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return list(status_pb2.Status.FromString(value).details)
            except DecodeError:
                return []
    return []
