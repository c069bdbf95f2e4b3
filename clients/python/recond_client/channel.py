"""How to reach a service: address, TLS, channel options."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from recond_client.errors import InputError, RecondError, ServiceError, error_from_status

_LOOPBACK: Final = ("127.", "localhost", "[::1]", "ipv4:127.", "ipv6:[::1]", "unix:")
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 16 << 20),
    # Notices a peer that vanished without a word. The service allows it; gRPC's default would be every 5 minutes at most.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)
# Calls go to those of several services that say that they are serving: not to one that finishes what it has before it stops.
_SEVERAL: Final = json.dumps(
    {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}, separators=(",", ":")
)
_CANCELLED_HERE: Final = ("locally cancelled", "channel closed")  # what gRPC says when this side cancels or closes
_PLAIN_TARGET: Final = re.compile(r"(\[[^\[\]]+\]|[^:/\[\]\s]+):([0-9]{1,5})")
_SCHEMES: Final = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "vsock:", "xds:", "google-c2p:")

Pem = str | os.PathLike[str] | bytes


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A service and how to talk to it.

    Parameters
    ----------
    target
        ``HOST:PORT``, or another gRPC target such as ``dns:///recond.example:443``. With several addresses
        (``ipv4:10.0.0.5:50051,10.0.0.6:50051``) calls take turns between the services that are up.
    ca
        PEM file, or its bytes, of the authorities that the service's certificate is checked against. Turns TLS on.
    certificate, key
        PEM files, or their bytes, that this client shows to a service that asks (mutual TLS). Turn TLS on.
    tls
        True for TLS with the system's authorities; None decides by the others.

    Raises
    ------
    InputError
        If the target is malformed, a file cannot be read, or a certificate comes without its key.
    """

    target: str
    ca: Pem | None = None
    certificate: Pem | None = None
    key: Pem | None = None
    tls: bool | None = None

    def __post_init__(self) -> None:
        check_target(self.target)
        if (self.certificate is None) != (self.key is None):
            msg = "certificate and key go together: give both, or neither"
            raise InputError(msg, reason="BAD_TLS", field="certificate")
        if self.tls is False and (self.ca is not None or self.certificate is not None):
            msg = "tls=False contradicts ca and certificate"
            raise InputError(msg, reason="BAD_TLS", field="tls")

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Return what TLS needs, or None for a plain connection."""
        if not self.tls and self.ca is None and self.certificate is None:
            return None
        return grpc.ssl_channel_credentials(
            _pem(self.ca, "ca"), _pem(self.key, "key"), _pem(self.certificate, "certificate")
        )

    def options(self) -> list[tuple[str, int | str]]:
        """Return the channel options."""
        # Proxies of the environment are for other machines.
        proxy = 0 if self.target.startswith(_LOOPBACK) else 1
        several = [("grpc.service_config", _SEVERAL)] if "," in self.target else []
        return [*_OPTIONS, ("grpc.enable_http_proxy", proxy), *several]


def check_target(target: str) -> None:
    """Refuse what is neither ``HOST:PORT`` nor a gRPC target with a scheme.

    Raises
    ------
    InputError
        If it is malformed.
    """
    if target.startswith(_SCHEMES):
        return
    plain = _PLAIN_TARGET.fullmatch(target)
    if plain is None or not 0 < int(plain[2]) <= 65535:
        msg = f"{target!r} is not HOST:PORT: give the address of the service, for example localhost:50051"
        raise InputError(msg, reason="BAD_TARGET", field="target")


def _pem(value: Pem | None, field: str) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    try:
        pem = Path(value).read_bytes()
    except OSError as error:
        msg = f"{field}: {os.fspath(value)} cannot be read: {error.strerror}"
        raise InputError(msg, reason="BAD_TLS", field=field) from error
    if b"-----BEGIN " not in pem:
        msg = f"{field}: {os.fspath(value)} is no PEM file: it must hold a block that begins with -----BEGIN"
        raise InputError(msg, reason="BAD_TLS", field=field)
    return pem


def error_of_call(
    status: str,
    details: str | None,
    trailing_metadata: Iterable[tuple[str, str | bytes]] | None,
    target: str,
    request_id: str = "",
) -> RecondError:
    """Turn the end of a call into the error to raise, with words of our own where only the transport spoke.

    Parameters
    ----------
    status
        Name of the gRPC status.
    details
        The message that came with it.
    trailing_metadata
        What the service added, None if it never answered.
    target
        Address of the service, for the message.
    request_id
        What is known of it from the call itself.
    """
    metadata = list(trailing_metadata or ())
    message = details or ""
    error = error_from_status(status, message, metadata, request_id)
    if error.reason:
        return error
    if status == "UNAVAILABLE" and "handshake failed" in message:
        msg = (
            f"no TLS connection to {target}: check that the service speaks TLS, and that the certificates of both sides "
            f"come from authorities that the other knows ({message})"
        )
        return ServiceError(msg, status=status, reason="TLS_FAILED")
    if status == "UNAVAILABLE" and error.retry_after is None:
        error.message = f"the service at {target} cannot be reached, or went away: try again later ({message})"
    elif status == "DEADLINE_EXCEEDED":
        error.reason = "DEADLINE"
        error.message = f"{target} did not finish within the timeout: allow more time, or try again later ({message})"
    elif status == "CANCELLED" and message.lower().startswith(_CANCELLED_HERE):
        error.message = f"the call to {target} was cancelled ({message})"
    elif status == "CANCELLED":
        # A server that stops cancels what it has not begun; so do proxies.
        error.status = "UNAVAILABLE"
        error.message = f"the service at {target}, or something on the way to it, ended the call: try again ({message})"
    return error
