"""The container for OpenRecon: what its recipe says goes together with the gateway. It is not built here."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click

from recond_gateway.commands import gateway
from recond_gateway.config import LABEL_NAME, load_settings, openrecon_label

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "openrecon"
RECIPE = (FOLDER / "Dockerfile").read_text()
SETTINGS = load_settings(FOLDER / "gateway.toml", {})


def steps(name: str) -> list[str]:
    """What stands behind an instruction, lines that go on joined."""
    joined = re.sub(r"\\\n\s*", "", RECIPE)
    return [line.split(maxsplit=1)[1] for line in joined.splitlines() if line.startswith(f"{name} ")]


def test_the_label_hangs_where_openrecon_looks_and_is_checked_in_the_build() -> None:
    (written,) = steps("LABEL")
    assert written == f'"{LABEL_NAME}"="$OPENRECON_LABEL"'
    assert steps("ARG") == ["OPENRECON_LABEL"]
    (check,) = [step for step in steps("RUN") if "OPENRECON_LABEL" in step]
    assert '"$(recond gateway label --config /etc/recond/gateway.toml --base64)" = "$OPENRECON_LABEL"' in check
    assert RECIPE.index("gateway.toml /etc") < RECIPE.index("RUN test")


def test_it_runs_as_root_on_the_port_of_the_label() -> None:
    assert not steps("USER")
    label = openrecon_label(SETTINGS)
    (listen,) = SETTINGS.listen
    assert steps("EXPOSE") == [str(label.reconstruction.port)] == [str(listen.port)]
    assert not listen.loopback
    assert all(network.is_private for network in listen.scanner_network)


def test_the_command_exists() -> None:
    (command,) = steps("CMD")
    program, group, *rest = json.loads(command)
    assert (program, group) == ("recond", gateway.name)
    with click.Context(gateway) as context:
        gateway.parse_args(context, list(rest))
    assert rest == ["--config", "/etc/recond/gateway.toml"]
    assert SETTINGS.service.server == ""


def test_what_is_copied_is_there_and_not_ignored() -> None:
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    for step in steps("COPY"):
        for source in shlex.split(step)[:-1]:
            assert (ROOT / source).exists()
            assert f"!{source}" in ignored or f"!{Path(source).parent}" in ignored


def test_the_console_may_choose_each_pipeline_and_gets_integers() -> None:
    (config,) = [each for each in openrecon_label(SETTINGS).parameters if each.id == "config"]
    names = [choice.id for choice in config.values]
    assert sorted(names) == sorted(SETTINGS.pipelines)
    for name in names:
        pipeline, _ = SETTINGS.pipeline(name, SETTINGS.listen[0])
        assert pipeline.pixels == "int16"
        assert "complex" not in pipeline.outputs or SETTINGS.label.injector == "compleximage"
