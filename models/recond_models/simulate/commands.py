"""The command `recond simulate`."""

from __future__ import annotations

from pathlib import Path

import click

from recond_models.simulate import scan as scans
from recond_models.simulate import write_fastmri, write_ismrmrd
from recond_models.simulate.head import HeadNotFoundError


class _Matrix(click.ParamType):  # type: ignore[type-arg] # generic from click 8.4 on only
    """One size for both sides, or ROWSxCOLUMNS."""

    name = "N|ROWSxCOLUMNS"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return (rows, columns)."""
        parts = str(value).lower().split("x")
        if not all(part.isdecimal() for part in parts) or len(parts) > 2:
            self.fail(f"{value!r} is neither a size such as 256 nor rows x columns such as 256x224", param, ctx)
        return int(parts[0]), int(parts[-1])


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Raw data file to write (.h5).",
)
@click.option(
    "--reference",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the true images, fastMRI layout (.h5).",
)
@click.option(
    "--format", "file_format", type=click.Choice(["ismrmrd", "fastmri"]), default="ismrmrd", show_default=True
)
@click.option("--phantom", type=click.Choice(["head", "shepp-logan", "sample"]), default="head", show_default=True)
@click.option("--coils", type=int, default=8, show_default=True, help="Receive coils.")
@click.option("--slices", type=int, default=4, show_default=True)
@click.option("--matrix", type=_Matrix(), default="256", show_default=True, help="Readout and phase encode.")
@click.option("--acceleration", type=float, default=4, show_default=True, help="1 measures every line.")
@click.option("--calibration-lines", type=int, default=24, show_default=True, help="Lines measured in the centre.")
@click.option(
    "--pattern",
    type=click.Choice(["equispaced", "random"]),
    default="equispaced",
    show_default=True,
    help="Lines outside the centre. Random ones meet the acceleration together with the centre.",
)
@click.option(
    "--noise",
    type=float,
    default=0.005,
    show_default=True,
    help="Noise of a coil image as a fraction of the brightest true pixel. 0 leaves the noise scan out.",
)
@click.option("--oversampling", type=int, default=2, show_default=True, help="Readout oversampling, 1 or 2.")
@click.option(
    "--partial-fourier", type=float, default=1.0, show_default=True, help="Fraction of the lines that is measured."
)
@click.option("--volume", is_flag=True, help="3-D encoding: slices are partitions.")
@click.option(
    "--partial-fourier-partitions",
    type=float,
    default=1.0,
    show_default=True,
    help="The same, of the partitions of a volume.",
)
@click.option("--contrasts", type=int, default=1, show_default=True, help="Echoes, each with 0.7 times the signal.")
@click.option("--repetitions", type=int, default=1, show_default=True)
@click.option("--averages", type=int, default=1, show_default=True)
@click.option("--interleaved", is_flag=True, help="Measure every second slice first (ISMRMRD only).")
@click.option(
    "--line-time",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MS",
    default=10.0,
    show_default=True,
    help="From one line to the next, for time stamps (ISMRMRD only).",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same file.")
def simulate(
    output: Path,
    reference: Path | None,
    file_format: str,
    phantom: scans.Phantom,
    coils: int,
    slices: int,
    matrix: tuple[int, int],
    acceleration: float,
    calibration_lines: int,
    pattern: scans.Pattern,
    noise: float,
    oversampling: int,
    partial_fourier: float,
    volume: bool,
    partial_fourier_partitions: float,
    contrasts: int,
    repetitions: int,
    averages: int,
    interleaved: bool,
    line_time: float,
    seed: int,
) -> None:
    """Simulate a multi-coil scan of a head or a phantom and write its raw data.

    The reference holds the root sum of squares of the coil images without noise and with every line measured. For ISMRMRD with
    noise the coils are whitened as the reconstruction whitens them, so the two can be compared.
    """
    try:
        settings = scans.ScanSettings(
            coils=coils,
            slices=slices,
            rows=matrix[0],
            columns=matrix[1],
            acceleration=acceleration,
            calibration_lines=calibration_lines,
            pattern=pattern,
            noise=noise,
            oversampling=oversampling,
            partial_fourier=partial_fourier,
            phantom=phantom,
            seed=seed,
            volume=volume,
            partial_fourier_partitions=partial_fourier_partitions,
            contrasts=contrasts,
            repetitions=repetitions,
            averages=averages,
        )
        scan = scans.simulate(settings)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except HeadNotFoundError as error:
        raise click.ClickException(str(error)) from error
    try:
        if file_format == "ismrmrd":
            write_ismrmrd.write(scan, output, interleaved=interleaved, line_ms=line_time)
        else:
            write_fastmri.write(scan, output)
        if reference is not None:
            write_fastmri.write_truth(scan, reference, whitened=file_format == "ismrmrd")
    except OSError as error:
        raise click.ClickException(f"cannot write: {error}") from error
    click.echo(
        f"{output}: {phantom}, {slices} slices of {matrix[0]} x {matrix[1]}, {coils} coils, "
        f"{int(scan.lines.sum())} of {matrix[1]} lines, {int(scan.calibration.sum())} of them for calibration"
    )
