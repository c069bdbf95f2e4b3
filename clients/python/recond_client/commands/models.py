"""``recond models``: which models a service has."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from recond_client.commands.connection import Connection, connection_options
from recond_client.commands.display import print_json, print_model, print_models
from recond_client.late import LateGroup


@click.group(
    cls=LateGroup,
    entry_group="recond.commands.models",
    about={
        "add": "Add trained weights in a file to the models of this machine.",
        "remove": "Remove a model that was added on this machine.",
    },
)
def models() -> None:
    """Show which models a service has; add and remove trained ones."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@connection_options
def list_models(
    *, as_json: bool, server: str | None, ca: Path | None, certificate: Path | None, key: Path | None
) -> None:
    """List the models."""
    with Connection(server, ca, certificate, key).open() as client:
        found = client.models()
    if as_json:
        print_json({"models": [asdict(model) for model in found]})
    else:
        print_models(found)


@models.command("show")
@click.argument("name")
@click.option("--model-version", default="", help="Version of the model. Default: the newest.")
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
    """Show the model NAME."""
    with Connection(server, ca, certificate, key).open() as client:
        found = client.model(name, model_version)
    if as_json:
        print_json(asdict(found))
    else:
        print_model(found)
