"""One stretch of load on a target, from the first request to the last end."""

from __future__ import annotations

import dataclasses
import datetime
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from recond_loadtest.generator import Generator, RunClock, Timers
from recond_loadtest.inputs import Inputs, faulty
from recond_loadtest.ledger import Images, Ledger
from recond_loadtest.machine import describe_machine
from recond_loadtest.observer import Observer
from recond_loadtest.planned import PlannedRequest
from recond_loadtest.request_class import RequestClass
from recond_loadtest.result import EventRecord, RunResult, SendLag, send_lag
from recond_loadtest.scenario import Scenario
from recond_loadtest.target import Target
from recond_loadtest.wires import Call, End, Job, WireError

_PATIENCE_SECONDS: Final = 5.0

Expected = Mapping[tuple[str, int], Images]


@dataclass(frozen=True, slots=True)
class Status:
    """How far a run is.

    Parameters
    ----------
    phase
        What is being done.
    elapsed, length
        Seconds; the length is 0 where it is not known.
    due, outstanding, failed
        Requests so far, those on their way, and those without a fault that did not succeed.
    """

    phase: str
    elapsed: float = 0.0
    length: float = 0.0
    due: int = 0
    outstanding: int = 0
    failed: int = 0


Progress = Callable[[Status], None]


@dataclass(frozen=True, slots=True)
class OpenPlan:
    """Requests at their times.

    Parameters
    ----------
    schedule
        Requests with their intended times.
    warm_up
        Seconds at the start that do not count.
    duration
        Seconds after them that do.
    """

    schedule: Sequence[PlannedRequest]
    warm_up: float
    duration: float


@dataclass(frozen=True, slots=True)
class ClosedPlan:
    """Requests one after another.

    Parameters
    ----------
    schedule
        The requests; their times are not used.
    outstanding
        How many are on their way at once.
    warm_up
        Requests at the start that do not count.
    duration
        No request is sent after this many seconds.
    """

    schedule: Sequence[PlannedRequest]
    outstanding: int
    warm_up: int
    duration: float = float("inf")


@dataclass(frozen=True, slots=True)
class Load:
    """A scenario that is ready to be sent to a target.

    Parameters
    ----------
    scenario, target
        Which.
    encoded
        Requests as they travel, by (class, input, fault of the content).
    frames
        Images to expect, by (class, input).
    expected
        The images, by (class, input).
    """

    scenario: Scenario
    target: Target
    encoded: Mapping[tuple[str, int, str], Any]
    frames: Mapping[tuple[str, int], int]
    expected: Expected


def prepare(scenario: Scenario, target: Target, inputs: Inputs, expected: Expected | None = None) -> Load:
    """Encode all requests, and reconstruct every input once, one after another: for the images, and to warm the target up.

    Parameters
    ----------
    scenario, target, inputs
        Which.
    expected
        Images to compare with in place of those.

    Raises
    ------
    WireError
        The target refuses an input.
    """
    encoded: dict[tuple[str, int, str], Any] = {}
    frames: dict[tuple[str, int], int] = {}
    images: dict[tuple[str, int], Images] = {}
    for kind in scenario.classes:
        faults = scenario.faults_of(kind)
        for number, settings in enumerate(kind.inputs):
            scan = inputs[settings]
            job = Job(scan, scenario.model_of(kind), kind.priority, kind.outputs)
            encoded[kind.name, number, ""] = target.wire.encode(job)
            if faults.poison > 0:
                encoded[kind.name, number, "poison"] = target.wire.encode(
                    dataclasses.replace(job, scan=faulty(scan, "poison"))
                )
            if faults.truncate > 0:
                encoded[kind.name, number, "truncate"] = target.wire.encode(
                    dataclasses.replace(job, scan=faulty(scan, "truncate"))
                )
            images[kind.name, number] = _reconstruct(scenario, target, kind, number, encoded[kind.name, number, ""])
            frames[kind.name, number] = scan.frames or len(images[kind.name, number])
    return Load(scenario, target, encoded, frames, images if expected is None else expected)


def _reconstruct(scenario: Scenario, target: Target, kind: RequestClass, number: int, encoded: Any) -> Images:  # noqa: ANN401
    """Send one request and wait for its images."""
    ends: list[End] = []
    limit = max(scenario.generator.bound, target.settings.ready_seconds)  # the first one may compile something
    call = Call(0, None, RunClock(), lambda _, end: ends.append(end))
    impatience = threading.Timer(limit, call.abandon)
    impatience.start()
    target.wire.send(call, encoded, kind.client)
    call.ended.wait(limit + _PATIENCE_SECONDS)
    impatience.cancel()
    if not ends or ends[0].status != "OK" or not ends[0].images:
        said = f"{ends[0].status} {ends[0].reason}: {ends[0].message}" if ends else "nothing"
        raise WireError(f"the target answered input {number} of class {kind.name!r} with {said or 'no image'}")
    return ends[0].images


def measure(load: Load, plan: OpenPlan | ClosedPlan, progress: Progress, phase: str) -> RunResult:
    """Send the requests of a plan, and wait for the end of each.

    Parameters
    ----------
    load
        What to send where.
    plan
        When.
    progress
        Told how far it is.
    phase
        What this is, for progress.

    Returns
    -------
    RunResult
        Of this phase.
    """
    scenario, settings = load.scenario, load.scenario.generator
    machine, started = describe_machine(), datetime.datetime.now(datetime.UTC)
    ledger = Ledger(load.expected, settings.image_tolerance)
    clock = RunClock()
    timers = Timers(clock)
    length = plan.warm_up + plan.duration if isinstance(plan, OpenPlan) else 0.0

    def tick() -> None:
        failed = sum(record.end is not None and record.outcome == "error" for record in list(ledger.records))
        progress(Status(phase, clock(), length, len(ledger.records), ledger.outstanding, failed))

    observer = Observer(load.target, clock, tick)
    generator = Generator(scenario, load.target.wire, load.encoded, load.frames, ledger, clock, timers)
    longest = settings.bound + max(kind.deadline or 0.0 for kind in scenario.classes) + _PATIENCE_SECONDS
    try:
        if isinstance(plan, OpenPlan):
            window = _open(plan, generator, observer, timers, clock, load)
            ledger.wait_below(1, longest)
        else:
            window = _closed(plan, generator, observer, ledger, clock, longest)
    finally:
        generator.interrupt()
        timers.stop()
        observer.close()
        ledger.close()
        generator.close()
    records = tuple(record.rounded() for record in ledger.records)
    measured = [record for record in records if record.measured]
    lag = send_lag(measured, settings.lag_seconds, settings.lag_share)
    return RunResult(
        scenario=scenario.to_json(),
        target=load.target.describe(),
        started=started.isoformat(timespec="seconds"),
        machine=machine,
        window=window,
        records=records,
        lag=lag,
        generator_cpu_seconds=observer.generator_cpu_seconds(),
        usage=observer.usage(),
        server=observer.server(),
        events=tuple(observer.events),
        health=tuple(observer.health),
        void=_void(lag, ledger, observer.events, len(measured)),
    )


def _open(
    plan: OpenPlan, generator: Generator, observer: Observer, timers: Timers, clock: RunClock, load: Load
) -> tuple[float, float]:
    window = (plan.warm_up, plan.warm_up + plan.duration)
    timers.at(window[0], observer.begin_soon)
    finished = threading.Event()
    timers.at(window[1], finished.set)
    for event in load.scenario.events:
        timers.at(plan.warm_up + event.at, lambda event=event: observer.hurt_soon(event))  # type: ignore[misc]
    generator.open_loop(plan.schedule, plan.warm_up)
    finished.wait(max(window[1] - clock(), 0.0) + _PATIENCE_SECONDS)
    observer.finish()
    return window


def _closed(
    plan: ClosedPlan, generator: Generator, observer: Observer, ledger: Ledger, clock: RunClock, longest: float
) -> tuple[float, float]:
    start = 0.0

    def warm_up(number: int, now: float) -> bool:
        nonlocal start
        if number == plan.warm_up:
            start = now
            observer.begin_soon()
        return number < plan.warm_up

    generator.closed_loop(plan.schedule, plan.outstanding, plan.duration, warm_up)
    ledger.wait_below(1, longest)
    observer.finish()
    ends = [record.end for record in ledger.records if record.measured and record.end is not None]
    return start, max(ends, default=clock())


def _void(lag: SendLag, ledger: Ledger, events: list[EventRecord], measured: int) -> tuple[str, ...]:
    """Return why a run does not count."""
    reasons = []
    if measured == 0:
        reasons.append("no request was due in the measured time")
    if lag.void:
        reasons.append(
            f"requests were sent late: the 99th percentile of the lag is {1e3 * lag.p99:.1f} ms, above the bound of "
            f"{1e3 * lag.bound:.1f} ms"
        )
    if ledger.double_ends:
        reasons.append(f"{ledger.double_ends} requests ended twice: a defect of the generator")
    reasons += [f"a fault was not carried out: {event.error}" for event in events if event.error]
    return tuple(reasons)
