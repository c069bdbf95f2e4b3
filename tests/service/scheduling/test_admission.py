import asyncio
import contextlib

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from recond_service.scheduling import Admission, Demand, UploadCosts
from recond_service.types import (
    DeadlineExceededError,
    LimitExceededError,
    OverloadedError,
    Priority,
    RecondError,
    UnavailableError,
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def admission(requests=10, size=1000, seconds=60.0, capacity=1, clock=None) -> Admission:
    return Admission(requests, size, seconds, lambda: capacity, clock or Clock())


async def test_bytes_are_counted_and_the_refusal_says_when_to_come_back():
    door = admission(size=1000)
    with door.admit(Demand(600, seconds=7.0, priority=Priority.STAT)) as first:
        with pytest.raises(OverloadedError, match="600 of 1000 bytes") as caught:
            door.admit(Demand(500, priority=Priority.STAT))
        assert caught.value.retry_after == 7.0
        with door.admit(Demand(300, priority=Priority.STAT)):
            first.hold(5000)  # frames of a request that is in are counted, never refused
            assert door.bytes_held == 5900
        with pytest.raises(OverloadedError):
            door.admit(Demand(1, priority=Priority.STAT))
    assert (door.bytes_held, door.requests, door.seconds) == (0, 0, 0)
    with pytest.raises(LimitExceededError, match="1001"):
        door.admit(Demand(1001))
    with door.admit(Demand(1000, priority=Priority.RESEARCH)):  # an empty service takes what fits at all
        pass


async def test_the_last_places_are_kept_for_urgent_requests():
    door = admission(requests=10)
    for _ in range(8):
        door.admit(Demand(1, priority=Priority.RESEARCH))
    with pytest.raises(OverloadedError, match="8 of 8 requests"):
        door.admit(Demand(1, priority=Priority.RESEARCH))
    door.admit(Demand(1, priority=Priority.CLINICAL))
    with pytest.raises(OverloadedError):
        door.admit(Demand(1, priority=Priority.CLINICAL))
    door.admit(Demand(1, priority=Priority.STAT))
    with pytest.raises(OverloadedError, match="10 of 10"):
        door.admit(Demand(1, priority=Priority.STAT))


async def test_work_that_would_take_too_long_is_told_to_come_back():
    door = admission(seconds=60)
    with door.admit(Demand(1, seconds=500.0)) as first:  # alone it may
        with pytest.raises(OverloadedError, match="work for") as caught:
            door.admit(Demand(1, seconds=100.0))
        assert caught.value.retry_after == 60.0  # 540 s in truth, but no client should sleep that long
        first.worked(450.0)
        with pytest.raises(OverloadedError) as caught:
            door.admit(Demand(1, seconds=20.0))
        assert caught.value.retry_after == pytest.approx(10.0)
        door.admit(Demand(1, seconds=5.0))
        door.admit(Demand(1, seconds=5.0, client="another"))


async def test_a_deadline_that_cannot_be_met_is_refused_at_once():
    clock = Clock()
    door = admission(clock=clock)
    door.admit(Demand(1, seconds=30.0, client="hospital"))
    late = Demand(1, seconds=5.0, client="hospital", deadline=clock() + 20)
    with pytest.raises(DeadlineExceededError, match=r"about 35.0 s, .* the deadline is in 20.0 s") as caught:
        door.admit(late)
    assert caught.value.reason == "DEADLINE_UNREACHABLE"
    # Another client takes turns with the volume: its 5 s are over when the hospital has had 5 s too.
    door.admit(Demand(1, seconds=5.0, client="scanner", deadline=clock() + 11))
    # Stat does not wait for clinical work at all.
    door.admit(Demand(1, seconds=5.0, priority=Priority.STAT, deadline=clock() + 6))
    with pytest.raises(DeadlineExceededError):
        door.admit(Demand(1, seconds=5.0, priority=Priority.STAT, client="other", deadline=clock() + 6))
    with pytest.raises(
        DeadlineExceededError
    ):  # that 5 s of stat work come first is known, whatever the request itself takes
        door.admit(Demand(1, seconds=0.0, deadline=clock() + 0.5))
    door.admit(
        Demand(1, seconds=0.0, priority=Priority.STAT, client="third", deadline=clock() + 0.5)
    )  # no guess refuses


async def test_predictions_count_reading_and_writing():
    clock = Clock()
    door = admission(clock=clock)
    for _ in range(50):
        door.ended(Demand(300), 2.0)
        door.ended(Demand(2), 0.1)
    with door.admit(Demand(299, seconds=1.0, deadline=clock() + 2.5)):  # the first that seems hopeless may try
        pass
    with pytest.raises(DeadlineExceededError):
        door.admit(Demand(299, seconds=1.0, deadline=clock() + 2.5))
    with door.admit(Demand(299, seconds=1.0, deadline=clock() + 3.5)):
        pass
    with door.admit(Demand(2, seconds=1.0, deadline=clock() + 1.2)):  # small ones have less to read
        pass
    door.ended(Demand(2), 60.0)  # chance
    door.admit(Demand(2, seconds=1.0, deadline=clock() + 5.0))


async def test_predictions_that_became_too_high_come_down_again():
    clock = Clock()
    door = admission(clock=clock)
    for _ in range(50):  # the machine was unusable for a while
        door.ended(Demand(100), 120.0)
    hopeless = Demand(100, seconds=0.1, deadline=clock() + 1.0)
    with door.admit(hopeless):
        pass
    with pytest.raises(DeadlineExceededError, match="120"):
        door.admit(hopeless)
    clock.now += 80.0
    with (
        door.admit(Demand(100, seconds=0.1, deadline=clock() + 1.0)),
        door.admit(Demand(100, seconds=0.1, deadline=clock() + 1.0)),
    ):
        pass


async def test_without_a_server_requests_wait_a_little_and_are_then_sent_away():
    clock = Clock()
    servers = [0]
    door = Admission(10, 1000, 60, lambda: servers[0], clock, patience=5.0)
    door.admit(Demand(1))
    clock.now += 6
    with pytest.raises(UnavailableError) as caught:
        door.admit(Demand(1))
    assert (caught.value.reason, caught.value.retry_after) == ("NO_WORKER", 5.0)
    servers[0] = 1
    door.admit(Demand(1))
    servers[0] = 0
    door.admit(Demand(1))


async def test_draining_admits_nobody_and_waits_for_those_inside():
    door = admission()
    ticket = door.admit(Demand(10))
    door.draining = True
    with pytest.raises(UnavailableError, match="shutting down"):
        door.admit(Demand(10))
    assert not await door.wait_for_empty(0.01)
    waiting = asyncio.create_task(door.wait_for_empty(10))
    await asyncio.sleep(0)
    with ticket:
        pass
    assert await waiting


async def test_a_request_that_finds_no_place_gets_that_of_the_one_that_is_idle_longest():
    now = [0.0]
    door = Admission(3, 1000, 60.0, lambda: 1, lambda: now[0])
    tickets = [door.admit(Demand(1, priority=Priority.STAT)) for _ in range(3)]
    with contextlib.ExitStack() as waiting:
        for number, ticket in enumerate(tickets[:2]):
            now[0] = float(number)
            waiting.enter_context(ticket.waiting_for_client())
        with pytest.raises(OverloadedError):
            door.admit(Demand(1, priority=Priority.STAT))  # nobody has been idle for long
        now[0] = 30.0
        with door.admit(Demand(1, priority=Priority.STAT)):
            assert [ticket.evicted.is_set() for ticket in tickets] == [True, False, False]
            assert door.requests == 3
    for ticket in tickets:
        with ticket:
            pass
    assert (door.requests, door.bytes_held) == (0, 0)
    busy = [door.admit(Demand(1, priority=Priority.STAT)) for _ in range(3)]
    now[0] = 100.0
    with pytest.raises(OverloadedError):  # who has something to do keeps its place
        door.admit(Demand(1, priority=Priority.STAT))
    for ticket in busy:
        with ticket:
            pass


def test_upload_costs_learn_seconds_for_a_byte_by_model():
    costs = UploadCosts()
    assert costs.seconds("m", 1000) == 0
    for _ in range(60):
        costs.observe("m", 1_000_000, 2.0)
        costs.observe("other", 1_000_000, 0.1)
    costs.observe("m", 0, 1.0)
    costs.observe("m", 10, 0.0)
    assert costs.seconds("m", 500_000) == pytest.approx(1.0)
    assert costs.seconds("other", 500_000) == pytest.approx(0.05)
    for seconds in (0.02,) * 60 + (30.0,):
        costs.wrote(seconds)
    assert 0.02 < costs.writing_seconds < 0.1
    for number in range(1000):
        costs.observe(f"model-{number}", 10, 1.0)
    assert len(costs._logs) <= 256


class AdmissionStates(RuleBasedStateMachine):
    """Nothing that comes and goes makes the counts wrong or lets more in than there is room for."""

    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.door = admission(requests=6, size=1000, seconds=50.0, clock=self.clock)
        self.inside = []

    @rule(
        size=st.integers(1, 1200),
        seconds=st.floats(0, 100),
        priority=st.sampled_from(list(Priority)),
        client=st.sampled_from("ab"),
        allowed=st.one_of(st.none(), st.floats(0, 100)),
    )
    def ask(self, size, seconds, priority, client, allowed):
        deadline = None if allowed is None else self.clock() + allowed
        demand = Demand(size, seconds, priority, client, deadline)
        before = (self.door.requests, self.door.bytes_held)
        refusal = self.attempt(demand)
        if refusal is None:
            assert self.door.requests <= 6
            assert before[0] == 0 or self.door.bytes_held <= 1000
            return
        assert (self.door.requests, self.door.bytes_held) == before
        if isinstance(refusal, OverloadedError):
            assert 0.5 <= refusal.retry_after <= 60
        elif isinstance(refusal, LimitExceededError):
            assert size > 1000
        else:
            assert isinstance(refusal, DeadlineExceededError)
            assert allowed is not None

    def attempt(self, demand: Demand) -> RecondError | None:
        try:
            self.inside.append(self.door.admit(demand))
        except RecondError as error:
            return error
        return None

    @rule(which=st.integers(0, 5), seconds=st.floats(0, 100))
    def work(self, which, seconds):
        if self.inside:
            self.inside[which % len(self.inside)].worked(seconds)

    @rule(which=st.integers(0, 5))
    def leave(self, which):
        if self.inside:
            with self.inside.pop(which % len(self.inside)):
                pass

    @invariant()
    def counts_are_right(self):
        assert self.door.requests == len(self.inside)
        assert self.door.bytes_held == sum(ticket.held for ticket in self.inside)
        assert self.door.seconds >= 0


TestAdmissionStates = AdmissionStates.TestCase
TestAdmissionStates.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
