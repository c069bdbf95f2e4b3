"""What a load generator has to know of a kind of server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from recond_loadtest.inputs import Scan
from recond_loadtest.wires.call import Call

Encoded = TypeVar("Encoded")

Health = Literal["serving", "not-serving", "unreachable"]


class WireError(Exception):
    """The target cannot be reached, or cannot be asked for what the scenario wants."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to ask for, apart from the time.

    Parameters
    ----------
    scan
        What to send, faulty or not.
    model
        Name of the model.
    priority
        ``"stat"``, ``"clinical"`` or ``"research"``.
    outputs
        Endings of output files.
    """

    scan: Scan
    model: str
    priority: str = "clinical"
    outputs: tuple[str, ...] = ()


class Wire(Protocol[Encoded]):
    """Speaks to one server, over one connection per client."""

    def connect(self, address: str, clients: Sequence[str]) -> None:
        """Open the connections; those that were open are closed."""

    def ready(self) -> bool:
        """Tell whether the server says that it can serve."""

    def encode(self, job: Job) -> Encoded:
        """Return a request as it travels, to be sent any number of times.

        Raises
        ------
        WireError
            This kind of server cannot be asked for it.
        """

    def send(self, call: Call, encoded: Encoded, client: str) -> None:
        """Make a call and see that it ends; may return before or after its end. Runs in a thread of its own."""

    def watch_health(self, report: Callable[[Health], None]) -> Iterator[None]:
        """Report the health now and whenever it changes; advances at least every second. Endless, until closed."""

    def close(self) -> None:
        """Close the connections."""
