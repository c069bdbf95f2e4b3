"""``recond gateway replay``: a file played to a gateway as a scanner would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from recond_client.cli import EXIT_FAILED, EXIT_INPUT
from recond_client.commands.display import print_json
from recond_client.commands.outputs import check_output
from recond_gateway.mrd.writer import NulConvention
from recond_gateway.replay.arrivals import Replay
from recond_gateway.replay.console import print_arrival, print_replay, replay_object
from recond_gateway.replay.outputs import ENDINGS, write_images
from recond_gateway.replay.raw_file import RawFile
from recond_gateway.replay.scanner import Scanner
from recond_gateway.replay.session import ScannerOptions
from recond_gateway.replay.timing import Rate


def _rate(_context: click.Context, _parameter: click.Parameter, value: str) -> Rate:
    try:
        return Rate.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _address(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        msg = f"{value!r} is not HOST:PORT, for example localhost:9002"
        raise click.BadParameter(msg)
    return host.strip("[]"), int(port)


def _parameters(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Return the TEXT that carries the parameters; a bare object of them gets the frame that scanners put around."""
    if not value:
        return value
    try:
        given: Any = json.loads(value)
    except ValueError as error:
        msg = f"it is not JSON: {error}"
        raise click.BadParameter(msg) from error
    if not isinstance(given, dict):
        msg = 'it is not a JSON object, such as \'{"model": "auto"}\''
        raise click.BadParameter(msg)
    return json.dumps(given if isinstance(given.get("parameters"), dict) else {"parameters": given})


@click.command()
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--to", "address", metavar="HOST:PORT", required=True, callback=_address, help="Where the gateway listens."
)
@click.option("--config", metavar="NAME", default="default", show_default=True, help="Name of the configuration.")
@click.option(
    "--config-text",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with a configuration to send in place of a name.",
)
@click.option(
    "--rate",
    metavar="REAL|MAX|FACTORx",
    default="REAL",
    show_default=True,
    callback=_rate,
    help="As it was measured, by time stamps or else TR; as fast as it is taken; or a multiple such as 2x.",
)
@click.option(
    "--parameters",
    metavar="JSON",
    callback=_parameters,
    help="Parameters to send behind the header. Default: those in FILE; '' for none.",
)
@click.option(
    "-o",
    "--output",
    "outputs",
    metavar="OUT",
    multiple=True,
    type=click.Path(path_type=Path),
    help="File for the images, by its ending: .h5 (ISMRMRD images), .npz or .png. May be given several times.",
)
@click.option(
    "--nul",
    type=click.Choice([convention.value for convention in NulConvention]),
    default="none",
    show_default=True,
    help="Which texts end with a NUL, as those of the FIRE client or of pulserver do.",
)
@click.option("--group", metavar="NAME", default="dataset", show_default=True, help="Group of the scan in FILE.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    default=300.0,
    show_default=True,
    help="Give up when nothing moves for this long.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def replay(
    source: Path,
    *,
    address: tuple[str, int],
    config: str,
    config_text: Path | None,
    rate: Rate,
    parameters: str | None,
    outputs: tuple[Path, ...],
    nul: str,
    group: str,
    timeout: float,
    as_json: bool,
) -> None:
    """Play the raw ISMRMRD FILE to a gateway as a scanner would, and show what comes back.

    Exit codes: 0 the scan went through, 3 bad file or the gateway's ERROR line, 4 no gateway, 5 failed.
    """
    if len(config.encode()) > 1023:
        msg = "a name may have 1023 bytes"
        raise click.BadParameter(msg, param_hint="--config")
    targets = tuple({target.resolve(): target for target in outputs}.values())
    for target in targets:
        check_output(target, [source], ENDINGS)
    options = ScannerOptions(
        config=config if config_text is None else config_text.read_text(encoding="utf-8"),
        rate=rate,
        parameters=parameters,
        nul=NulConvention(nul),
        config_is_text=config_text is not None,
        keep_pixels=bool(targets),
        timeout=timeout,
    )
    with RawFile(source, group) as file:
        played = Scanner(*address, options).play(file, None if as_json else print_arrival)
        written = _write(targets, played, file.xml)
    if as_json:
        print_json(replay_object(played, written))
    else:
        print_replay(played, written)
    _end(played)


def _write(targets: tuple[Path, ...], played: Replay, xml: bytes) -> tuple[Path, ...]:
    """Write the files, if there is anything to write."""
    if not played.images:
        return ()
    for target in targets:
        try:
            write_images(target, played.images, xml)
        except OSError as error:
            click.echo(f"recond: {target} cannot be written: {error.strerror or error}", err=True)
            raise click.exceptions.Exit(EXIT_FAILED) from error
    return targets


def _end(played: Replay) -> None:
    """End with the exit code that goes with what came of it."""
    verdict = played.verdict
    if verdict is not None and verdict.failed:
        click.echo(f"recond: the gateway says: {verdict.text}", err=True)
        raise click.exceptions.Exit(EXIT_INPUT)
    if played.failure is not None:
        raise played.failure
    if verdict is None and not played.images:
        click.echo("recond: nothing came back: no image, and no INFO or ERROR line", err=True)
        raise click.exceptions.Exit(EXIT_FAILED)
