"""Schedules: the same from the same seed, and distributed as they say."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from recond_loadtest import ScenarioError
from recond_loadtest.arrivals import Arrivals, Step
from recond_loadtest.planned import PlannedRequest
from recond_loadtest.request_class import Faults, InputSettings, RequestClass
from recond_loadtest.scenario import Scenario
from recond_loadtest.schedule import draw, draw_choices
from recond_loadtest.trace import read_trace, write_trace

_ONE = (RequestClass("a"),)


def scenario(**changes: object) -> Scenario:
    settings = {"name": "s", "classes": _ONE, "arrivals": Arrivals(rate=50.0), "duration": 200.0, "warm_up": 0.0}
    return Scenario(**{**settings, **changes})


def times(schedule: tuple[PlannedRequest, ...]) -> np.ndarray:
    return np.array([request.at for request in schedule])


def test_a_seed_gives_one_schedule() -> None:
    assert draw(scenario(seed=3)) == draw(scenario(seed=3))
    assert draw(scenario(seed=3)) != draw(scenario(seed=4))


def test_faults_and_classes_leave_the_arrivals_alone() -> None:
    plain = draw(scenario())
    faulty = draw(scenario(faults=Faults(poison=0.2, cancel=0.2)))
    mixed = draw(scenario(classes=(RequestClass("a"), RequestClass("b", weight=3))))
    assert np.array_equal(times(plain), times(faulty))
    assert np.array_equal(times(plain), times(mixed))
    assert [one.fault for one in plain] != [one.fault for one in faulty]


def test_poisson_arrivals_are_poisson() -> None:
    at = times(draw(scenario()))
    gaps = np.diff(at)
    expected, count = 0.02, len(gaps)
    assert abs(len(at) - 10_000) < 4 * math.sqrt(10_000)
    assert abs(gaps.mean() - expected) < 4 * expected / math.sqrt(count)
    # An exponential distribution has its mean as its deviation; Kolmogorov and Smirnov's distance at the level of 0.1 %.
    empirical = (np.arange(count) + 0.5) / count
    distance = np.abs(empirical - (1 - np.exp(-np.sort(gaps) / expected))).max()
    assert distance < 1.95 / math.sqrt(count)
    # Counts in seconds have their mean as their variance, and do not depend on those before.
    counts = np.histogram(at, np.arange(201))[0]
    assert 0.7 < counts.var() / counts.mean() < 1.35
    assert abs(np.corrcoef(counts[1:], counts[:-1])[0, 1]) < 0.3


def test_constant_and_bursts() -> None:
    constant = times(draw(scenario(arrivals=Arrivals(process="constant", rate=10.0), duration=5.0)))
    assert np.allclose(constant, np.arange(50) / 10)
    bursts = times(draw(scenario(arrivals=Arrivals(process="bursts", rate=50.0, burst=5))))
    sizes = [len(list(group)) for _, group in itertools.groupby(bursts)]
    assert set(sizes) == {5}
    assert abs(len(bursts) - 10_000) < 4 * math.sqrt(10_000 * 5)


def test_steps_follow_the_profile_and_repeat() -> None:
    steps = (Step(10.0, rate=100.0), Step(5.0, rate=0.0), Step(5.0, load=2.0))
    at = times(draw(scenario(arrivals=Arrivals(process="steps", steps=steps), duration=40.0), peak=20.0))
    counts = np.histogram(at, [0, 10, 15, 20, 30, 35, 40])[0]
    assert np.all(counts[[1, 4]] == 0)
    assert np.all(np.abs(counts[[0, 3]] - 1000) < 4 * math.sqrt(1000))
    assert np.all(np.abs(counts[[2, 5]] - 200) < 4 * math.sqrt(200))


def test_a_relative_load_needs_the_peak() -> None:
    relative = scenario(arrivals=Arrivals(load=0.5))
    assert relative.relative
    with pytest.raises(ScenarioError, match="relative to the peak"):
        draw(relative)
    assert abs(len(draw(relative, peak=100.0)) - 10_000) < 4 * math.sqrt(10_000)


def test_classes_inputs_and_faults_come_by_their_shares() -> None:
    inputs = (InputSettings(coils=2), InputSettings(coils=4))
    classes = (
        RequestClass("rare"),
        RequestClass("often", weight=4, inputs=inputs, faults=Faults(cancel=0.1, slow=0.05)),
    )
    schedule = draw(scenario(classes=classes))
    often = [one for one in schedule if one.kind == "often"]
    assert abs(len(often) / len(schedule) - 0.8) < 0.02
    assert abs(np.mean([one.input for one in often]) - 0.5) < 0.03
    faults = collections.Counter(one.fault for one in often)
    assert abs(faults["cancel"] / len(often) - 0.1) < 0.015
    assert abs(faults["slow"] / len(often) - 0.05) < 0.015
    assert all(0 <= one.cancel_after < 0.2 and (one.fault == "cancel") == (one.cancel_after > 0) for one in often)
    assert all(one.fault == "" and one.input == 0 for one in schedule if one.kind == "rare")


def test_classes_may_have_arrivals_of_their_own() -> None:
    classes = (RequestClass("a"), RequestClass("b", arrivals=Arrivals(process="constant", rate=1.0)))
    schedule = draw(scenario(classes=classes))
    assert list(times(schedule)) == sorted(times(schedule))
    assert sum(one.kind == "b" for one in schedule) == 200
    without = draw(scenario())
    assert [one.at for one in schedule if one.kind == "a"] == [one.at for one in without]


def test_a_trace_brings_back_the_schedule(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    original = scenario(
        duration=5.0, faults=Faults(poison=0.1, cancel=0.2), classes=(RequestClass("a"), RequestClass("b"))
    )
    schedule = draw(original)
    write_trace(path, schedule)
    again = dataclasses.replace(original, seed=99, arrivals=Arrivals(process="trace", trace=path))
    assert draw(again) == schedule


def test_a_trace_of_times_only_is_filled_up(tmp_path: Path) -> None:
    path = tmp_path / "times.csv"
    path.write_text("at\n0.5\n0.25\n9.0\n")
    schedule = draw(scenario(duration=5.0, arrivals=Arrivals(process="trace", trace=path)))
    assert [one.at for one in schedule] == [0.25, 0.5]
    assert {one.kind for one in schedule} == {"a"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("when\n1\n", "a trace has at, class"),
        ("at\nsoon\n", "trace.csv:2: could not convert"),
        ("at\n-1\n", "trace.csv:2: at -1.0"),
        ("at,class\n1,x\n", "trace.csv:2: class 'x'; the scenario has a"),
        ("at,input\n1,7\n", "trace.csv:2: input 7; class 'a' has 1"),
        ("at,fault\n1,fire\n", "trace.csv:2: fault 'fire'; known are poison"),
    ],
)
def test_wrong_traces_are_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(content)
    with pytest.raises(ScenarioError) as caught:
        draw(scenario(arrivals=Arrivals(process="trace", trace=path)))
    assert said in str(caught.value)
    with pytest.raises(ScenarioError, match="cannot be read"):
        read_trace(tmp_path / "none.csv")


def test_a_typing_error_in_a_rate_does_not_fill_the_memory() -> None:
    with pytest.raises(ScenarioError, match="at most 1000000 are allowed"):
        draw(scenario(arrivals=Arrivals(rate=1e5)))


def test_closed_runs_draw_choices_without_times() -> None:
    choices = draw_choices(scenario(classes=(RequestClass("a"), RequestClass("b"))), 1000)
    assert len(choices) == 1000
    assert set(times(choices)) == {0.0}
    assert 400 < sum(one.kind == "a" for one in choices) < 600
