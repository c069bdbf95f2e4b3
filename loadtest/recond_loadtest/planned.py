"""One request of a schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Fault = Literal["", "poison", "truncate", "cancel", "slow"]

#: Most requests of one schedule: a typing error in a rate must not fill the memory.
MOST_REQUESTS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request to come.

    Parameters
    ----------
    at
        When it is due, seconds after the start of the run.
    kind
        Name of its class.
    input
        Which of the inputs of the class.
    fault
        What goes wrong with it, ``""`` for nothing.
    cancel_after
        Seconds after which a request with the fault ``"cancel"`` is cancelled.
    """

    at: float
    kind: str
    input: int = 0
    fault: Fault = ""
    cancel_after: float = 0.0
