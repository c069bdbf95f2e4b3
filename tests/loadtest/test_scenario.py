"""Scenario files: what is read, what is refused, and how it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from recond_loadtest import ScenarioError, load_scenario, parse_scenario
from recond_loadtest.request_class import InputSettings
from recond_loadtest.scenario import shipped

_CLASS = '[[classes]]\nname = "a"\n'


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_scenarios_are_whole(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    assert scenario.description
    assert scenario.target is None, "a shipped scenario runs against any target"
    total = scenario.warm_up + scenario.duration
    assert total <= 60, "a minute on two cores"


def test_everything_has_its_type() -> None:
    text = """
        mode = "open"
        duration = 3
        [arrivals]
        rate = 5
        [[classes]]
        name = "a"
        inputs = [{ coils = 2, rows = 32, columns = 48, file = "scan.h5" }]
        deadline = 1
        [target]
        kind = "kserve"
        address = "localhost:8001"
        environment = { A = "b" }
        cpus = [0, 1]
    """
    scenario = parse_scenario(text, "mine", Path("folder"))
    assert scenario.name == "mine"
    assert scenario.duration == 3.0
    assert isinstance(scenario.duration, float)
    assert scenario.classes[0].inputs == (InputSettings(coils=2, rows=32, columns=48, file=Path("folder/scan.h5")),)
    assert scenario.target is not None
    assert scenario.target.cpus == (0, 1)
    assert scenario.to_json()["classes"][0]["inputs"][0]["file"] == "folder/scan.h5"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("durration = 3\n[arrivals]\nrate = 1\n" + _CLASS, "durration: no such key; known here: arrivals"),
        (
            "[arrivals]\nrate = 1\n[[classes]]\nname = 'a'\ninputs = [{coil = 3}]",
            "classes[0].inputs[0].coil: no such key",
        ),
        ("[arrivals]\nrate = 1\n[[classes]]\n", "classes[0].name: missing"),
        ("[arrivals]\nrate = 1", "classes: missing"),
        ("[arrivals]\nrate = 'fast'\n" + _CLASS, "arrivals.rate: 'fast'; input should be a valid number"),
        ("seed = true\n[arrivals]\nrate = 1\n" + _CLASS, "seed: True; input should be a valid integer"),
        ("mode = 'closed'\n" + _CLASS, "mode: 'closed'; input should be 'open'"),
        (_CLASS, "arrivals: missing; an open run needs them"),
        ("[arrivals]\nrate = 1\nload = 0.5\n" + _CLASS, "arrivals.rate: give either rate"),
        ("[arrivals]\nprocess = 'steps'\n" + _CLASS, "arrivals.steps"),
        ("[arrivals]\nprocess = 'trace'\n" + _CLASS, "arrivals.trace"),
        ("duration = -1\n[arrivals]\nrate = 1\n" + _CLASS, "duration: -1.0, and should be more than 0 s"),
        ("[faults]\npoison = 0.7\ncancel = 0.7\n[arrivals]\nrate = 1\n" + _CLASS, "faults.poison + truncate"),
        ("[arrivals]\nrate = 1\n" + _CLASS + _CLASS, "classes: ['a', 'a'], and should be of different names"),
        ("duration = 5\n[arrivals]\nrate = 1\n[[events]]\nat = 9\naction = 'restart'\n" + _CLASS, "events.at: 9.0"),
        ("[arrivals]\nrate = 1\n[[events]]\nat = 1\naction = 'kill'\n" + _CLASS, "events[0].process: ''"),
        ("[target]\naddress = '127.0.0.1:{port}'\n[arrivals]\nrate = 1\n" + _CLASS, "target.address: "),
        ("duration 3", "mine: not TOML"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(text, "mine")
    assert said in str(caught.value)


def test_a_scenario_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="neither a file nor one of cancelled, clinical-mix"):
        load_scenario(str(tmp_path / "none.toml"))
