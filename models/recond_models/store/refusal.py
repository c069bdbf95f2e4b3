"""How commands of the store end when it refuses something."""

from __future__ import annotations

from typing import Final, NoReturn

import click

from recond_models.store.errors import StoreError

_BAD_INPUT: Final = 3  # exit code, as everywhere in the command line


def refuse(error: StoreError) -> NoReturn:
    """Print why, and end with the exit code for bad input."""
    click.echo(f"recond: {error}\n  ({error.reason})", err=True)
    raise click.exceptions.Exit(_BAD_INPUT)
