"""gRPC connections and errors, for the servers that speak it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from recond_loadtest.wires.call import Call
from recond_loadtest.wires.wire import Health

_DETAILS_KEY: Final = "grpc-status-details-bin"
_POLL_SECONDS: Final = 0.25
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Clients with the same options would share one connection otherwise, and the server could not tell them apart.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_retries", 0),  # a retry inside the library would hide an error
)


def channel_to(address: str) -> grpc.Channel:
    """Open a connection of its own."""
    return grpc.insecure_channel(address, _OPTIONS)


def end_with_error(call: Call, error: Any) -> None:  # noqa: ANN401 - a grpc.RpcError that is a grpc.Call
    """End a call by its gRPC error, with what its details say."""
    reason, retry_after = "", None
    for packed in _details(error.trailing_metadata() or ()):
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if packed.Unpack(info):
            reason = info.reason
        elif packed.Unpack(retry):
            retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    code = error.code()
    call.end(
        "UNKNOWN" if code is None else code.name, reason=reason, message=error.details() or "", retry_after=retry_after
    )


def _details(metadata: Any) -> list[Any]:  # noqa: ANN401 - grpc has no name for it
    for key, value in metadata:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return list(status_pb2.Status.FromString(value).details)
            except DecodeError:
                return []
    return []


def watch(channel: grpc.Channel, report: Callable[[Health], None]) -> Iterator[None]:
    """Follow ``grpc.health.v1``: by Watch, or by Check four times a second where Watch is not implemented.

    Parameters
    ----------
    channel
        Connection to the server.
    report
        Told the health now and whenever it changes.
    """
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest()
    polled = False
    while True:
        try:
            if polled:
                report(_health(stub.Check(request, timeout=_POLL_SECONDS * 2).status))
            else:
                # A Watch that lasts a second at most: so the caller gets its turn, and a silent server is noticed.
                for response in stub.Watch(request, timeout=1.0):
                    report(_health(response.status))
        except grpc.RpcError as error:
            code = error.code()
            if code is grpc.StatusCode.UNIMPLEMENTED and not polled:
                polled = True
            elif polled or code is not grpc.StatusCode.DEADLINE_EXCEEDED:
                report("unreachable")
        yield


def _health(status: int) -> Health:
    return "serving" if status == health_pb2.HealthCheckResponse.SERVING else "not-serving"
