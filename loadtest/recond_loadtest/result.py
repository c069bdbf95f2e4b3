"""What a run gave, and its JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from recond_loadtest.ledger import RequestRecord
from recond_loadtest.prometheus import ServerMetrics
from recond_loadtest.statistics import (
    Latency,
    Outcomes,
    Rates,
    latencies,
    latency_of,
    outcomes_of,
    rates_of,
)

SCHEMA: Final = "recond-loadtest/1"

_COLUMNS: Final = tuple(one.name for one in dataclasses.fields(RequestRecord))


class ResultError(ValueError):
    """A file is no result of a load test, or of another version."""


@dataclass(frozen=True, slots=True)
class EventRecord:
    """A fault of the target that was carried out.

    Parameters
    ----------
    at
        Seconds after the start of the run.
    action, process
        As in the scenario.
    pid
        Of the process that it hit; 0 if it failed.
    error
        Why it failed, or empty.
    """

    at: float
    action: str
    process: str
    pid: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class HealthChange:
    """The health of the target changed.

    Parameters
    ----------
    at
        Seconds after the start of the run.
    state
        ``"serving"``, ``"not-serving"`` or ``"unreachable"``.
    """

    at: float
    state: str


@dataclass(frozen=True, slots=True)
class Probe:
    """One rate that the search for the highest one has tried.

    Parameters
    ----------
    rate
        Requests/s.
    latency
        The quantile of the search, seconds; None if the samples were too few.
    requests, errors
        How many, and how many of them did not succeed.
    passed
        The latency was under the limit, and nothing failed.
    void
        Why the probe does not count; empty if it does.
    """

    rate: float
    latency: float | None
    requests: int
    errors: int
    passed: bool
    void: str = ""


@dataclass(frozen=True, slots=True)
class TargetUsage:
    """What the target took; zeros if it was not started by the run.

    Parameters
    ----------
    cpu_seconds
        In the measured time.
    rss_peak_bytes
        Largest resident memory of its tree, summed over processes.
    pss_bytes
        Proportional memory at the end of the measured time.
    start_to_ready
        Seconds, None if it ran before.
    timeline
        (time, cores in use, resident bytes), about every second.
    """

    cpu_seconds: float = 0.0
    rss_peak_bytes: int = 0
    pss_bytes: int = 0
    start_to_ready: float | None = None
    timeline: tuple[tuple[float, float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class SendLag:
    """How late requests were sent, seconds.

    Parameters
    ----------
    median, p99, largest
        Over the measured requests.
    bound
        What the 99th percentile may be.
    """

    median: float
    p99: float
    largest: float
    bound: float

    @property
    def void(self) -> bool:
        """The load was not what it should have been."""
        return self.p99 > self.bound


@dataclass(frozen=True, slots=True)
class Recovery:
    """How a fault of the target was overcome; seconds after it, None for never.

    Parameters
    ----------
    event
        The fault.
    first_success
        End of the first successful request that was sent after it.
    unhealthy, healthy
        When the health turned away from serving, and back.
    """

    event: EventRecord
    first_success: float | None
    unhealthy: float | None
    healthy: float | None


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run.

    Parameters
    ----------
    scenario
        As read, with every setting.
    target
        What was driven.
    started
        ISO 8601, UTC.
    machine
        On what.
    window
        Start and end of the measured time, seconds of the run.
    records
        All requests, also those of the warm-up.
    lag
        How late they were sent.
    generator_cpu_seconds
        What the generator took in the measured time.
    usage
        What the target took in it.
    server
        What the target counted in it.
    events, health
        On the time of the run.
    peak
        Requests/s that the offline phase before the run found, None if there was none.
    probes
        Of the search for the highest rate.
    void
        Why the run does not count; empty if it does.
    """

    scenario: dict[str, Any]
    target: dict[str, Any]
    started: str
    machine: dict[str, Any]
    window: tuple[float, float]
    records: tuple[RequestRecord, ...]
    lag: SendLag
    generator_cpu_seconds: float
    usage: TargetUsage = field(default_factory=TargetUsage)
    server: ServerMetrics = field(default_factory=ServerMetrics)
    events: tuple[EventRecord, ...] = ()
    health: tuple[HealthChange, ...] = ()
    peak: float | None = None
    probes: tuple[Probe, ...] = ()
    void: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Length of the measured time."""
        return self.window[1] - self.window[0]

    @property
    def kinds(self) -> list[str]:
        """Names of the classes that had requests, in the order of the scenario."""
        there = {record.kind for record in self.records}
        return [kind["name"] for kind in self.scenario["classes"] if kind["name"] in there]

    @property
    def measured(self) -> list[RequestRecord]:
        """Requests that count."""
        return [record for record in self.records if record.measured]

    def latency(self, kind: str | None = None) -> Latency:
        """Return the latencies of the successful requests, of one class or of all."""
        return latency_of(latencies(one for one in self.records if kind in {None, one.kind}))

    def outcomes(self, kind: str | None = None) -> Outcomes:
        """Return what became of the measured requests, of one class or of all."""
        return outcomes_of(one for one in self.measured if kind in {None, one.kind})

    def rates(self, kind: str | None = None) -> Rates:
        """Return the rates of the measured time, of one class or of all."""
        return rates_of((one for one in self.records if kind in {None, one.kind}), self.window)

    @property
    def cpu_per_request(self) -> float | None:
        """CPU seconds of the target per successful request, None if they are not known."""
        ended = self.rates().throughput * self.seconds
        return self.usage.cpu_seconds / ended if ended and self.usage.cpu_seconds else None

    def recoveries(self) -> list[Recovery]:
        """Return how each fault of the target was overcome."""
        found = []
        for event in self.events:
            ends = [
                record.end
                for record in self.records
                if record.outcome == "ok"
                and not record.fault
                and (record.sent or 0) > event.at
                and record.end is not None
            ]
            later = [change for change in self.health if change.at >= event.at]
            bad = next((change.at for change in later if change.state != "serving"), None)
            good = next(
                (change.at for change in later if bad is not None and change.at > bad and change.state == "serving"),
                None,
            )
            found.append(
                Recovery(
                    event,
                    min(ends) - event.at if ends else None,
                    None if bad is None else bad - event.at,
                    None if good is None else good - event.at,
                )
            )
        return found

    @property
    def failed(self) -> bool:
        """The run does not count, or requests were lost or answered with wrong images."""
        outcomes = self.outcomes()
        return bool(self.void) or outcomes.lost > 0 or outcomes.wrong > 0

    def to_json(self) -> dict[str, Any]:
        """Return plain values: `from_json` restores all but `summary`, which repeats what follows from the rest."""
        values = {name.name: getattr(self, name.name) for name in dataclasses.fields(self)}
        columns = {name: [getattr(record, name) for record in self.records] for name in _COLUMNS}
        return {
            "schema": SCHEMA,
            "summary": self._summary(),
            **values,
            "window": list(self.window),
            "records": columns,
            "lag": dataclasses.asdict(self.lag),
            "usage": dataclasses.asdict(self.usage) | {"timeline": [list(point) for point in self.usage.timeline]},
            "server": self.server.to_json(),
            "events": [dataclasses.asdict(event) for event in self.events],
            "health": [dataclasses.asdict(change) for change in self.health],
            "probes": [dataclasses.asdict(probe) for probe in self.probes],
            "void": list(self.void),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunResult:
        """Return what `to_json` described.

        Raises
        ------
        ResultError
            It is something else.
        """
        if data.get("schema") != SCHEMA:
            raise ResultError(f"schema {data.get('schema')!r}; this version reads {SCHEMA!r}")
        try:
            rows = zip(*(data["records"][name] for name in _COLUMNS), strict=True)
            usage = dict(data["usage"])
            usage["timeline"] = tuple((at, cores, rss) for at, cores, rss in usage["timeline"])
            start, end = data["window"]
            return cls(
                scenario=data["scenario"],
                target=data["target"],
                started=data["started"],
                machine=data["machine"],
                window=(start, end),
                records=tuple(RequestRecord(*row) for row in rows),
                lag=SendLag(**data["lag"]),
                generator_cpu_seconds=data["generator_cpu_seconds"],
                usage=TargetUsage(**usage),
                server=ServerMetrics.from_json(data["server"]),
                events=tuple(EventRecord(**event) for event in data["events"]),
                health=tuple(HealthChange(**change) for change in data["health"]),
                peak=data["peak"],
                probes=tuple(Probe(**probe) for probe in data["probes"]),
                void=tuple(data["void"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ResultError(f"not a whole result: {error!r}") from error

    def save(self, path: Path) -> None:
        """Write the JSON."""
        path.write_text(json.dumps(self.to_json()) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> RunResult:
        """Read the JSON.

        Raises
        ------
        ResultError
            The file is something else, or cannot be read.
        """
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError) as error:
            raise ResultError(f"{path}: not a result of a load test: {error}") from error

    def _summary(self) -> dict[str, Any]:
        return {
            "all": self._figures(None),
            "classes": {kind: self._figures(kind) for kind in self.kinds},
            "mean_batch": self.server.mean_batch,
            "cpu_seconds_per_request": self.cpu_per_request,
            "recoveries": [
                {"first_success": one.first_success, "unhealthy": one.unhealthy, "healthy": one.healthy}
                for one in self.recoveries()
            ],
        }

    def _figures(self, kind: str | None) -> dict[str, Any]:
        latency, outcomes = self.latency(kind), dataclasses.asdict(self.outcomes(kind))
        outcomes["errors"] = [
            {"status": status, "reason": reason, "count": count}
            for (status, reason), count in outcomes["errors"].items()
        ]
        return {
            "rates": dataclasses.asdict(self.rates(kind)),
            "outcomes": outcomes,
            "latency": {
                "count": latency.count,
                "mean": latency.mean,
                "max": latency.largest,
                **{f"p{100 * quantile:g}": value for quantile, value in latency.quantiles.items()},
                "hdr": latency.encoded,
            },
        }


def send_lag(records: list[RequestRecord], lag_seconds: float, lag_share: float) -> SendLag:
    """Return how late requests were sent, and what the bound is by the median of the latencies.

    Parameters
    ----------
    records
        The measured requests.
    lag_seconds, lag_share
        As in `GeneratorSettings`.
    """
    lags = np.array([record.sent - record.intended for record in records if record.sent is not None])
    times = latencies(records)
    bound = max(lag_seconds, lag_share * float(np.median(times)) if times else 0.0)
    if not lags.size:
        return SendLag(0.0, 0.0, 0.0, bound)
    median, p99 = np.percentile(lags, [50, 99])
    return SendLag(float(median), float(p99), float(lags.max()), bound)
