"""The frames that wait, and whose turn it is."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from recond_service.scheduling.bucket import Bucket
from recond_service.scheduling.job import FrameJob
from recond_service.types import Priority

HORIZON_SECONDS = 300.0
"""A frame without a deadline is taken to be due this long after it came, so that no stream of later ones passes it for ever."""

_Entry = tuple[float, int, int, FrameJob]  # due, number of the frame, number of this wait, frame
_Source = tuple[Priority, str]  # class, client


@dataclass(slots=True)
class _Client:
    """The frames of a client in one class: the one that is due first, goes first."""

    start: float  # virtual time from which it may be served
    live: int = 0
    entries: list[_Entry] = field(default_factory=list)
    by_bucket: dict[Bucket, list[_Entry]] = field(default_factory=dict)


class WaitingFrames:
    """The queue: classes of urgency, clients that take turns within a class, deadlines within a client.

    *Classes.* Stat before clinical before research. But a class whose frames waited `ageing_seconds` without any of them being
    served gets one turn: nobody starves, and the more urgent are held up by one batch in that time at most.

    *Clients.* Start-time fair queueing (Goyal, Vin and Cheng 1996): virtual time counts the predicted seconds of servers that a
    client was given, over its weight. A volume of 300 slices does not keep another client's single slice waiting.

    *Frames.* Earliest deadline first.

    Time is given with every call; nothing here looks at a clock.

    Parameters
    ----------
    seconds
        Predicts how long a frame is computed.
    ageing_seconds
        See above.
    weights
        Of clients by name; 1 for those that are not named.
    """

    def __init__(
        self,
        seconds: Callable[[FrameJob], float],
        ageing_seconds: float = 10.0,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self._seconds = seconds
        self._ageing_seconds = ageing_seconds
        self._weights = dict(weights or {})
        self._clients: dict[_Source, _Client] = {}
        self._virtual: dict[Priority, float] = dict.fromkeys(Priority, 0.0)
        self._passed_over_since: dict[Priority, float] = {}
        self._waits = itertools.count()
        self._members: dict[FrameJob, int] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, job: object) -> bool:
        return job in self._members

    def __iter__(self) -> Iterator[FrameJob]:
        return iter(tuple(self._members))

    def add(self, job: FrameJob, now: float) -> None:
        """Let a frame wait. `submitted` and `number` say when it came, at first: one that comes back keeps its place."""
        source = (job.priority, job.client)
        client = self._clients.get(source)
        if client is None:
            client = self._clients[source] = _Client(self._virtual[job.priority])
        if client.live == 0:
            client.start = max(client.start, self._virtual[job.priority])
        client.live += 1
        job.due = min(job.submitted + HORIZON_SECONDS, float("inf") if job.deadline is None else job.deadline)
        wait = next(self._waits)
        entry = (job.due, job.number, wait, job)
        heapq.heappush(client.entries, entry)
        heapq.heappush(client.by_bucket.setdefault(job.bucket, []), entry)
        self._members[job] = wait
        self._passed_over_since.setdefault(job.priority, now)

    def discard(self, job: FrameJob) -> None:
        """Forget a frame, if it waits."""
        if job not in self._members:
            return
        del self._members[job]
        source = (job.priority, job.client)
        client = self._clients[source]
        client.live -= 1
        if client.live == 0:
            client.entries.clear()
            client.by_bucket.clear()
            self._forget_idle(job.priority)
        elif len(client.entries) > 2 * client.live + 8:  # mostly frames that are gone
            client.entries = [entry for entry in client.entries if self._waits_still(entry)]
            heapq.heapify(client.entries)
            client.by_bucket = _grouped(client.entries)

    def _forget_idle(self, priority: Priority) -> None:
        """Drop clients that have had no more than their share, and everything if nobody waits in a class."""
        sources = [source for source in self._clients if source[0] == priority]
        waiting = any(self._clients[source].live for source in sources)
        for source in sources:
            client = self._clients[source]
            if client.live == 0 and (not waiting or client.start <= self._virtual[priority]):
                del self._clients[source]
        if not waiting:
            self._passed_over_since.pop(priority, None)

    def head(self, now: float, passing: Callable[[FrameJob], bool] = lambda job: False) -> FrameJob | None:  # noqa: ARG005
        """Return the frame whose turn it is, None if there is none. It stays.

        Parameters
        ----------
        now
            Time on the clock of the scheduler, s.
        passing
            Tells of frames that are to be passed over this time, all of their bucket with them.
        """
        for priority in self._order(now):
            sources = sorted(
                (client.start, name)
                for (its_priority, name), client in self._clients.items()
                if its_priority == priority and client.live
            )
            for _, name in sources:
                job = self._first(self._clients[priority, name], passing)
                if job is not None:
                    return job
        return None

    def _order(self, now: float) -> list[Priority]:
        """Return the classes that have frames; those that have been passed over for too long first."""
        waiting = sorted(self._passed_over_since)
        aged = [each for each in waiting if now - self._passed_over_since[each] >= self._ageing_seconds]
        if not aged:
            return waiting
        longest = min(aged, key=lambda each: self._passed_over_since[each])
        return [longest, *(each for each in waiting if each != longest)]

    def _first(self, client: _Client, passing: Callable[[FrameJob], bool]) -> FrameJob | None:
        best: _Entry | None = None
        for bucket, entries in list(client.by_bucket.items()):
            self._drop_gone(entries)
            if not entries:
                del client.by_bucket[bucket]
            elif (best is None or entries[0] < best) and not passing(entries[0][3]):
                best = entries[0]
        return None if best is None else best[3]

    def _drop_gone(self, entries: list[_Entry]) -> None:
        while entries and not self._waits_still(entries[0]):
            heapq.heappop(entries)

    def _waits_still(self, entry: _Entry) -> bool:
        return self._members.get(entry[3]) == entry[2]

    def companions(self, head: FrameJob, most: int) -> list[FrameJob]:
        """Return frames that could share the batch of `head`, in the order in which they should join; all stay.

        Frames as urgent as the head or more urgent come first; clients take turns by what they were given so far.

        Parameters
        ----------
        head
            From `head`.
        most
            How many at most.
        """
        if head.alone or most < 1:
            return []
        found: list[tuple[bool, float, float, int, FrameJob]] = []
        for (priority, _), client in self._clients.items():
            entries = client.by_bucket.get(head.bucket)
            if not entries or not client.live:
                continue
            share = 0.0
            candidates = (entry for entry in entries if self._waits_still(entry) and entry[3] is not head)
            for due, number, _, job in heapq.nsmallest(most, (entry for entry in candidates if not entry[3].alone)):
                share += 1.0
                found.append((priority > head.priority, share, due, number, job))
        found.sort()
        return [job for *_, job in found[:most]]

    def take(self, jobs: list[FrameJob], now: float) -> None:
        """Take frames out: they are being served, and their clients have had their turn."""
        for job in jobs:
            client = self._clients[job.priority, job.client]
            self._virtual[job.priority] = max(self._virtual[job.priority], client.start)
            client.start += self._seconds(job) / self._weights.get(job.client, 1.0)
            self._passed_over_since[job.priority] = now
            self.discard(job)


def _grouped(entries: list[_Entry]) -> dict[Bucket, list[_Entry]]:
    groups: dict[Bucket, list[_Entry]] = {}
    for entry in entries:
        groups.setdefault(entry[3].bucket, []).append(entry)
    for group in groups.values():
        heapq.heapify(group)
    return groups
