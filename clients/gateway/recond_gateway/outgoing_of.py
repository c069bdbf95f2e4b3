"""What leaves a gateway, as its settings have it."""

from __future__ import annotations

from collections.abc import Callable

from recond_gateway.config import Settings
from recond_gateway.scan.outgoing import Outgoing, Unchanged


def outgoing_of(settings: Settings) -> Callable[[], Outgoing]:
    """Return what makes, for each scan, what takes out of it what stays at the gateway."""
    return Unchanged
