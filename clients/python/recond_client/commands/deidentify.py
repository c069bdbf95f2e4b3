"""``recond deidentify``: a raw-data file without what tells who was scanned."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from recond_client.commands.display import print_json
from recond_client.commands.outputs import check_output, check_place
from recond_client.privacy.files import DeidentifiedFile, deidentify_file
from recond_client.privacy.key_file import KEY_BYTES, create_key, read_key
from recond_client.privacy.patient_map import PatientMap
from recond_client.privacy.profile import Area, Profile
from recond_client.privacy.recond_mrd_1 import RECOND_MRD_1

_ENDINGS = (".h5", ".mrd", ".hdf5")


@dataclass(frozen=True)
class _Key:
    """The key of this call, and where it came from."""

    key: bytes
    made: bool


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="File to write, .h5 or .mrd; never FILE itself. Without it nothing is written, as with --show.",
)
@click.option(
    "--map",
    "map_file",
    metavar="MAP",
    type=click.Path(path_type=Path),
    help="New file for what was taken out, encrypted with the key, to be put back on images that return.",
)
@click.option(
    "--key",
    "key_file",
    metavar="KEYFILE",
    type=click.Path(path_type=Path),
    help="The key of the site: with the same key the same UIDs and names get the same replacements. A file that is not there is "
    "made. Without it a key is used that nobody keeps.",
)
@click.option("--show", is_flag=True, help="Say what would go, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def deidentify(
    file: Path,
    *,
    output: Path | None,
    map_file: Path | None,
    key_file: Path | None,
    show: bool,
    as_json: bool,
) -> None:
    """Take out of FILE what tells who was scanned, by the profile recond-mrd-1.

    FILE is an ISMRMRD or fastMRI .h5 file, and stays as it is. The values that are taken out are never shown. Faces can be seen in
    images of heads: they are not changed.
    """
    target = None if show else output
    if map_file is not None and key_file is None:
        msg = "--map needs --key: what was taken out is kept encrypted, and is of no use without the key"
        raise click.UsageError(msg)
    if map_file is not None and output is None and not show:
        msg = "--map goes with -o: without a new file there is nothing to put back"
        raise click.UsageError(msg)
    if target is not None:
        check_output(target, [file], _ENDINGS)
    if map_file is not None and map_file.exists():
        msg = f"{str(map_file)!r} exists, and a map is never overwritten: choose another name"
        raise click.BadParameter(msg, param_hint="--map")
    if target is not None and map_file is not None:
        check_place(map_file, [file, target], "--map")
        PatientMap().encrypt(bytes(KEY_BYTES))  # what is missing for it shows before anything is written
    key = _key(key_file, write=target is not None)
    done = deidentify_file(file, target, RECOND_MRD_1, key=key.key)
    if target is not None and map_file is not None:
        done.map.write(map_file, key.key)
    written = [path for path in (target, map_file if target is not None else None) if path is not None]
    if key.made and key_file is not None:
        written.append(key_file)
    if as_json:
        print_json(_object(done, RECOND_MRD_1, file, target, written))
    else:
        _print(done, RECOND_MRD_1, target, written)


def _key(path: Path | None, *, write: bool) -> _Key:
    if path is None or (not write and not path.exists()):
        return _Key(secrets.token_bytes(KEY_BYTES), made=False)
    if path.exists():
        return _Key(read_key(path), made=False)
    return _Key(create_key(path), made=True)


def _object(
    done: DeidentifiedFile, profile: Profile, file: Path, target: Path | None, written: list[Path]
) -> dict[str, object]:
    return {
        "profile": profile.name,
        "input": str(file),
        "output": None if target is None else str(target),
        "removed": [
            {
                "area": each.area.value,
                "place": each.place,
                "action": each.action.letter,
                "said": each.action.said,
                "count": each.count,
            }
            for each in done.removed
        ],
        "outputs": [str(path) for path in written],
    }


def _print(done: DeidentifiedFile, profile: Profile, target: Path | None, written: list[Path]) -> None:
    console = Console()
    table = Table(Column("place", overflow="fold"), Column("values", justify="right"), "what", box=box.SIMPLE_HEAD)
    for area in Area:
        found = [each for each in done.removed if each.area is area]
        if found:
            table.add_row(Text(area.value, style="bold"))
        for each in found:
            table.add_row(Text(f"  {each.place}"), f"{each.count}", each.action.said)
    if table.row_count:
        console.print(table)
    said = "What was done" if target is not None else "What would be done; nothing was written, -o OUT writes it"
    console.print(Text(f"{said}. Profile {profile.name}."), soft_wrap=True)
    for path in written:
        console.print(Text(f"wrote {path}"), soft_wrap=True)
