"""What can be wrong with a stream."""

from __future__ import annotations

from recond_client.errors import InputError


class ProtocolError(InputError):
    """The stream cannot be read on: messages have no frame around them, so what follows a bad one has no known beginning.

    Parameters
    ----------
    reason
        Stable name of what is wrong: ``UNKNOWN_MESSAGE``, ``DEPRECATED_MESSAGE``, ``INTERNAL_GADGETRON_MESSAGE``,
        ``MESSAGE_TOO_LARGE``, ``BAD_QUERY``, ``BAD_HEADER_VERSION``, ``BAD_IMAGE`` or ``BAD_ARRAY``.
    message
        What is wrong, at which byte, and what to do.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message, reason=reason)
