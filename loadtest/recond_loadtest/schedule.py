"""All requests of a run, drawn from the seed before it starts: when, which, and what goes wrong with it.

Arrivals, choices and faults come from generators of their own, so that another share of faults leaves the arrivals alone. Two
targets that are driven with one schedule get the same requests at the same times.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recond_loadtest.arrivals import Arrivals, Step
from recond_loadtest.planned import MOST_REQUESTS, Fault, PlannedRequest
from recond_loadtest.request_class import Faults, RequestClass
from recond_loadtest.scenario import Scenario
from recond_loadtest.toml_reader import ScenarioError
from recond_loadtest.trace import read_trace

_ARRIVALS, _CHOICES, _FAULTS = range(3)


def draw(scenario: Scenario, peak: float | None = None) -> tuple[PlannedRequest, ...]:
    """Draw the schedule of an open run.

    Parameters
    ----------
    scenario
        What is to come.
    peak
        Peak throughput in requests/s, for relative loads.

    Returns
    -------
    tuple of PlannedRequest
        In the order in which they are due; the same for the same arguments.

    Raises
    ------
    ScenarioError
        A load is relative and no peak was given, or a trace cannot be read.
    """
    length = scenario.warm_up + scenario.duration
    planned: list[PlannedRequest] = []
    shared = [kind for kind in scenario.classes if kind.arrivals is None]
    streams = [(kind.arrivals, [kind]) for kind in scenario.classes if kind.arrivals is not None]
    if shared and scenario.arrivals is not None:
        streams.insert(0, (scenario.arrivals, shared))
    for number, (arrivals, classes) in enumerate(streams):
        planned += _draw_stream(scenario, arrivals, classes, number, length, peak)
    return tuple(sorted(planned, key=lambda request: request.at))


def draw_choices(scenario: Scenario, count: int) -> tuple[PlannedRequest, ...]:
    """Draw requests without times, for closed runs: classes by their weights, all due at 0."""
    return tuple(_choose(scenario, scenario.classes, np.zeros(count), stream=0))


def _draw_stream(
    scenario: Scenario,
    arrivals: Arrivals,
    classes: list[RequestClass],
    number: int,
    length: float,
    peak: float | None,
) -> Iterator[PlannedRequest]:
    if arrivals.process == "trace" and arrivals.trace is not None:
        rows = [row for row in read_trace(arrivals.trace) if row.at < length]
        chosen = _choose(scenario, tuple(classes), np.array([row.at for row in rows]), number)
        return (row.resolve(planned, scenario) for row, planned in zip(rows, chosen, strict=True))
    generator = np.random.default_rng([scenario.seed, _ARRIVALS, number])
    times = arrival_times(arrivals, length, generator, peak)
    return _choose(scenario, tuple(classes), times, number)


def arrival_times(
    arrivals: Arrivals, length: float, generator: np.random.Generator, peak: float | None = None
) -> NDArray[np.float64]:
    """Draw the times of a process.

    Parameters
    ----------
    arrivals
        The process, other than a trace.
    length
        Length of the schedule, seconds.
    generator
        Source of randomness.
    peak
        Peak throughput in requests/s, for relative loads.

    Returns
    -------
    ndarray
        float64, ascending, from 0 to below `length`.

    Raises
    ------
    ScenarioError
        A load is relative and no peak was given, or there are far too many requests.
    """
    if arrivals.process == "steps":
        return _step_times(arrivals.steps, length, generator, peak)
    rate = _rate(arrivals, peak)
    _check_count(rate * length)
    if arrivals.process == "constant":
        return np.arange(0, length, 1 / rate) if rate > 0 else np.empty(0)
    times = _poisson_times(rate / arrivals.burst, length, generator)
    return np.repeat(times, arrivals.burst) if arrivals.process == "bursts" else times


def _poisson_times(rate: float, length: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return the times of a Poisson process: independent exponential distances."""
    if rate <= 0:
        return np.empty(0)
    times = np.empty(0)
    while not times.size or times[-1] < length:
        more = generator.exponential(1 / rate, int(rate * length * 1.1) + 16)
        times = np.concatenate([times, (times[-1] if times.size else 0.0) + np.cumsum(more)])
    return times[times < length]


def _step_times(
    steps: tuple[Step, ...], length: float, generator: np.random.Generator, peak: float | None
) -> NDArray[np.float64]:
    pieces: list[NDArray[np.float64]] = []
    start = count = 0.0
    for step in itertools.cycle(steps):
        if start >= length:
            break
        rate = _rate(step, peak)
        count += rate * step.duration
        _check_count(count)
        pieces.append(start + _poisson_times(rate, step.duration, generator))
        start += step.duration
    times = np.concatenate(pieces)
    return times[times < length]


def _rate(of: Arrivals | Step, peak: float | None) -> float:
    if of.load is None:
        return of.rate or 0.0
    if peak is None:
        raise ScenarioError("load: it is relative to the peak, which is not known")
    return of.load * peak


def _check_count(count: float) -> None:
    if count > MOST_REQUESTS:
        raise ScenarioError(f"rate: {count:.0f} requests in a run; at most {MOST_REQUESTS} are allowed")


def _choose(
    scenario: Scenario, classes: tuple[RequestClass, ...], times: NDArray[np.float64], stream: int
) -> Iterator[PlannedRequest]:
    """Draw class, input and fault of each request."""
    choices = np.random.default_rng([scenario.seed, _CHOICES, stream])
    weights = np.array([kind.weight for kind in classes])
    numbers = choices.choice(len(classes), len(times), p=weights / weights.sum())
    inputs = choices.random(len(times))
    fates = np.random.default_rng([scenario.seed, _FAULTS, stream]).random((len(times), 2))
    for at, number, input_draw, (fate, when) in zip(times, numbers, inputs, fates, strict=True):
        kind = classes[number]
        faults = scenario.faults_of(kind)
        fault = _fault(faults, fate)
        cancel_after = float(when) * faults.cancel_within if fault == "cancel" else 0.0
        yield PlannedRequest(float(at), kind.name, int(input_draw * len(kind.inputs)), fault, cancel_after)


def _fault(faults: Faults, draw: float) -> Fault:
    options: tuple[tuple[Fault, float], ...] = (
        ("poison", faults.poison),
        ("truncate", faults.truncate),
        ("cancel", faults.cancel),
        ("slow", faults.slow),
    )
    reached = 0.0
    for fault, share in options:
        reached += share
        if draw < reached:
            return fault
    return ""
