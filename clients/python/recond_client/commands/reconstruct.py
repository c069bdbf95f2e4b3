"""``recond reconstruct``: one scan through a service, or through one of its own."""

from __future__ import annotations

from pathlib import Path

import click

from recond_client.cli import EXIT_FAILED, EXIT_INTERRUPTED
from recond_client.commands.connection import Connection, connection_options
from recond_client.commands.display import print_json, print_result, progress_bars, result_object
from recond_client.commands.outputs import check_output, ending_of
from recond_client.errors import InputError
from recond_client.spec import (
    MOST_COILS,
    OUTPUT_FORMATS,
    PARTIAL_FOURIER,
    PRIORITIES,
    UNDERSAMPLING_KINDS,
    PartialFourier,
    Priority,
    parse_undersampling,
)
from recond_client.upload import upload_of


def _check_undersampling(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        try:
            parse_undersampling(value)
        except InputError as error:
            raise click.BadParameter(error.message) from error
    return value


@click.command()
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "outputs",
    metavar="OUT",
    multiple=True,
    type=click.Path(path_type=Path),
    help="File to write, by its ending: .h5 (fastMRI layout), .mrd, .nii.gz or .png. May be given several times. "
    "Several stacks make several .nii.gz: OUT_axial.nii.gz. "
    "Default: the name of INPUT with _recon.h5, in the current folder.",
)
@click.option(
    "--model",
    default="auto",
    show_default=True,
    help="Model to run, NAME or NAME@VERSION; auto lets the service choose.",
)
@click.option("--model-version", default="", help="Version of the model. Default: the one that runs for its name.")
@click.option(
    "--undersample",
    metavar="KIND:R[:CENTRE]",
    callback=_check_undersampling,
    help="Undersample fully sampled data first, and score against the full data. "
    f"KIND: {', '.join(UNDERSAMPLING_KINDS)}. For example equispaced:4:0.08.",
)
@click.option(
    "--partial-fourier",
    type=click.Choice(list(PARTIAL_FOURIER)),
    default="zero-fill",
    show_default=True,
    help="What becomes of the part of k-space that partial Fourier or an asymmetric echo left out.",
)
@click.option(
    "--virtual-coils",
    metavar="COUNT",
    type=click.IntRange(0, MOST_COILS),
    default=0,
    help="Compress the coils to at most this many. Default: as many as there are.",
)
@click.option(
    "--coil-energy",
    metavar="PART",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Compress the coils to as few as keep this part of the signal energy, for example 0.99.",
)
@click.option("--stack", metavar="NAME", default="", help="Write this stack alone, for example axial. Default: all.")
@click.option(
    "--complex",
    "complex_images",
    is_flag=True,
    help="Keep the phase: .h5 gets reconstruction_complex, .mrd complex series, .nii.gz a file OUT_part-phase.nii.gz beside it.",
)
@click.option(
    "--uncertainty",
    is_flag=True,
    help="Add the standard deviation of every pixel, from networks that predict it: .h5 gets uncertainty, .mrd series of its own, "
    ".nii.gz a file OUT_uncertainty.nii.gz beside it.",
)
@click.option("--reference", type=click.Path(path_type=Path), help="File with images to score against.")
@click.option("--heads", metavar="NAMES", default="", help="Heads to run on the images, separated by commas.")
@click.option(
    "--attention",
    is_flag=True,
    help="Add the attention maps of heads that classify, such as series: .h5 gets heads/series/attention, .nii.gz files "
    "OUT_series_attention-contrast.nii.gz beside it.",
)
@click.option("--priority", type=click.Choice(list(PRIORITIES)), default="clinical", show_default=True)
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Give up after this long."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@connection_options
def reconstruct(
    source: Path,
    *,
    outputs: tuple[Path, ...],
    model: str,
    model_version: str,
    undersample: str | None,
    partial_fourier: PartialFourier,
    virtual_coils: int,
    coil_energy: float,
    stack: str,
    complex_images: bool,
    uncertainty: bool,
    reference: Path | None,
    heads: str,
    attention: bool,
    priority: Priority,
    timeout: float | None,
    as_json: bool,
    server: str | None,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
) -> None:
    """Reconstruct the scan in INPUT and write the images.

    INPUT is an ISMRMRD .h5 or .mrd, an MRD version 2 stream (.mrd2, .bin), a fastMRI .h5, or one file of a BART
    .cfl/.hdr pair.
    """
    named = outputs or (Path(f"{source.name.removesuffix(source.suffix)}_recon.h5"),)
    targets = tuple({target.resolve(): target for target in named}.values())
    for target in targets:
        check_output(target, [source], OUTPUT_FORMATS)
    upload_of(source, reference=reference)  # what is wrong with the files shows before a service is started
    try:
        with Connection(server, ca, certificate, key).open() as client, progress_bars(wanted=not as_json) as show:
            result = client.reconstruct(
                source,
                reference=reference,
                model=model,
                model_version=model_version,
                undersample=undersample,
                outputs=tuple(dict.fromkeys(ending_of(target, OUTPUT_FORMATS) for target in targets)),
                heads=tuple(name.strip() for name in heads.split(",") if name.strip()),
                attention=attention,
                priority=priority,
                partial_fourier=partial_fourier,
                virtual_coils=virtual_coils,
                coil_energy=coil_energy,
                stack=stack,
                complex_images=complex_images,
                uncertainty=uncertainty,
                timeout=timeout,
                on_progress=show,
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
        print_json(result_object(result, written))
    else:
        print_result(result, written)
