"""The generator: latency from the intended time, exact accounting, runs that do not count."""

from __future__ import annotations

import dataclasses
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.any_pb2 import Any as PackedMessage
from google.rpc import error_details_pb2, status_pb2
from loadtest_servers import serving

from recond.v1 import reconstruction_pb2 as pb
from recond.v1 import reconstruction_pb2_grpc as pb_grpc
from recond_loadtest import RunResult, Scenario, TargetSettings, WireError, open_target, run
from recond_loadtest.arrivals import Arrivals
from recond_loadtest.inputs import prepare_inputs
from recond_loadtest.ledger import RequestRecord, differ
from recond_loadtest.planned import PlannedRequest
from recond_loadtest.request_class import Faults, InputSettings, RequestClass
from recond_loadtest.result import send_lag
from recond_loadtest.scenario import GeneratorSettings, Peak, Search
from recond_loadtest.wires import Call, End, Job, RecondWire

_TINY = InputSettings(coils=2, rows=32, columns=32, calibration_lines=8)


def scenario(address: str, **changes: object) -> Scenario:
    settings = {
        "name": "test",
        "classes": (RequestClass("a", (_TINY,)),),
        "arrivals": Arrivals(process="constant", rate=50.0),
        "duration": 1.2,
        "warm_up": 0.2,
        "target": TargetSettings(kind="kserve", address=address),
        "generator": GeneratorSettings(bound=10.0, lag_seconds=0.25),
    }
    return Scenario(**{**settings, **changes})


def check_accounts(result: RunResult) -> None:
    """Every request is there once, in order, and ended once."""
    assert [record.number for record in result.records] == list(range(len(result.records)))
    outcomes = result.outcomes()
    assert (
        outcomes.ok + outcomes.error + outcomes.cancelled + outcomes.lost == outcomes.requests == len(result.measured)
    )
    assert sum(result.outcomes(kind).requests for kind in {one.kind for one in result.records}) == outcomes.requests


class Stall:
    """Answers at once, but for some time in which it does nothing; times count from the first request."""

    def __init__(self, after: float, length: float) -> None:
        self._after, self._length = after, length
        self._first: float | None = None

    def __call__(self, number: int, context: grpc.ServicerContext) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
        since = now - self._first - self._after
        if 0 <= since < self._length:
            time.sleep(self._length - since)


def slow_ones(result: RunResult) -> int:
    return sum((record.latency or 0) > 0.2 for record in result.measured)


@pytest.mark.usefixtures("no_new_threads")
def test_a_stall_shows_in_every_request_that_was_due_in_it(kserve) -> None:
    kserve.before = Stall(after=0.5, length=0.8)
    result = run(scenario(kserve.address, duration=1.5))
    check_accounts(result)
    # 40 requests were due in the stall; those of its last 0.2 s waited less.
    assert slow_ones(result) >= 24
    # A client that waits for its answers sends one request into the stall, and sees nothing of the others.
    kserve.before = Stall(after=0.5, length=0.8)
    closed = run(scenario(kserve.address, mode="single-stream", duration=1.5))
    check_accounts(closed)
    assert 1 <= slow_ones(closed) <= 2
    assert (closed.latency().quantiles[0.5] or 1) < 0.2


def test_late_sending_voids_a_run() -> None:
    def records(lag: float) -> list[RequestRecord]:
        return [
            RequestRecord(number, "a", "", 1, number, True, sent=number + lag, end=number + 1.0, outcome="ok")
            for number in range(200)
        ]

    assert not send_lag(records(0.04), 0.02, 0.05).void, "5 % of a median of 1 s"
    assert send_lag(records(0.06), 0.02, 0.05).void
    assert send_lag(records(0.06), 0.02, 0.05).bound == pytest.approx(0.05)
    assert not send_lag(records(0.06), 0.1, 0.05).void


def test_a_generator_that_cannot_follow_says_so(kserve) -> None:
    # 2000 requests at one instant: no generator sends them all at once.
    strict = GeneratorSettings(bound=20.0, lag_seconds=1e-4, lag_share=1e-6)
    burst = tuple(PlannedRequest(0.3, "a") for _ in range(300))
    result = run(scenario(kserve.address, generator=strict, duration=0.5), schedule=burst)
    check_accounts(result)
    assert result.lag.void
    assert result.failed
    assert "requests were sent late" in result.void[0]


def test_errors_are_counted_by_status(kserve) -> None:
    def sometimes(number: int, context: grpc.ServicerContext) -> None:
        if number % 5 == 4:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")

    kserve.before = sometimes
    result = run(scenario(kserve.address))
    check_accounts(result)
    outcomes = result.outcomes()
    assert outcomes.errors == {("UNAVAILABLE", ""): outcomes.error}
    assert outcomes.error == pytest.approx(outcomes.requests / 5, abs=2)
    assert outcomes.innocent_failures == outcomes.error
    assert not result.void


def test_a_server_that_never_answers_loses_requests(kserve) -> None:
    over = threading.Event()
    kserve.before = lambda number, context: number < 20 or over.wait(30)
    bounded = GeneratorSettings(bound=1.0, lag_seconds=0.25)
    result = run(scenario(kserve.address, generator=bounded, duration=1.0))
    over.set()
    check_accounts(result)
    assert result.outcomes().lost > 10
    assert result.failed


def test_a_server_is_told_deadlines_and_no_bounds(kserve) -> None:
    told: list[float] = []
    kserve.before = lambda number, context: told.append(context.time_remaining())
    run(scenario(kserve.address, duration=0.3))
    assert min(told) > 1e9, "none"
    told.clear()
    run(scenario(kserve.address, duration=0.3, classes=(RequestClass("a", (_TINY,), deadline=5.0),)))
    assert all(0 < remaining < 5.5 for remaining in told[1:]), told


def test_a_refusal_for_the_deadline_is_an_error_and_not_lost(kserve) -> None:
    def refuse(number: int, context: grpc.ServicerContext) -> None:
        if number > 3:
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "will not make it")

    kserve.before = refuse
    outcomes = run(scenario(kserve.address, duration=0.3)).outcomes()
    assert outcomes.lost == 0
    assert outcomes.errors == {("DEADLINE_EXCEEDED", ""): outcomes.error}
    assert outcomes.error > 0


def test_a_deadline_is_an_error_and_not_good(kserve) -> None:
    kserve.before = lambda number, context: time.sleep(0.4 if number % 30 == 29 else 0.0)
    hurried = (RequestClass("a", (_TINY,), deadline=0.2),)
    result = run(scenario(kserve.address, classes=hurried))
    check_accounts(result)
    outcomes = result.outcomes()
    assert outcomes.lost == 0
    assert ("DEADLINE_EXCEEDED", "") in outcomes.errors
    assert 0 < outcomes.good <= outcomes.ok < outcomes.requests
    assert result.rates().goodput < result.rates().offered


def test_wrong_images_are_noticed(kserve) -> None:
    def worse(number: int, context: grpc.ServicerContext) -> None:
        kserve.scale = 1.01 if number % 10 == 9 else 1.0

    kserve.before = worse
    result = run(scenario(kserve.address))
    outcomes = result.outcomes()
    assert outcomes.compared == outcomes.ok == outcomes.requests
    assert outcomes.wrong == pytest.approx(outcomes.requests / 10, abs=2)
    assert outcomes.good == outcomes.ok - outcomes.wrong
    assert result.failed


def test_images_differ_by_number_shape_and_content() -> None:
    image = np.ones((4, 4), np.float32)
    assert not differ((image,), (image,), 1e-3)
    assert not differ((image * np.float32(1.0005),), (image,), 1e-3)
    assert differ((image * np.float32(1.002),), (image,), 1e-3)
    assert differ((), (image,), 1e-3)
    assert differ((image[:2],), (image,), 1e-3)
    assert differ((image * np.float32("nan"),), (image,), 1e-3)


@pytest.mark.usefixtures("no_new_threads")
def test_wanted_cancellations_are_no_errors(kserve) -> None:
    kserve.before = lambda number, context: time.sleep(0.015)
    withdrawn = Faults(cancel=0.5, cancel_within=0.01)
    result = run(scenario(kserve.address, faults=withdrawn))
    check_accounts(result)
    outcomes = result.outcomes()
    assert outcomes.cancelled > 20
    assert outcomes.cancelled + outcomes.ok == outcomes.requests
    assert {one.fault for one in result.measured if one.outcome == "cancelled"} == {"cancel"}


def test_offline_and_search(kserve) -> None:
    kserve.before = lambda number, context: time.sleep(0.01)
    offline = run(scenario(kserve.address, mode="offline", peak=Peak(requests=40, outstanding=4, warm_up=5)))
    check_accounts(offline)
    assert len(offline.measured) == 40
    assert offline.outcomes().ok == 40
    peak = offline.peak or 0.0
    assert 20 < peak < 100, "a hundredth of a second each, one at a time"
    search = Search(limit=0.5, quantile=0.5, probes=2)
    found = run(scenario(kserve.address, mode="server", duration=0.6, search=search), peak=peak)
    assert found.probes[0].rate == pytest.approx(0.75 * peak)
    assert 1 <= len(found.probes) <= 2
    search = dataclasses.replace(search, limit=1e-4)
    impossible = run(scenario(kserve.address, mode="server", duration=0.6, search=search), peak=peak)
    assert not any(probe.passed for probe in impossible.probes)
    assert impossible.void[-1] == "no rate that was tried held the limit"


def test_a_target_that_is_not_there() -> None:
    with pytest.raises(WireError, match=r"was not ready within 0\.3 s"):
        run(scenario("127.0.0.1:1", target=TargetSettings(address="127.0.0.1:1", ready_seconds=0.3)))
    with pytest.raises(WireError, match=r"ended before it was ready:\nno such thing"):
        run(scenario("", target=TargetSettings(command="sh -c 'echo no such thing; exit 1'")))
    with pytest.raises(WireError, match="cannot start recond-nothing"):
        run(scenario("", target=TargetSettings(command="recond-nothing")))


class _Refusing(pb_grpc.ReconstructionServiceServicer):
    """Accepts, takes one chunk, and turns the request away while the client still writes."""

    def Reconstruct(self, requests, context):  # noqa: N802 - the protocol's
        next(requests)
        yield pb.ReconstructResponse(accepted=pb.Accepted(request_id="r"))
        next(requests)
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(1500)
        status = status_pb2.Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message="full")
        for detail in (retry, error_details_pb2.ErrorInfo(reason="OVERLOADED", domain="recond")):
            packed = PackedMessage()
            packed.Pack(detail)
            status.details.append(packed)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")


def test_a_refusal_while_uploading_keeps_its_status() -> None:
    """What an asyncio client of gRPC reports as INTERNAL at times (grpc/grpc issue 36066)."""
    large = scenario("", classes=(RequestClass("a", (InputSettings(coils=16, rows=256, columns=256),)),))
    (scan,) = prepare_inputs(large).values()
    wire = RecondWire()
    ends: list[End] = []
    with serving(lambda server: pb_grpc.add_ReconstructionServiceServicer_to_server(_Refusing(), server)) as address:
        wire.connect(address, ["client"])
        try:
            encoded = wire.encode(Job(scan, "cg-sense"))
            for number in range(40):
                call = Call(number, 10.0, time.monotonic, lambda _, end: ends.append(end))
                wire.send(call, encoded, "client")
        finally:
            wire.close()
    assert {(end.status, end.reason, end.retry_after) for end in ends} == {("RESOURCE_EXHAUSTED", "OVERLOADED", 1.5)}
    assert len(ends) == 40


def test_clients_have_connections_of_their_own(kserve) -> None:
    classes = (RequestClass("a", (_TINY,), client="one"), RequestClass("b", (_TINY,), client="two"))
    run(scenario(kserve.address, classes=classes, duration=0.5))
    assert len(kserve.peers) == 2


def test_a_result_survives_its_json(kserve, tmp_path: Path) -> None:
    with open_target(TargetSettings(kind="kserve", address=kserve.address), ["client"]) as target:
        result = run(scenario(kserve.address, duration=0.5), target)
    path = tmp_path / "run.json"
    result.save(path)
    assert RunResult.load(path).to_json() == result.to_json()
