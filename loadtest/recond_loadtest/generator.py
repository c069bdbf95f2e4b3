"""Sends the requests of a schedule at their times, whatever became of those before."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from recond_loadtest.ledger import BAD_DATA, Ledger, RequestRecord
from recond_loadtest.planned import PlannedRequest
from recond_loadtest.request_class import RequestClass
from recond_loadtest.scenario import Scenario
from recond_loadtest.wires import Call, Wire

#: Threads are made as they are needed; a request needs one while it is on its way.
_MOST_THREADS: Final = 8192
_SHORTEST_TIMEOUT: Final = 1e-3


class RunClock:
    """Seconds since the start of a run.

    Parameters
    ----------
    now
        Returns seconds that never go back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._start = now()

    def __call__(self) -> float:
        """Return the time."""
        return self._now() - self._start


class Timers:
    """Calls functions at times of the run, in one thread: cancellations, snapshots.

    Parameters
    ----------
    clock
        Time of the run.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="timers", daemon=True)
        self._thread.start()

    def at(self, when: float, action: Callable[[], object]) -> None:
        """Call a function at a time; it must be short."""
        with self._changed:
            heapq.heappush(self._heap, (when, next(self._order), action))
            self._changed.notify()

    def stop(self) -> None:
        """Drop what is still to come."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._stopped:
                    return
                wait = self._heap[0][0] - self._clock() if self._heap else None
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
                _, _, action = heapq.heappop(self._heap)
            action()


class Generator:
    """Makes the calls of one run.

    Parameters
    ----------
    scenario
        What is being run.
    wire
        Open connections to the target.
    encoded
        Requests as they travel, by (class, input, fault), those without a fault of the content under ``""``.
    frames
        Images to expect, by (class, input).
    ledger
        Where everything is written down.
    clock, timers
        Time of the run.
    """

    def __init__(
        self,
        scenario: Scenario,
        wire: Wire[Any],
        encoded: Mapping[tuple[str, int, str], Any],
        frames: Mapping[tuple[str, int], int],
        ledger: Ledger,
        clock: Callable[[], float],
        timers: Timers,
    ) -> None:
        self._kinds: dict[str, RequestClass] = {kind.name: kind for kind in scenario.classes}
        self._scenario = scenario
        self._wire = wire
        self._encoded = encoded
        self._frames = frames
        self._ledger = ledger
        self._clock = clock
        self._timers = timers
        self._pool = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="request")
        self._stop = threading.Event()

    def open_loop(self, schedule: Sequence[PlannedRequest], warm_up: float) -> None:
        """Send every request when it is due.

        Parameters
        ----------
        schedule
            In the order of the times.
        warm_up
            Requests due before it do not count.
        """
        for number, planned in enumerate(schedule):
            while (wait := planned.at - self._clock()) > 0:
                if self._stop.wait(wait):
                    return
            self._launch(number, planned, planned.at, measured=planned.at >= warm_up)

    def closed_loop(
        self, schedule: Sequence[PlannedRequest], outstanding: int, until: float, warm_up: Callable[[int, float], bool]
    ) -> None:
        """Keep a number of requests on their way: the next is due when one has ended.

        Parameters
        ----------
        schedule
            The requests; their times are not used.
        outstanding
            How many at once.
        until
            No request is sent after this time.
        warm_up
            Tells, by number and time, whether a request does not count.
        """
        for number, planned in enumerate(schedule):
            while not self._ledger.wait_below(outstanding, 0.5):
                if self._stop.is_set() or self._clock() >= until:
                    return
            now = self._clock()
            if self._stop.is_set() or now >= until:
                return
            self._launch(number, planned, now, measured=not warm_up(number, now))

    def interrupt(self) -> None:
        """Send no more."""
        self._stop.set()

    def close(self) -> None:
        """Forget the threads; those whose calls do not end are left behind."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _launch(self, number: int, planned: PlannedRequest, intended: float, *, measured: bool) -> None:
        kind = self._kinds[planned.kind]
        frames = self._frames[planned.kind, planned.input]
        record = RequestRecord(number, planned.kind, planned.fault, frames, intended, measured, kind.deadline)
        self._ledger.due(record, planned)
        self._pool.submit(self._send, record, planned, kind)

    def _send(self, record: RequestRecord, planned: PlannedRequest, kind: RequestClass) -> None:
        content = planned.fault if planned.fault in BAD_DATA else ""
        slow = self._scenario.faults_of(kind).slow_bytes_per_second if planned.fault == "slow" else None
        record.sent = now = self._clock()
        # Without a deadline the server is told none: the bound is the generator's own business.
        timeout = None if kind.deadline is None else max(record.intended + kind.deadline - now, _SHORTEST_TIMEOUT)
        call = Call(record.number, timeout, self._clock, self._ledger.ended, slow)
        self._timers.at(record.intended + (kind.deadline or 0.0) + self._scenario.generator.bound, call.abandon)
        if planned.fault == "cancel":
            self._timers.at(now + planned.cancel_after, call.cancel)
        try:
            self._wire.send(call, self._encoded[planned.kind, planned.input, content], kind.client)
        except Exception as error:  # a defect of the generator must show as an error of the request, not as silence
            if not call.ended.is_set():
                call.end("GENERATOR", message=repr(error))
            raise
