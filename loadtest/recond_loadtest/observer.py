"""Watches a run from the side: what the target uses and counts, its health, and the faults that are done to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from recond_loadtest import prometheus
from recond_loadtest.processes import Usage
from recond_loadtest.result import EventRecord, HealthChange, TargetUsage
from recond_loadtest.target import Target
from recond_loadtest.target_settings import Event
from recond_loadtest.wires import Health, WireError

_SAMPLE_SECONDS: Final = 1.0
_TICK_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Counters at one end of the measured time."""

    usage: Usage = field(default_factory=Usage)
    generator_cpu_seconds: float = 0.0
    metrics: prometheus.Samples = field(default_factory=dict)


class Observer:
    """Samples a target once a second, and takes a snapshot at both ends of the measured time.

    Parameters
    ----------
    target
        Target whose metrics and processes are sampled.
    clock
        Time of the run.
    on_tick
        Called a few times a second, for progress.
    """

    def __init__(self, target: Target, clock: Callable[[], float], on_tick: Callable[[], None]) -> None:
        self.events: list[EventRecord] = []
        self.health: list[HealthChange] = []
        self._target = target
        self._clock = clock
        self._on_tick = on_tick
        self._timeline: list[tuple[float, float, int]] = []
        self._before = self._after = Snapshot()
        self._stop = threading.Event()
        self._acting: list[threading.Thread] = []
        self._threads = [
            threading.Thread(target=self._sample, name="sample", daemon=True),
            threading.Thread(target=self._watch_health, name="health", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def begin(self) -> None:
        """Take the snapshot at the start of the measured time."""
        self._before = self._snapshot()

    def finish(self) -> None:
        """Take the snapshot at its end."""
        self._after = self._snapshot()

    def begin_soon(self) -> None:
        """As `begin`, without waiting for it."""
        self._act(self.begin)

    def finish_soon(self) -> None:
        """As `finish`, without waiting for it."""
        self._act(self.finish)

    def hurt_soon(self, event: Event) -> None:
        """Carry out a fault, without waiting for it."""
        self._act(lambda: self._hurt(event))

    def close(self) -> None:
        """End the threads."""
        self._stop.set()
        for thread in [*self._acting, *self._threads]:
            thread.join()

    def usage(self) -> TargetUsage:
        """Return what the target took in the measured time."""
        return TargetUsage(
            cpu_seconds=max(self._after.usage.cpu_seconds - self._before.usage.cpu_seconds, 0.0),
            rss_peak_bytes=max((rss for _, _, rss in self._timeline), default=0),
            pss_bytes=self._after.usage.pss_bytes,
            start_to_ready=self._target.start_to_ready,
            timeline=tuple(self._timeline),
        )

    def generator_cpu_seconds(self) -> float:
        """Return what this process took in the measured time."""
        return max(self._after.generator_cpu_seconds - self._before.generator_cpu_seconds, 0.0)

    def server(self) -> prometheus.ServerMetrics:
        """Return what the target counted in the measured time."""
        return prometheus.difference(self._before.metrics, self._after.metrics)

    def _act(self, action: Callable[[], None]) -> None:
        thread = threading.Thread(target=action, name="act", daemon=True)
        self._acting.append(thread)
        thread.start()

    def _snapshot(self) -> Snapshot:
        cpu = time.process_time()
        process, metrics = self._target.process, self._target.metrics
        return Snapshot(
            process.usage(shared=True) if process else Usage(), cpu, prometheus.scrape(metrics) if metrics else {}
        )

    def _hurt(self, event: Event) -> None:
        process, at = self._target.process, self._clock()
        try:
            if process is None:
                raise WireError(f"{event.action}: the target was not started by this run")
            pid = process.restart() if event.action == "restart" else process.hurt(event.action, event.process)
            self.events.append(EventRecord(at, event.action, event.process, pid))
        except (WireError, OSError) as error:
            self.events.append(EventRecord(at, event.action, event.process, 0, str(error)))

    def _sample(self) -> None:
        last_at, last_cpu, due = self._clock(), None, 0.0
        while not self._stop.wait(_TICK_SECONDS):
            self._on_tick()
            now = self._clock()
            if self._target.process is None or now < due:
                continue
            usage = self._target.process.usage()
            if last_cpu is not None and now > last_at:
                self._timeline.append((now, max(usage.cpu_seconds - last_cpu, 0.0) / (now - last_at), usage.rss_bytes))
            last_at, last_cpu, due = now, usage.cpu_seconds, now + _SAMPLE_SECONDS

    def _watch_health(self) -> None:
        def report(state: Health) -> None:
            if not self.health or self.health[-1].state != state:
                self.health.append(HealthChange(self._clock(), state))

        for _ in self._target.wire.watch_health(report):
            if self._stop.wait(0.05):
                return
