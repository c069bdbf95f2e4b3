"""``recond triton``: model repositories for Triton Inference Servers."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from recond_models import registry
from recond_models.model import UnknownModelError
from recond_service.backends.triton.repository import Device, ExportOptions, export_model

_USAGE, _BAD_INPUT = 2, 3  # exit codes, as everywhere in the command line


@click.group()
def triton() -> None:
    """Triton Inference Servers as model servers."""


@triton.command()
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--model", "names", metavar="NAME", multiple=True, help="Model to write; may be repeated. Default: all.")
@click.option("--instances", type=click.IntRange(min=1), default=1, show_default=True, help="Instances of each model.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of each instance.")
@click.option(
    "--device", type=click.Choice(["cpu", "gpu"]), default="cpu", show_default=True, help="Where the instances compute."
)
def export(directory: Path, names: tuple[str, ...], instances: int, threads: int, device: Device) -> None:
    """Write a model repository that ``tritonserver --model-repository=DIR`` serves.

    Trained models are copied into it. The Python of the Triton server needs recond with the server extra, of this version.
    """
    options = ExportOptions(instances, threads, device)
    try:
        chosen = [registry.find(name) for name in names]
    except UnknownModelError as error:
        click.echo(f"recond triton export: {error.args[0]}", err=True)
        sys.exit(_USAGE)
    plugins = [info.name for info in chosen if info.origin == "plug-in"]
    if plugins:
        click.echo(f"recond triton export: {plugins[0]} is a plug-in, which only workers of recond serve run", err=True)
        sys.exit(_USAGE)
    for info in chosen or [info for info in registry.available() if info.origin != "plug-in"]:
        try:
            folder = export_model(directory, info, options)
        except OSError as error:
            click.echo(f"recond triton export: {info.name} cannot be written to {directory}: {error}", err=True)
            sys.exit(_BAD_INPUT)
        click.echo(f"{info.name} {info.version}: {folder}")
