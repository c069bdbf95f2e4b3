"""``recond gateway label``: the label of an OpenRecon container."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from recond_client.errors import RecondError
from recond_gateway.config import load_settings, openrecon_label

_USAGE: Final = 2


@click.command()
@click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file of the gateway: its group [label] and its pipelines.",
)
@click.option("--base64", "as_base64", is_flag=True, help="Print it as an image carries it: base64, in one line.")
def label(config: Path | None, *, as_base64: bool) -> None:
    """Print the label of an OpenRecon container with this gateway: what the scanner's user interface shows and sends.

    Its parameters are those that the gateway reads, and it is checked against the rules of OpenRecon's schema 1.1.0.
    """
    try:
        made = openrecon_label(load_settings(config, {}))
    except RecondError as error:
        click.echo(f"recond gateway label: {error}", err=True)
        sys.exit(_USAGE)
    click.echo(made.base64_text() if as_base64 else made.json_text())
