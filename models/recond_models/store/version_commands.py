"""The commands `recond models promote`, `rollback` and `canary`: which version of an added model runs on this machine."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import click

from recond_models.store import folders
from recond_models.store.errors import StoreError
from recond_models.store.manifest import check_name
from recond_models.store.place import promoted_version, versions_in
from recond_models.store.refusal import refuse
from recond_models.store.versions import VersionState, promote, roll_back, start_canary, stop_canary

_SEEN = "services on this machine follow within a second"


@click.command("promote")
@click.argument("name")
@click.argument("version")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def promote_command(name: str, version: str, *, as_json: bool) -> None:
    """Have VERSION run when the model NAME is asked for."""
    place = folders.models_folder()
    with _refusing():
        check_name(name)
        state = promote(place, name, version, _known(name), promoted_version(place, name))
    _tell(name, state, f"{name} now runs {version}; {_SEEN}", as_json=as_json)


@click.command("rollback")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def rollback_command(name: str, *, as_json: bool) -> None:
    """Have the version of the model NAME run again that ran before the promoted one."""
    with _refusing():
        check_name(name)
        state = roll_back(folders.models_folder(), name, _known(name))
    _tell(name, state, f"{name} runs {state.promoted} again; {_SEEN}", as_json=as_json)


@click.command("canary")
@click.argument("name")
@click.argument("version", required=False)
@click.option("--share", type=float, metavar="PART", help="Part of the requests for NAME, such as 0.1.")
@click.option("--stop", is_flag=True, help="Try nothing out any more.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def canary_command(name: str, version: str | None, *, share: float | None, stop: bool, as_json: bool) -> None:
    """Try VERSION out on a share of the requests for the model NAME.

    Where it fails, the promoted version makes the image, and the result says so. Metrics and recond models history compare both.
    """
    if stop == (version is not None or share is not None) or (not stop and (version is None or share is None)):
        raise click.UsageError("give VERSION and --share, or --stop alone")
    place = folders.models_folder()
    with _refusing():
        check_name(name)
        if version is None or share is None:
            state = stop_canary(place, name)
            told = f"no version of {name} is tried out any more; {_SEEN}"
        else:
            state = start_canary(place, name, (version, share), _known(name), promoted_version(place, name))
            told = f"{version} is tried out on {share:.3g} of the requests for {name}; {_SEEN}"
    _tell(name, state, told, as_json=as_json)


def _known(name: str) -> list[str]:
    return [version for version in versions_in(folders.models_folder(), name) if version]


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """End with the exit code for bad input where the store refuses."""
    try:
        yield
    except StoreError as error:
        refuse(error)


def _tell(name: str, state: VersionState, text: str, *, as_json: bool) -> None:
    if not as_json:
        click.echo(text)
        return
    canary: dict[str, Any] | None = None
    if state.canary is not None:
        canary = {"version": state.canary.version, "share": state.canary.share, "since": state.canary.since}
    promoted = promoted_version(folders.models_folder(), name)
    click.echo(json.dumps({"name": name, "promoted": promoted, "canary": canary}, indent=2))
