"""``recond doctor``: what is in a file of raw data, and what would happen with it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console

from recond_service.doctor import Report, examine, render
from recond_service.scan.examine import examine_confined
from recond_service.types import Part, PartFormat, PartRole, ScanRequest

_BAD_INPUT = 3  # exit code, as everywhere in the command line


def request_for(path: Path) -> ScanRequest:
    """Return a request for a file; a BART `.cfl` brings the `.hdr` beside it.

    Parameters
    ----------
    path
        An ISMRMRD or fastMRI file, or either file of a BART pair.
    """
    if path.suffix.lower() in {".cfl", ".hdr"}:
        samples, header = _beside(path, ".cfl"), _beside(path, ".hdr")
        parts = [_part(PartRole.KSPACE, PartFormat.BART_CFL, samples)]
        if header.exists():
            parts.append(_part(PartRole.KSPACE_HEADER, PartFormat.BART_HDR, header))
        return ScanRequest(parts=tuple(parts))
    return ScanRequest(parts=(_part(PartRole.KSPACE, PartFormat.UNSPECIFIED, path),))


def _beside(path: Path, ending: str) -> Path:
    """Return the file of a BART pair that has this ending, in capitals if only that exists."""
    if path.suffix.lower() == ending:
        return path
    small, capital = path.with_suffix(ending), path.with_suffix(ending.upper())
    return capital if (path.suffix.isupper() and capital.exists()) or not small.exists() else small


def _part(role: PartRole, format_: PartFormat, path: Path) -> Part:
    size = path.stat().st_size if path.exists() else 0
    name = os.fsencode(path.name).decode(errors="replace")  # file names need not be UTF-8
    return Part(role, format_, name, size, (), str(path))


def run_doctor(path: Path, *, as_json: bool, examination: Callable[[ScanRequest], Report] = examine) -> Report:
    """Examine a file and print the report.

    Parameters
    ----------
    path
        The file.
    as_json
        Print one JSON object in place of a table.
    examination
        What examines: the function itself, or one that has it done in another process.
    """
    report = examination(request_for(path))
    if as_json:
        click.echo(json.dumps(report.to_json()))
    else:
        render(report, Console())
    return report


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(file: Path, *, as_json: bool) -> None:
    """Say what is in FILE, what is odd about it, and which model would reconstruct it.

    Exits with 3 if the service would refuse the file.
    """
    request = request_for(file)
    # A pipe would block for ever: nothing may be opened before this.
    odd = next(
        (part.path for part in request.parts if Path(part.path).exists() and not Path(part.path).is_file()), None
    )
    if odd is not None:
        click.echo(f"recond: {odd} is not a regular file: copy its contents to a file first.", err=True)
        sys.exit(_BAD_INPUT)
    if run_doctor(file, as_json=as_json, examination=examine_confined).refused is not None:
        sys.exit(_BAD_INPUT)
