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


def status_code(error: RecondError) -> grpc.StatusCode:
    """Return the status code of an error."""
    return grpc.StatusCode[error.status]


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
    if error.field:
        violation = BadRequest.FieldViolation(field=error.field, description=error.message, reason=error.reason)
        details.append(BadRequest(field_violations=[violation]))
    if error.retry_after is not None:
        retry = RetryInfo()
        retry.retry_delay.FromTimedelta(datetime.timedelta(seconds=error.retry_after))
        details.append(retry)
    status = Status(code=status_code(error).value[0], message=error.message)
    for detail in details:
        packed = PackedMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return tuple(rpc_status.to_status(status).trailing_metadata)
