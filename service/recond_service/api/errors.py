"""Errors of the service as gRPC statuses with `google.rpc` details."""

from __future__ import annotations

import datetime

import grpc
from google.protobuf.any_pb2 import Any as PackedMessage
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from recond_service.types import RecondError

DOMAIN = "recond"

_LONGEST_MESSAGE, _LONGEST_FIELD = 1500, 300  # bytes; gRPC drops calls whose metadata are longer than some KiB


def status_code(error: RecondError) -> grpc.StatusCode:
    """Return the status code of an error."""
    return grpc.StatusCode[error.status]


def shortened(text: str, most: int = _LONGEST_MESSAGE) -> str:
    """Return a text that may hold what a client has sent, at most so many bytes long."""
    encoded = text.encode(errors="replace")
    return encoded.decode() if len(encoded) <= most else encoded[: most - 3].decode(errors="ignore") + "..."


def status_details(error: RecondError, request_id: str) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailing metadata that carry the details of an error.

    Parameters
    ----------
    error
        The error. A field becomes a `BadRequest` violation, a retry delay a `RetryInfo`.
    request_id
        As in the logs.
    """
    details = [
        ErrorInfo(reason=error.reason, domain=DOMAIN, metadata={"request_id": request_id}),
        RequestInfo(request_id=request_id),
    ]
    message = shortened(error.message)
    if error.field:
        field = shortened(error.field, _LONGEST_FIELD)
        violation = BadRequest.FieldViolation(field=field, description=message, reason=error.reason)
        details.append(BadRequest(field_violations=[violation]))
    if error.retry_after is not None:
        retry = RetryInfo()
        retry.retry_delay.FromTimedelta(datetime.timedelta(seconds=error.retry_after))
        details.append(retry)
    status = Status(code=status_code(error).value[0], message=message)
    for detail in details:
        packed = PackedMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return tuple(rpc_status.to_status(status).trailing_metadata)
