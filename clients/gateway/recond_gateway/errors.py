"""What can go wrong in a gateway, apart from what the service says."""

from __future__ import annotations

from recond_client.errors import InputError


class GatewayError(InputError):
    """Something that the scanner's side or the configuration has to put right.

    Parameters
    ----------
    message
        What is wrong and what to do about it, in a sentence.
    reason
        Stable name, such as ``"HEADER_BEFORE_CONFIG"``.
    """

    def __init__(self, message: str, *, reason: str, field: str = "") -> None:
        super().__init__(message, reason=reason, field=field)


class ConfigurationError(GatewayError):
    """The configuration of the gateway is wrong."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message, reason="BAD_CONFIGURATION", field=field)


class SessionError(GatewayError):
    """The scanner did what the protocol does not allow, fell silent, or is gone."""
