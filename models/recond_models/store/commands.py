"""The commands `recond models add` and `recond models remove`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from recond_models.contract import Contract, Range
from recond_models.store import folders
from recond_models.store.errors import StoreError
from recond_models.store.lineage import Lineage
from recond_models.store.manifest import check_name
from recond_models.store.place import promoted_version, remove_model
from recond_models.store.refusal import refuse

if TYPE_CHECKING:
    from recond_models.store.add import Added


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
@click.option("--force", is_flag=True, help="Replace the version, if it is there, and have it run for NAME.")
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
@click.option("--parent", default="", help="Model whose weights it began with, such as NAME@VERSION.")
@click.option(
    "--lineage",
    "lineage_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON file with some of parent, hyperparameters, metrics and data: how it came to be.",
)
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
    parent: str,
    lineage_file: Path | None,
    as_json: bool,
) -> None:
    """Add trained weights, or an exported program, in FILE to the models of this machine.

    FILE is a bare state dict (.pt, .pth), a Lightning checkpoint (.ckpt) or a safetensors file of a network with fastMRI's names,
    a reconstruction that torch.export wrote (.pt2), the folder of a model that recond wrote, as recond train does, or a folder with
    a head that torch.export wrote: program.pt2 and manifest.json.
    What the options say about the training becomes the model's contract: data outside it are reconstructed with a warning.
    Another --version of a model that is there is kept beside it, and runs once it is promoted.
    """
    try:
        from recond_models.store.add import AddRequest, add_model  # noqa: PLC0415 - loads torch
    except ModuleNotFoundError as error:
        raise click.UsageError(
            f"'recond models add' needs the module {error.name!r}, which is not installed: pip install 'recond[server]'"
        ) from error
    contract = Contract(patterns, acceleration, coils, anatomy=anatomy, contrast=contrast)
    console = Console(stderr=True)
    try:
        lineage = _lineage(lineage_file, parent)
        request = AddRequest(file, name, version, sha256, force, contract, licence, lineage)
        if console.is_terminal and not as_json:
            with console.status("") as status:
                added = add_model(request, lambda step: status.update(f"{step} ..."))
        else:
            added = add_model(request)
    except StoreError as error:
        refuse(error)
    if as_json:
        click.echo(json.dumps(added.to_json(), indent=2, ensure_ascii=False))
    else:
        _show(added)


@click.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove the model NAME with all its versions, or the version NAME@VERSION, which was added on this machine."""
    try:
        plain, _, version = name.partition("@")
        check_name(plain)
        remove_model(folders.models_folder(), plain, version)
    except StoreError as error:
        refuse(error)
    except OSError as error:
        refuse(StoreError(f"no model {name} was added on this machine ({folders.models_folder()}): {error.strerror}"))
    click.echo(f"removed {name}")


def _lineage(file: Path | None, parent: str) -> Lineage:
    """Return what was stated about how a model came to be."""
    try:
        stated = {} if file is None else json.loads(file.read_text(encoding="utf-8"))
        if parent and isinstance(stated, dict):
            stated = {**stated, "parent": parent}
        return Lineage.from_json(stated)
    except (OSError, TypeError, ValueError) as error:
        raise StoreError(f"the lineage in {file} cannot be used: {error}") from error


def _show(added: Added) -> None:
    """Print what was added, for people."""
    manifest = added.packaged.manifest
    click.echo(f"{manifest.name} {manifest.version}: {manifest.family}, {manifest.parameters} weights")
    if added.recognised.left_out:
        left_out = ", ".join(added.recognised.left_out[:5])
        click.echo(f"left out, because they are not part of the network: {left_out}")
    option = "--model" if manifest.head is None else "--heads"
    click.echo(f"tried out on a simulated phantom in {added.packaged.seconds:.2f} s")
    click.echo(f"wrote {added.packaged.folder}")
    runs = promoted_version(folders.models_folder(), manifest.name)
    if runs == manifest.version:
        click.echo(f"use it: recond reconstruct INPUT {option} {manifest.name}")
        return
    click.echo(
        f"{manifest.name} still runs {runs}; use this one: recond reconstruct INPUT {option} {manifest.name}@{manifest.version}"
    )
    click.echo(f"or have it run: recond models promote {manifest.name} {manifest.version}")
