"""The label of an OpenRecon container: it says what the gateway reads, and keeps the rules of the schema."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pydantic import ValidationError

from recond_gateway.commands import gateway
from recond_gateway.config import PARAMETERS, OpenReconLabel, Pipeline, Settings, chosen, openrecon_label
from recond_gateway.errors import ConfigurationError

PIPELINES = {"default": {}, "brain": {"heads": ["tissue"], "pixels": "int16"}, "fast": {"model": "rss"}}
TYPES = {"boolean": bool, "string": str, "choice": str, "int": int, "double": (int, float)}


def label(*arguments: str) -> Result:
    return CliRunner().invoke(gateway, ["label", *arguments])


def made(**groups: Any) -> dict[str, Any]:
    """A label as the world sees it: JSON."""
    settings = Settings.model_validate({"pipelines": PIPELINES, **groups})
    answer: dict[str, Any] = json.loads(openrecon_label(settings).json_text())
    return answer


def test_parameters_are_those_that_the_gateway_reads() -> None:
    parameters = made()["parameters"]
    assert [each["id"] for each in parameters] == ["config", *(each.name for each in PARAMETERS)]
    assert len(parameters) <= 14
    for each in parameters:
        assert re.fullmatch(r"[A-Za-z0-9]+", each["id"])
        assert isinstance(each["default"], TYPES[each["type"]])
        assert set(each) <= {"id", "type", "label", "information", "default", "values", "minimum", "maximum", "unit"}
        assert each["label"]["en"]
        assert each["information"]["en"]
        if each["type"] == "choice":
            names = [value["id"] for value in each["values"]]
            assert each["default"] in names
            assert len(set(names)) == len(names)
        if each["type"] == "double":
            assert each["minimum"] <= each["default"] <= each["maximum"]
            assert 1 <= len(each["unit"]["en"]) <= 3


def test_defaults_change_nothing_and_every_choice_is_understood() -> None:
    parameters = [each for each in made()["parameters"] if each["id"] != "config"]
    pipeline = Pipeline(model="tv", slice_deadline=7.0)
    assert chosen(pipeline, {each["id"]: each["default"] for each in parameters}) == (pipeline, [])
    for each in parameters:
        values = [value["id"] for value in each.get("values", [])] or [each["default"], each.get("maximum", True)]
        changed = []
        for value in values:
            for sent in (value, str(value).lower() if isinstance(value, bool) else str(value)):
                after, complaints = chosen(pipeline, {each["id"]: sent})
                assert not complaints
                changed.append(after != pipeline)
        assert any(changed), each["id"]


def test_the_console_chooses_among_the_pipelines() -> None:
    config = made()["parameters"][0]
    assert config["type"] == "choice"
    assert [value["id"] for value in config["values"]] == ["openrecon", "brain", "fast"]
    assert config["default"] == "openrecon"


def test_what_the_host_must_know() -> None:
    label = {
        "name": "Head",
        "id": "head",
        "version": "1.2.3-rc.1",
        "gpus": 1,
        "regulatory": {"made_in": "DE", "udi": "(01)1(21)2", "material_number": "4711"},
    }
    whole = made(label=label)
    assert set(whole) == {"general", "reconstruction", "parameters"}
    assert whole["reconstruction"] == {
        "transfer_protocol": {"protocol": "ISMRMRD", "version": "1.4.1"},
        "port": 9002,
        "emitter": "raw",
        "injector": "image",
        "can_process_adjustment_data": False,
        "can_use_gpu": True,
        "min_count_required_gpus": 1,
        "min_required_gpu_memory": 0,
        "min_required_memory": 8192,
        "min_count_required_cpu_cores": 4,
        "content_qualification_type": "RESEARCH",
        "require_readout_filter_off": True,
    }
    general = whole["general"]
    assert (general["name"], general["id"], general["version"]) == ({"en": "Head"}, "head", "1.2.3-rc.1")
    regulatory = general["regulatory_information"]
    assert len(regulatory) == 11
    assert all(isinstance(value, str) for value in regulatory.values())
    assert (regulatory["device_trade_name"], regulatory["production_identifier"]) == ("Head", "1.2.3-rc.1")
    assert (regulatory["made_in"], regulatory["material_number"]) == ("DE", "4711")


BOOLEAN = {"id": "a", "type": "boolean", "label": {"en": "A"}, "default": True}
NUMBER = {"id": "a", "type": "double", "label": {"en": "A"}, "default": 0.5, "minimum": 0, "maximum": 1}
CHOICE = {
    "id": "a",
    "type": "choice",
    "label": {"en": "A"},
    "default": "x",
    "values": [{"id": "x", "name": {"en": "X"}}],
}
BROKEN = {
    "an id of other characters": [{**BOOLEAN, "id": "slice_deadline"}],
    "an id twice": [BOOLEAN, BOOLEAN],
    "too many": [{**BOOLEAN, "id": f"a{number}"} for number in range(15)],
    "no such type": [{**BOOLEAN, "type": "bool"}],
    "no label": [{name: value for name, value in BOOLEAN.items() if name != "label"}],
    "no English": [{**BOOLEAN, "label": {"de": "A"}}],
    "no default": [{name: value for name, value in BOOLEAN.items() if name != "default"}],
    "a member that is none": [{**BOOLEAN, "minimum": 0}],
    "hundredths": [{**NUMBER, "default": 0.25}],
    "beyond its bounds": [{**NUMBER, "default": 1.5}],
    "a long unit": [{**NUMBER, "unit": {"en": "seconds"}}],
    "a fraction as a whole number": [{**NUMBER, "type": "int"}],
    "beyond 32 bits": [{**NUMBER, "type": "int", "default": 1, "maximum": 2**31}],
    "a default that is no choice": [{**CHOICE, "default": "y"}],
    "no choices": [{**CHOICE, "values": []}],
    "one choice twice": [{**CHOICE, "values": CHOICE["values"] * 2}],
}


@pytest.mark.parametrize("name", BROKEN)
def test_rules_of_parameters(name: str) -> None:
    whole = made()
    OpenReconLabel.model_validate({**whole, "parameters": [BOOLEAN]})
    with pytest.raises(ValidationError):
        OpenReconLabel.model_validate({**whole, "parameters": BROKEN[name]})


@pytest.mark.parametrize(
    ("group", "member", "value"),
    [
        ("general", "version", "1.2"),
        ("general", "extra", "x"),
        ("reconstruction", "emitter", "kspace"),
        ("reconstruction", "min_count_required_cpu_cores", 0),
        ("reconstruction", "content_qualification_type", "CLINICAL"),
        ("reconstruction", "transfer_protocol", {"protocol": "ISMRMRD", "version": "2.0"}),
    ],
)
def test_rules_of_the_rest(group: str, member: str, value: Any) -> None:
    whole = made()
    with pytest.raises(ValidationError):
        OpenReconLabel.model_validate({**whole, group: {**whole[group], member: value}})


def test_a_label_that_breaks_a_rule_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recond_gateway.config.openrecon.PARAMETERS", PARAMETERS * 2)
    with pytest.raises(ConfigurationError, match="breaks a rule of OpenRecon"):
        made()


def test_the_command(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(
        '[label]\nname = "Head"\n[label.regulatory]\nmade_in = "DE"\n[pipelines.brain]\nheads = ["tissue"]\n'
    )
    plain = label("--config", str(config))
    assert plain.exit_code == 0, plain.output
    whole = json.loads(plain.output)
    assert whole["general"]["name"] == {"en": "Head"}
    packed = label("--config", str(config), "--base64")
    assert json.loads(base64.b64decode(packed.output, validate=False)) == whole
    assert len(packed.output.splitlines()) == 1
    config.write_text('[label]\nversion = "one"\n')
    refused = label("--config", str(config))
    assert refused.exit_code == 2
    assert "label.version" in refused.output
