"""``recond analyze``: heads on images that were reconstructed elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from recond_client.analysis import analysis_upload
from recond_client.cli import EXIT_FAILED, EXIT_INTERRUPTED
from recond_client.commands.connection import Connection, connection_options
from recond_client.commands.display import print_json
from recond_client.commands.display_heads import analysis_object, print_analysis
from recond_client.commands.outputs import check_output, ending_of
from recond_client.spec import PRIORITIES, Priority

_ENDINGS = (".h5", ".nii.gz", ".png")


def _check_spacing(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    if value is None:
        return None
    try:
        spacing = tuple(float(part) for part in value.split(","))
    except ValueError:
        spacing = ()
    if len(spacing) != 3 or not all(0 < step < 1000 for step in spacing):
        msg = f"{value!r} is not SLICES,ROWS,COLUMNS in mm, for example 5,0.9,0.9"
        raise click.BadParameter(msg)
    return spacing


@click.command()
@click.argument("images", metavar="IMAGES...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--heads", metavar="NAMES", required=True, help="Heads to run, separated by commas, for example tissue.")
@click.option(
    "-o",
    "--output",
    "outputs",
    metavar="OUT",
    multiple=True,
    type=click.Path(path_type=Path),
    help="File to write, by its ending: OUT.nii.gz makes a label map for each head beside it, OUT_tissue.nii.gz; .h5; .png with "
    "the labels over the images. May be given several times.",
)
@click.option(
    "--attention",
    is_flag=True,
    help="Add the attention maps of heads that classify, such as series: .h5 gets heads/series/attention, .nii.gz files "
    "OUT_series_attention-contrast.nii.gz beside it.",
)
@click.option(
    "--spacing",
    metavar="SLICES,ROWS,COLUMNS",
    callback=_check_spacing,
    help="Distances in mm, for images that do not tell them.",
)
@click.option("--priority", type=click.Choice(list(PRIORITIES)), default="clinical", show_default=True)
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Give up after this long."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@connection_options
def analyze(
    images: tuple[Path, ...],
    *,
    heads: str,
    outputs: tuple[Path, ...],
    attention: bool,
    spacing: tuple[float, ...] | None,
    priority: Priority,
    timeout: float | None,
    as_json: bool,
    server: str | None,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
) -> None:
    """Run heads on IMAGES: segment structures, find lesions, tell what a series shows.

    IMAGES is a NIfTI file, MRD images or an HDF5 file with a dataset reconstruction; or the DICOM files of one
    series, or their folder.
    """
    names = tuple(name.strip() for name in heads.split(",") if name.strip())
    if not names:
        msg = f"{heads!r} names no head, for example tissue"
        raise click.BadParameter(msg, param_hint="--heads")
    targets = tuple({target.resolve(): target for target in outputs}.values())
    for target in targets:
        check_output(target, images, _ENDINGS)
    analysis_upload(images)  # what is wrong with the files shows before a service is started
    try:
        with Connection(server, ca, certificate, key).open() as client:
            result = client.analyze(
                images,
                heads=names,
                outputs=tuple(dict.fromkeys(ending_of(target, _ENDINGS) for target in targets)),
                attention=attention,
                spacing=spacing,
                priority=priority,
                timeout=timeout,
            )
    except KeyboardInterrupt:
        click.echo("recond: stopped; nothing was written", err=True)
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
    written: list[Path] = []
    for target in targets:
        try:
            written += result.save_all(target)
        except OSError as error:
            click.echo(f"recond: {target} cannot be written: {error.strerror}", err=True)
            raise click.exceptions.Exit(EXIT_FAILED) from error
    if as_json:
        print_json(analysis_object(result, written))
    else:
        print_analysis(result, written)
