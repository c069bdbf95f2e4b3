"""The commands `recond models add` and `recond models remove`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.console import Console

from recond_models.contract import Contract, Range
from recond_models.store import folders
from recond_models.store.errors import StoreError, UnsafeNameError
from recond_models.store.manifest import check_name
from recond_models.store.place import remove_model

if TYPE_CHECKING:
    from recond_models.store.add import Added

_BAD_INPUT = 3  # exit code, as everywhere in the command line


class _Range(click.ParamType):  # type: ignore[type-arg] # generic from click 8.4 on only
    """One number, or LEAST:MOST."""

    name = "LEAST:MOST"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Range:
        """Return (least, most) for ``LEAST:MOST``, the same number twice for one."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = [float(part) for part in str(value).split(":")]
            limits = (numbers[0], numbers[-1])
            Contract(acceleration=limits)
        except ValueError:
            numbers = []
        if len(numbers) not in {1, 2}:
            self.fail(f"{value!r} is neither a positive number nor two such as 4:8, the smaller first", param, ctx)
        return limits


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--as", "name", metavar="NAME", default="", help="Name of the model. Default: after the file.")
@click.option("--version", default="", help="Its version. Default: 1.")
@click.option("--sha256", metavar="HEX", default="", help="SHA-256 that FILE must have.")
@click.option("--force", is_flag=True, help="Replace a model that was added under that name.")
@click.option("--anatomy", default="", help="What the training data showed, such as knee.")
@click.option("--contrast", default="", help="Contrasts of the training data, such as 'PD, PD with fat saturation'.")
@click.option(
    "--pattern",
    "patterns",
    multiple=True,
    type=click.Choice(["full", "uniform", "irregular", "two-dimensional"]),
    help="Sampling that it was trained on; may be given several times.",
)
@click.option("--acceleration", type=_Range(), help="Accelerations that it was trained on, such as 4:8.")
@click.option("--coils", type=_Range(), help="Numbers of coils that it was trained on, such as 4:20.")
@click.option("--licence", default="", help="Licence of the weights.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def add(
    file: Path,
    *,
    name: str,
    version: str,
    sha256: str,
    force: bool,
    anatomy: str,
    contrast: str,
    patterns: tuple[Any, ...],
    acceleration: Range | None,
    coils: Range | None,
    licence: str,
    as_json: bool,
) -> None:
    """Add trained weights in FILE to the models of this machine.

    FILE is a bare state dict (.pt, .pth), a Lightning checkpoint (.ckpt) or a safetensors file of a network with fastMRI's names,
    or the folder of a model that recond wrote, as recond train does.
    What the options say about the training becomes the model's contract: data outside it are reconstructed with a warning.
    """
    try:
        from recond_models.store.add import AddRequest, add_model  # noqa: PLC0415 - loads torch
    except ModuleNotFoundError as error:
        raise click.UsageError(
            f"'recond models add' needs the module {error.name!r}, which is not installed: pip install 'recond[server]'"
        ) from error
    contract = Contract(patterns, acceleration, coils, anatomy=anatomy, contrast=contrast)
    request = AddRequest(file, name, version, sha256, force, contract, licence)
    console = Console(stderr=True)
    try:
        if console.is_terminal and not as_json:
            with console.status("") as status:
                added = add_model(request, lambda step: status.update(f"{step} ..."))
        else:
            added = add_model(request)
    except StoreError as error:
        _refuse(error)
    if as_json:
        click.echo(json.dumps(added.to_json(), indent=2, ensure_ascii=False))
    else:
        _show(added)


@click.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove the model NAME, which was added on this machine."""
    try:
        check_name(name)
        remove_model(folders.models_folder(), name)
    except UnsafeNameError as error:
        _refuse(error)
    except OSError as error:
        _refuse(StoreError(f"no model {name} was added on this machine ({folders.models_folder()}): {error.strerror}"))
    click.echo(f"removed {name}")


def _show(added: Added) -> None:
    """Print what was added, for people."""
    manifest = added.packaged.manifest
    click.echo(f"{manifest.name} {manifest.version}: {manifest.family}, {manifest.parameters} weights")
    if added.recognised.left_out:
        left_out = ", ".join(added.recognised.left_out[:5])
        click.echo(f"left out, because they are not part of the network: {left_out}")
    click.echo(f"tried out on a simulated phantom in {added.packaged.seconds:.2f} s")
    click.echo(f"wrote {added.packaged.folder}")
    click.echo(f"use it: recond reconstruct INPUT --model {manifest.name}")


def _refuse(error: StoreError) -> NoReturn:
    """End with the exit code for bad input."""
    click.echo(f"recond: {error}\n  ({error.reason})", err=True)
    raise click.exceptions.Exit(_BAD_INPUT)
