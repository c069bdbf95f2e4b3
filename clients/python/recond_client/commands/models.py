"""``recond models``: which models a service has."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from recond_client.commands.connection import Connection, connection_options
from recond_client.commands.display import print_history, print_json, print_model, print_models
from recond_client.late import LateGroup


@click.group(
    cls=LateGroup,
    entry_group="recond.commands.models",
    about={
        "add": "Add trained weights in a file to the models of this machine.",
        "remove": "Remove a model, or one version of it, that was added on this machine.",
        "promote": "Have a version of a model run when its name is asked for.",
        "rollback": "Have the version run again that ran before.",
        "canary": "Try a version of a model out on a share of its requests.",
    },
)
def models() -> None:
    """Show which models a service has and how they came to be; add trained ones, and say which of their versions run."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@connection_options
def list_models(
    *, as_json: bool, server: str | None, ca: Path | None, certificate: Path | None, key: Path | None
) -> None:
    """List the models and heads."""
    with Connection(server, ca, certificate, key).open() as client:
        found, heads = client.models(), client.heads()
    if as_json:
        print_json({"models": [asdict(model) for model in found], "heads": [asdict(head) for head in heads]})
    else:
        print_models([*found, *heads])


@models.command("show")
@click.argument("name")
@click.option("--model-version", default="", help="Version of the model. Default: the one that runs for NAME.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@connection_options
def show_model(
    name: str,
    *,
    model_version: str,
    as_json: bool,
    server: str | None,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
) -> None:
    """Show the model NAME, or NAME@VERSION."""
    with Connection(server, ca, certificate, key).open() as client:
        found = client.model(name, model_version)
    if as_json:
        print_json(asdict(found))
    else:
        print_model(found)


@models.command("history")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@connection_options
def show_history(
    name: str, *, as_json: bool, server: str | None, ca: Path | None, certificate: Path | None, key: Path | None
) -> None:
    """Show the versions of the model NAME: how they came to be, which one runs, and how they did since the service was started."""
    with Connection(server, ca, certificate, key).open() as client:
        found = client.model_history(name)
    if as_json:
        print_json({"name": name, **asdict(found)})
    else:
        print_history(found)
