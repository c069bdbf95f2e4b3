"""Drives a reconstruction service at a given load, and reports what came of it.

>>> from recond_loadtest import load_scenario, open_target, run
>>> scenario = load_scenario("four-matrices")
>>> with open_target(scenario.target or OWN_SERVICE, scenario.clients) as target:
...     result = run(scenario, target)
"""

from recond_loadtest.inputs import prepare_inputs
from recond_loadtest.phase import prepare
from recond_loadtest.result import ResultError, RunResult
from recond_loadtest.run import run
from recond_loadtest.scenario import Scenario, load_scenario, parse_scenario
from recond_loadtest.schedule import draw
from recond_loadtest.target import Target, open_target
from recond_loadtest.target_settings import OWN_GATEWAY, OWN_SERVICE, TargetSettings
from recond_loadtest.toml_reader import ScenarioError
from recond_loadtest.wires import WireError

__all__ = [
    "OWN_GATEWAY",
    "OWN_SERVICE",
    "ResultError",
    "RunResult",
    "Scenario",
    "ScenarioError",
    "Target",
    "TargetSettings",
    "WireError",
    "draw",
    "load_scenario",
    "open_target",
    "parse_scenario",
    "prepare",
    "prepare_inputs",
    "run",
]
