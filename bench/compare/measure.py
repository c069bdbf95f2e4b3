"""One contestant after another through the same phases."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from contestants import Contestant

from recond_loadtest import RunResult, Scenario, WireError, open_target, run
from recond_loadtest.inputs import Inputs
from recond_loadtest.scenario import Arrivals, Peak

_TUNING_REQUESTS = 120


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of one contestant in one round.

    Parameters
    ----------
    single, mixed
        Frames per second offline: one shape, four shapes.
    errors
        Part of the requests of the mixed phases that failed.
    p50, p90, p99
        Seconds from the intended time in the open phase; None where the samples are too few.
    cpu
        CPU seconds of the whole process tree for a frame, mixed offline.
    wrong
        Wrong images.
    rss_bytes
        Largest resident memory of the tree.
    start_to_ready
        Seconds.
    busy
        Part of the time of the first phase that the model server computed, where the server has a metric for it.
    """

    single: float
    mixed: float
    errors: float
    p50: float | None
    p90: float | None
    p99: float | None
    cpu: float
    wrong: int
    rss_bytes: int
    start_to_ready: float
    void: list[str]
    busy: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)


def offline(contestant: Contestant, scenario: Scenario, inputs: Inputs) -> RunResult:
    """Run an offline phase on a server that is started for it."""
    with open_target(contestant.settings, scenario.clients) as target:
        return run(scenario, target, inputs=inputs)


def measure_rate(contestant: Contestant, scenario: Scenario, inputs: Inputs) -> float:
    """Return successful requests per second offline."""
    return offline(contestant, scenario, inputs).rates().throughput


def tune(variants: list[Contestant], scenario: Scenario, inputs: Inputs) -> dict[str, float]:
    """Return frames per second of every variant on mixed shapes."""
    short = dataclasses.replace(scenario, peak=dataclasses.replace(scenario.peak, requests=_TUNING_REQUESTS))
    found = {}
    for each in variants:
        found[each.name] = measure_rate(each, short, inputs)
        print(f"  {each.name}: {found[each.name]:.2f} frames/s", flush=True)
    return found


def measure_round(
    order: list[Contestant], single: Scenario, mixed: Scenario, inputs: Inputs, rate: float, seconds: float
) -> dict[str, Measured]:
    """Measure everyone once.

    Parameters
    ----------
    order
        Who, in which order.
    single, mixed
        Offline scenarios.
    inputs
        Of both.
    rate
        Requests per second of the open phase.
    seconds
        How long that is.
    """
    opened = dataclasses.replace(
        mixed, mode="open", arrivals=Arrivals(rate=rate), duration=seconds, warm_up=3.0, peak=Peak()
    )
    results = {}
    for each in order:
        try:
            results[each.name] = _measure(each, single, mixed, opened, inputs)
        except WireError as error:
            print(f"  {each.name}: {error}", flush=True)
            continue
        found = results[each.name]
        p90 = "-" if found.p90 is None else f"{1000 * found.p90:.0f} ms"
        print(
            f"  {each.name}: one shape {found.single:.2f}, four {found.mixed:.2f} frames/s, errors {found.errors:.1%}, p90 {p90}, "
            f"CPU {1000 * found.cpu:.0f} ms",
            flush=True,
        )
    return results


def _measure(each: Contestant, single: Scenario, mixed: Scenario, opened: Scenario, inputs: Inputs) -> Measured:
    with open_target(each.settings, mixed.clients) as target:
        one = run(single, target, inputs=inputs)
        four = run(mixed, target, inputs=inputs)
        late = run(opened, target, inputs=inputs)
        outcomes = [four.outcomes(), late.outcomes()]
        latency = late.latency()
        return Measured(
            single=one.rates().frames,
            mixed=four.rates().frames,
            errors=sum(each.innocent_failures for each in outcomes) / max(sum(each.requests for each in outcomes), 1),
            p50=latency.quantile(0.5),
            p90=latency.quantile(0.9),
            p99=latency.quantile(0.99),
            cpu=four.cpu_per_request or 0.0,
            wrong=sum(each.wrong for each in outcomes),
            rss_bytes=four.usage.rss_peak_bytes,
            start_to_ready=target.start_to_ready or 0.0,
            void=list(late.void),
            busy=_busy(one),
        )


def _busy(result: RunResult) -> float | None:
    """Return the part of the measured time that recond's model servers computed."""
    found = [
        each["sum"]
        for each in result.to_json()["server"]["histograms"]
        if each["name"] == "recond_batch_compute_seconds"
    ]
    return sum(found) / result.seconds if found else None
