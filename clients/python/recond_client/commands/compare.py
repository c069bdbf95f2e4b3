"""``recond compare``: scans of a patient, and what changed between them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import click

from recond_client.analysis import Comparison, Visit, compare_request
from recond_client.cli import EXIT_FAILED, EXIT_INTERRUPTED
from recond_client.commands.connection import Connection, connection_options
from recond_client.commands.display import print_json
from recond_client.commands.display_follow_up import comparison_object, print_comparison
from recond_client.commands.outputs import check_output, ending_of
from recond_client.result import write_atomically
from recond_client.spec import PRIORITIES, Priority

_ENDINGS = (".json", ".csv", ".png")
_NIFTI = (".nii.gz", ".nii")
_USUAL_HEADS = ("lesion", "tissue")


def _visit(images: Path, date: str, heads: Sequence[str], *, beside: bool) -> Visit:
    """Return a visit, with the label maps that lie beside its images as `recond analyze` writes them."""
    labels: dict[str, Path] = {}
    ending = next((ending for ending in _NIFTI if images.name.endswith(ending)), "")
    if beside and ending:
        stem = images.name.removesuffix(ending)
        names = (head.partition("@")[0] for head in heads)
        found = {head: images.with_name(f"{stem}_{head}.nii.gz") for head in names}
        labels = {head: path for head, path in found.items() if path.is_file()}
    return Visit(images, date, str(images), labels)


def _that_exist(
    names: Sequence[str], visits: Sequence[Visit], served: Collection[str]
) -> tuple[tuple[str, ...], list[Visit]]:
    """Return the heads that are served or whose label maps all visits bring, and the visits with the label maps of these."""
    kept = tuple(name for name in names if name in served or all(name in visit.labels for visit in visits))
    return kept, [
        replace(visit, labels={head: path for head, path in visit.labels.items() if head in kept}) for visit in visits
    ]


@click.command()
@click.argument("scans", metavar="PRIOR CURRENT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--heads",
    metavar="NAMES",
    default="",
    help="Heads to compare, separated by commas. Default: those of lesion and tissue that the service has, "
    "or whose label maps lie beside all scans.",
)
@click.option(
    "--date", "dates", metavar="YYYY-MM-DD", multiple=True, help="Date of each scan, in their order; rates need them."
)
@click.option(
    "--patient",
    metavar="PSEUDONYM|TABLE",
    default="",
    help="Pseudonym, as in the clinical rows; or the table of these, if they are of this patient alone.",
)
@click.option(
    "--clinical",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Table (CSV) with patient, date, therapy, medication and so on; it is joined by the pseudonym.",
)
@click.option(
    "--labels/--no-labels",
    "beside",
    default=True,
    help="Take label maps that lie beside the scans, SCAN_lesion.nii.gz, in place of running the head. Default: take them.",
)
@click.option(
    "-o",
    "--output",
    "outputs",
    metavar="OUT",
    multiple=True,
    type=click.Path(path_type=Path),
    help="File to write, by its ending: .json, .csv, or .png with the last two scans side by side, and OUT_timeline.png beside it. "
    "May be given several times.",
)
@click.option("--priority", type=click.Choice(list(PRIORITIES)), default="clinical", show_default=True)
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Give up after this long."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@connection_options
def compare(
    scans: tuple[Path, ...],
    *,
    heads: str,
    dates: tuple[str, ...],
    patient: str,
    clinical: Path | None,
    beside: bool,
    outputs: tuple[Path, ...],
    priority: Priority,
    timeout: float | None,
    as_json: bool,
    server: str | None,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
) -> None:
    """Compare scans of one patient, the oldest first: what became of each lesion and structure.

    PRIOR and CURRENT are images as for recond analyze; there may be more, or one alone, which has nothing to be compared with.
    """
    for target in outputs:
        check_output(target, scans, _ENDINGS)
    if patient.endswith(".csv") and clinical is None:
        clinical, patient = Path(patient), ""
    if dates and len(dates) != len(scans):
        msg = f"{len(dates)} dates for {len(scans)} scans: give one for each, or none"
        raise click.BadParameter(msg, param_hint="--date")
    asked = tuple(name.strip() for name in heads.split(",") if name.strip())
    names = asked or _USUAL_HEADS
    visits = [
        _visit(scan, date, names, beside=beside) for scan, date in zip(scans, dates or ("",) * len(scans), strict=True)
    ]
    compare_request(
        visits, names, patient, clinical, priority
    )  # what is wrong with the files shows before a service is started
    try:
        with Connection(server, ca, certificate, key).open() as client:
            if not asked:
                names, visits = _that_exist(names, visits, {head.name for head in client.heads()})
            result = client.compare(
                visits, heads=names, patient=patient, clinical_rows=clinical, priority=priority, timeout=timeout
            )
    except KeyboardInterrupt:
        click.echo("recond: stopped; nothing was written", err=True)
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
    written: list[Path] = []
    for target in outputs:
        try:
            written += _write(result, target)
        except OSError as error:
            click.echo(f"recond: {target} cannot be written: {error.strerror}", err=True)
            raise click.exceptions.Exit(EXIT_FAILED) from error
    if as_json:
        print_json(comparison_object(result, written))
    else:
        print_comparison(result, written)


def _write(result: Comparison, target: Path) -> list[Path]:
    """Write what goes with the ending of a path; return the files."""
    ending = ending_of(target, _ENDINGS)
    if ending == ".json":
        text = json.dumps(comparison_object(result, []), indent=2, ensure_ascii=False)
        write_atomically(target, text.encode())
        return [target]
    if ending == ".csv":
        write_atomically(target, result.table.encode())
        return [target]
    written = []
    for name, picture in result.pictures.items():
        path = (
            target if name == "comparison" else target.with_name(f"{target.name.removesuffix(ending)}_{name}{ending}")
        )
        write_atomically(path, picture)
        written.append(path)
    return written
