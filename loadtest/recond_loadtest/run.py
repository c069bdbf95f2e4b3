"""Runs a scenario against a target."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from recond_loadtest.arrivals import Arrivals
from recond_loadtest.generator_process import undisturbed
from recond_loadtest.inputs import Inputs, prepare_inputs
from recond_loadtest.phase import ClosedPlan, Expected, Load, OpenPlan, Progress, Status, measure, prepare
from recond_loadtest.planned import PlannedRequest
from recond_loadtest.request_class import Faults
from recond_loadtest.result import Probe, RunResult
from recond_loadtest.scenario import Scenario
from recond_loadtest.schedule import draw, draw_choices
from recond_loadtest.statistics import latencies, latency_of, samples_needed
from recond_loadtest.target import Target, open_target
from recond_loadtest.target_settings import OWN_SERVICE
from recond_loadtest.wires import WireError

#: Requests per second that are drawn in advance for a closed loop with a time limit: more than any reconstruction can end.
_CLOSED_RATE: Final = 1000
_FIRST_PROBE: Final = 0.75
_LONGEST_PROBE: Final = 4.0


def run(
    scenario: Scenario,
    target: Target | None = None,
    *,
    inputs: Inputs | None = None,
    expected: Expected | None = None,
    peak: float | None = None,
    schedule: Sequence[PlannedRequest] | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Run a scenario.

    Parameters
    ----------
    scenario
        What to do.
    target
        What to drive, from `open_target`; left open. None for the target of the scenario, or for a service of this installation
        if it has none.
    inputs
        From `prepare_inputs`, to make them once for several runs.
    expected
        Images to compare with, by (class, input): those of `Load.expected` of any target. None takes those of this one.
    peak
        Peak throughput in requests/s for relative loads: several targets get one schedule only if they share it. None measures it.
    schedule
        Drives an open run in place of what would be drawn.
    progress
        Told how far the run is.

    Returns
    -------
    RunResult
        Of the whole run; in mode ``"server"`` of the highest rate that passed, or of the last that was tried if none did.

    Raises
    ------
    ScenarioError
        The scenario cannot be carried out.
    WireError
        The target is not there, or refuses an input.
    """
    tell = progress or (lambda _: None)
    if inputs is None:
        tell(Status("simulating the inputs"))
        inputs = prepare_inputs(scenario)
    if target is None:
        tell(Status("waiting for the target"))
        with open_target(scenario.target or OWN_SERVICE, scenario.clients) as opened:
            return run(
                scenario, opened, inputs=inputs, expected=expected, peak=peak, schedule=schedule, progress=progress
            )
    with undisturbed(scenario.generator):
        tell(Status("reconstructing every input once"))
        load = prepare(scenario, target, inputs, expected)
        match scenario.mode:
            case "single-stream":
                return _single_stream(load, tell)
            case "offline":
                return _offline(load, tell)
            case "server":
                return _search(load, peak or measure_peak(load, tell), tell)
            case "open":
                if peak is None and schedule is None and scenario.relative:
                    peak = measure_peak(load, tell)
                drawn = draw(scenario, peak) if schedule is None else schedule
                result = measure(load, OpenPlan(drawn, scenario.warm_up, scenario.duration), tell, scenario.name)
                return dataclasses.replace(result, peak=peak)


def measure_peak(load: Load, progress: Progress) -> float:
    """Return the peak throughput in requests/s: of successful requests without faults, with `Peak.outstanding` on their way.

    Raises
    ------
    WireError
        No request succeeded.
    """
    result = _offline(_without_faults(load), progress)
    peak = result.rates().throughput
    if peak <= 0:
        errors = ", ".join(f"{status} {reason}" for status, reason in result.outcomes().errors)
        raise WireError(f"no request of the offline phase succeeded: {errors or 'none ended'}")
    return peak


def _without_faults(load: Load) -> Load:
    scenario = load.scenario
    classes = tuple(dataclasses.replace(kind, faults=Faults(), deadline=None) for kind in scenario.classes)
    return dataclasses.replace(load, scenario=dataclasses.replace(scenario, classes=classes, events=()))


def _single_stream(load: Load, progress: Progress) -> RunResult:
    """One request at a time; the warm-up is as many requests as fit into it."""
    scenario = load.scenario
    choices = draw_choices(scenario, int(_CLOSED_RATE * (scenario.warm_up + scenario.duration)) + 1)
    warm = 0
    if scenario.warm_up > 0:
        plan = ClosedPlan(choices, 1, 0, scenario.warm_up)
        warm = len(measure(_without_faults(load), plan, progress, "warm-up").records)
    return measure(load, ClosedPlan(choices[warm:], 1, 0, scenario.duration), progress, "single stream")


def _offline(load: Load, progress: Progress) -> RunResult:
    peak = load.scenario.peak
    plan = ClosedPlan(draw_choices(load.scenario, peak.warm_up + peak.requests), peak.outstanding, peak.warm_up)
    result = measure(load, plan, progress, "offline")
    return dataclasses.replace(result, peak=result.rates().throughput)


def _search(load: Load, peak: float, progress: Progress) -> RunResult:
    """Bisect for the highest Poisson rate that holds the limit; the offline peak is where it starts."""
    scenario, search = load.scenario, load.scenario.search
    low, high = 0.0, peak
    probes: list[Probe] = []
    best: RunResult | None = None
    result: RunResult | None = None
    while len(probes) < search.probes and (not probes or high - low > search.resolution * high):
        rate = _FIRST_PROBE * peak if not probes else (low + high) / 2
        needed = 1.1 * samples_needed(search.quantile) / rate
        duration = max(scenario.duration, min(needed, _LONGEST_PROBE * scenario.duration))
        at_rate = dataclasses.replace(
            scenario,
            classes=tuple(dataclasses.replace(kind, arrivals=None) for kind in scenario.classes),
            arrivals=Arrivals(rate=rate),
            duration=duration,
        )
        plan = OpenPlan(draw(at_rate), scenario.warm_up, duration)
        result = measure(
            dataclasses.replace(load, scenario=at_rate),
            plan,
            progress,
            f"probe {len(probes) + 1}: {rate:.1f} requests/s",
        )
        probe = _judged(result, rate, search.quantile, search.limit)
        probes.append(probe)
        if probe.passed:
            low, best = rate, result
        else:
            high = rate
    found = best or result
    if found is None:
        raise WireError("the search made no probe")
    void = found.void if best is not None else (*found.void, "no rate that was tried held the limit")
    return dataclasses.replace(found, scenario=scenario.to_json(), peak=peak, probes=tuple(probes), void=void)


def _judged(result: RunResult, rate: float, quantile: float, limit: float) -> Probe:
    times = latencies(result.records)
    outcomes = result.outcomes()
    value = latency_of(times).quantile(quantile)
    errors = outcomes.innocent_failures + outcomes.wrong
    passed = value is not None and value <= limit and not errors and not result.void
    void = "; ".join(result.void)
    if value is None and not errors:
        void = void or f"{len(times)} samples are too few for p{100 * quantile:g}"
    return Probe(rate, value, outcomes.requests, errors, passed, void)
