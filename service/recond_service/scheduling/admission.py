"""Decides, before a byte is uploaded, whether a request may come in."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from recond_service.backends import Work
from recond_service.types import DeadlineExceededError, LimitExceededError, OverloadedError, Priority, UnavailableError

_KEPT_FREE = {Priority.STAT: 0.0, Priority.CLINICAL: 0.1, Priority.RESEARCH: 0.2}
"""Part of the slots and bytes that requests of a class leave to more urgent ones."""

_SHORTEST_WAIT, _LONGEST_WAIT = 0.5, 60.0
_SMOOTHING = 0.2
_CAUTION = 4.0
_HALF_LIFE = 10.0
_PROBE_SECONDS = 10.0
_IDLE_SECONDS = 20.0  # a stream that is silent for longer gives its place to a request that would find none


@dataclass(frozen=True, slots=True)
class Demand:
    """What a request is going to need, as far as its spec tells.

    Parameters
    ----------
    size_bytes
        Memory for upload and frames.
    seconds
        Predicted seconds of one model server, 0 if there is no telling.
    priority
        How urgent it is.
    client
        Name of the client, for fairness between clients.
    deadline
        Time on the clock of the admission after which nobody wants the images, or None.
    work
        What a model server must be there for to compute it; None if it needs none.
    """

    size_bytes: int
    seconds: float = 0.0
    priority: Priority = Priority.CLINICAL
    client: str = ""
    deadline: float | None = None
    work: Work | None = "reconstruction"


class Ticket:
    """Leave to hold some bytes and to use some seconds. A context manager: leaving it gives them back.

    Parameters
    ----------
    admission
        Where they are counted.
    demand
        What was asked for.

    Attributes
    ----------
    held
        Bytes that the request holds now.
    seconds
        Predicted seconds of work that are left.
    idle_since
        Since when the request has been waiting for its client with nothing else to do, None while it has something.
    evicted
        Set when another request has got the place of this one, which was idle.
    """

    def __init__(self, admission: Admission, demand: Demand) -> None:
        self._admission = admission
        self.demand = demand
        self.held = 0
        self.seconds = demand.seconds
        self.idle_since: float | None = None
        self.evicted = asyncio.Event()

    @contextlib.contextmanager
    def waiting_for_client(self) -> Iterator[None]:
        """Wait for the client in this context: after a while a request that comes when all places are taken gets this one."""
        self.idle_since = self._admission.clock()
        try:
            yield
        finally:
            self.idle_since = None

    def hold(self, size: int) -> None:
        """Hold `size` bytes more (or fewer, if negative). Never refused: what is in has to be able to finish."""
        self.held += size
        self._admission.bytes_held += size

    def expect(self, seconds: float) -> None:
        """Correct the prediction of the work that is left."""
        self.seconds = max(seconds, 0.0)

    def worked(self, seconds: float) -> None:
        """Take note that some of the predicted work is done."""
        self.seconds = max(self.seconds - seconds, 0.0)

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, *exception: object) -> None:
        self.hold(-self.held)
        self._admission.leave(self)


class Admission:
    """Counts requests, bytes and predicted seconds of work in flight, and refuses what would go over or come too late.

    Parameters
    ----------
    max_requests
        Most requests at once.
    max_bytes
        Most bytes of uploads and frames, all requests together.
    max_seconds
        A request that is predicted to end later than this from now is told to come back, unless it would be the only one.
    capacity
        Returns how many batches the model servers compute at once, 0 while there is none.
    patience
        For this many seconds without a model server requests are still let in: one is probably being started again.
    clock
        Seconds, monotonic.
    head_capacity
        As `capacity`, for blocks of slices that heads run on; None where the same servers do both.

    Attributes
    ----------
    bytes_held
        Bytes in flight.
    admitted
        Requests that were ever let in.
    draining
        No more are let in.
    """

    def __init__(
        self,
        max_requests: int,
        max_bytes: int,
        max_seconds: float,
        capacity: Callable[[], int],
        clock: Callable[[], float],
        patience: float = 10.0,
        head_capacity: Callable[[], int] | None = None,
    ) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._capacities: dict[Work, Callable[[], int]] = {
            "reconstruction": capacity,
            "heads": head_capacity or capacity,
        }
        self.clock = clock
        self._patience = patience
        self._tickets: set[Ticket] = set()
        self._left = asyncio.Event()
        # Seconds, and when they were learnt.
        self._overheads: dict[tuple[int, Priority], tuple[float, float]] = {}
        self._probed_at = -math.inf
        self._down_since: dict[Work, float] = {}
        self.bytes_held = 0
        self.admitted = 0
        self.draining = False

    @property
    def requests(self) -> int:
        """Requests that are in."""
        return len(self._tickets)

    @property
    def seconds(self) -> float:
        """Predicted seconds of work that all requests together have left."""
        return sum(ticket.seconds for ticket in self._tickets)

    def admit(self, demand: Demand) -> Ticket:
        """Let a request in.

        Raises
        ------
        UnavailableError
            While draining, or if there has been no model server for a while.
        LimitExceededError
            If it would not fit into an empty service.
        OverloadedError
            If it does not fit now; `retry_after` says when to come back.
        DeadlineExceededError
            If its images cannot be ready in time.
        """
        now = self.clock()
        self._check_open(demand.work, now)
        self._check_room(demand)
        self._check_time(demand, now)
        ticket = Ticket(self, demand)
        self._tickets.add(ticket)
        self.admitted += 1
        ticket.hold(demand.size_bytes)
        return ticket

    def _check_open(self, work: Work | None, now: float) -> None:
        if self.draining:
            raise UnavailableError(
                "this service is shutting down; try another one, or this one again later",
                reason="DRAINING",
                retry_after=5.0,
            )
        if work is None:
            return
        if self._capacities[work]() > 0:
            self._down_since.pop(work, None)
            return
        down = now - self._down_since.setdefault(work, now)
        if down >= self._patience:
            raise UnavailableError(
                f"no model server for {work} has been up for {down:.0f} s; try another service, or this one later",
                reason="NO_WORKER",
                retry_after=5.0,
            )

    def _check_room(self, demand: Demand) -> None:
        size = demand.size_bytes
        if size > self._max_bytes:
            raise LimitExceededError(
                f"the request needs {size} bytes in memory; all requests together may have {self._max_bytes}",
                reason="TOO_LARGE",
                field="spec.parts",
            )
        if not self._tickets:
            return
        kept = _KEPT_FREE[demand.priority]
        slots = self._max_requests - math.floor(self._max_requests * kept)
        room = self._max_bytes - math.floor(self._max_bytes * kept)
        if len(self._tickets) >= slots:
            self._evict_idle()
        full = len(self._tickets) >= slots
        if full or self.bytes_held + size > room:
            what = f"{len(self._tickets)} of {slots} requests" if full else f"{self.bytes_held} of {room} bytes"
            wait = self._seconds_until(len(self._tickets) - slots + 1 if full else 0, self.bytes_held + size - room)
            self._refuse(f"the service is full ({what} in flight)", wait)

    def _evict_idle(self) -> None:
        """Take its place from the request that has been idle longest, if it has been for a while."""
        end = self.clock() - _IDLE_SECONDS
        idle = [ticket for ticket in self._tickets if ticket.idle_since is not None and ticket.idle_since <= end]
        if idle:
            longest = min(idle, key=lambda ticket: ticket.idle_since or 0.0)
            self._tickets.discard(longest)
            longest.evicted.set()

    def _check_time(self, demand: Demand, now: float) -> None:
        ends_in = self.predict(demand)
        if demand.deadline is not None and now + ends_in > demand.deadline and not self._probes(now):
            raise DeadlineExceededError(
                f"the images would take about {ends_in:.1f} s, of which {self._work(demand):.1f} s are computing for this and more "
                f"urgent requests, and the deadline is in {max(demand.deadline - now, 0.0):.1f} s; allow more time, send less, or "
                "come back later",
                reason="DEADLINE_UNREACHABLE",
            )
        if self._tickets and ends_in > self._max_seconds:
            self._refuse(f"there is work for {ends_in:.0f} s before and with this request", ends_in - self._max_seconds)

    def _probes(self, now: float) -> bool:
        """Let a request that seems hopeless try all the same, once in a while, when there is nothing else to do.

        Predictions come from requests that were let in: if they have become too high, only such a one can put them right.
        """
        if self._tickets or now - self._probed_at < _PROBE_SECONDS:
            return False
        self._probed_at = now
        return True

    @staticmethod
    def _refuse(what: str, wait: float) -> None:
        wait = min(max(wait, _SHORTEST_WAIT), _LONGEST_WAIT)
        raise OverloadedError(f"{what}; try again in {wait:.1f} s", reason="OVERLOADED", retry_after=wait)

    def predict(self, demand: Demand) -> float:
        """Predict in how many seconds a request that came in now would end."""
        return self._work(demand) + (self._overhead(demand) if demand.seconds else 0.0)

    def _work(self, demand: Demand) -> float:
        """Predict in how many seconds all is computed that comes before the end of a request.

        More urgent work goes first. Within the class clients take turns: until this client has had what it needs, each other gets
        no more than that, and no more than it has.
        """
        before = sum(ticket.seconds for ticket in self._tickets if ticket.demand.priority < demand.priority)
        mine, others = demand.seconds, dict[str, float]()
        for ticket in self._tickets:
            if ticket.demand.priority != demand.priority:
                continue
            if ticket.demand.client == demand.client:
                mine += ticket.seconds
            else:
                others[ticket.demand.client] = others.get(ticket.demand.client, 0.0) + ticket.seconds
        fair = sum(min(theirs, mine) for theirs in others.values())
        return (before + mine + fair) / max(self._capacities["reconstruction"](), 1)

    def _overhead(self, demand: Demand) -> float:
        """Return what is known of requests of that class and size, to a factor of two; what was learnt long ago counts for less."""
        seconds, learnt = self._overheads.get(_kind(demand), (0.0, -math.inf))
        return float(seconds * 0.5 ** ((self.clock() - learnt) / _HALF_LIFE))

    def _seconds_until(self, requests: int, size: int) -> float:
        """Predict when so many requests have left and so many bytes are free, if the smallest leave first."""
        elapsed, free_bytes = 0.0, 0
        for left, ticket in enumerate(_smallest_first(self._tickets)):
            if left >= requests and free_bytes >= size:
                break
            elapsed += ticket.seconds / max(self._capacities["reconstruction"](), 1)
            free_bytes += ticket.held
        return elapsed

    def ended(self, demand: Demand, overhead_seconds: float) -> None:
        """Learn how long a request took beside its upload, waiting and computing: reading, conditioning, writing.

        Requests of like size and class are kept together, and quick ones count for more: nobody is refused for what may be chance.
        """
        known = self._overhead(demand) or overhead_seconds
        weight = _SMOOTHING if overhead_seconds < known else _SMOOTHING / _CAUTION
        learnt = max(known + weight * (overhead_seconds - known), 0.0)
        self._overheads[_kind(demand)] = (learnt, self.clock())

    def leave(self, ticket: Ticket) -> None:
        """Forget a ticket."""
        self._tickets.discard(ticket)
        self._left.set()

    async def wait_for_empty(self, seconds: float) -> bool:
        """Wait until no request is in, or the time is up; tell which."""
        try:
            async with asyncio.timeout(seconds):
                while self._tickets:
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            return False
        return True


def _kind(demand: Demand) -> tuple[int, Priority]:
    return demand.size_bytes.bit_length(), demand.priority


def _smallest_first(tickets: Iterable[Ticket]) -> list[Ticket]:
    return sorted(tickets, key=lambda ticket: ticket.seconds)
