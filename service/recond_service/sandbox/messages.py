"""What every sandbox says and is told, whatever it does."""

from __future__ import annotations

from recond_service.processes import Message
from recond_service.types import ErrorReport


class OpenSandbox(Message, frozen=True):
    """The opening of a sandbox.

    Parameters
    ----------
    warm
        There is time to get what every request needs ready before the request comes.
    """

    warm: bool


class SandboxError(Message, frozen=True):
    """The request cannot be served; the process ends."""

    error: ErrorReport


class SandboxDefect(Message, frozen=True):
    """The process ends on an exception that nobody expected.

    Parameters
    ----------
    traceback
        Text for the log of the service.
    """

    traceback: str


FromSandbox = SandboxError | SandboxDefect
