"""``recond evaluate``: models scored on a folder of fastMRI files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from recond_client.cli import EXIT_INPUT
from recond_client.commands.connection import Connection, connection_options
from recond_client.commands.display import print_json
from recond_client.errors import InputError
from recond_client.evaluation.run import OWN_MASK, Failure, Task, plan, run
from recond_client.evaluation.scores import Score, ScoreFile
from recond_client.evaluation.summary import Group, Mean, summarise
from recond_client.evaluation.volumes import find_volumes
from recond_client.spec import parse_undersampling

_TITLES = ("SSIM", "PSNR (dB)", "NMSE", "SSIM in object", "PSNR in object (dB)")
_FIGURES = (
    ("ssim", "{:.4f}"),
    ("psnr", "{:.2f}"),
    ("nmse", "{:.5f}"),
    ("ssim_object", "{:.4f}"),
    ("psnr_object", "{:.2f}"),
)
_WIDEST = 200  # of a table, characters; it goes beyond the terminal rather than lose figures
_MASKS = ("own", "random", "equispaced", "equispaced_fraction")
_CENTER_TIMES_ACCELERATION = 0.32  # fastMRI keeps 8 percent at 4-fold and 4 percent at 8-fold


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--model", "models", multiple=True, default=("auto",), show_default=True, help="Model; may be given several times."
)
@click.option(
    "--mask",
    type=click.Choice(_MASKS),
    default="own",
    show_default=True,
    help="Lines to keep of fully sampled data, drawn as fastMRI does with the file name as the seed; own: as in the file.",
)
@click.option(
    "--acceleration",
    "accelerations",
    type=click.FloatRange(min=1, min_open=True),
    multiple=True,
    help="Acceleration for --mask; several are scored one after another. Default: 4.",
)
@click.option(
    "--center-fraction",
    "fractions",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    multiple=True,
    help="Fraction of the lines kept in the centre, one for each acceleration. Default: 0.32 / acceleration.",
)
@click.option(
    "--acquisition",
    "acquisitions",
    multiple=True,
    help="Only files of this acquisition, such as AXT2; several are allowed.",
)
@click.option("--only-acceleration", type=float, help="Only files whose attribute 'acceleration' is this.")
@click.option("--first", type=click.IntRange(min=1), help="Only so many files, in the order of their names.")
@click.option(
    "--results",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of scores. Default: the name of FOLDER with -scores.jsonl, in the current folder.",
)
@click.option(
    "--save",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also write the images to MODEL/SAMPLING/FILE in this folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@connection_options
def evaluate(
    folder: Path,
    *,
    models: tuple[str, ...],
    mask: str,
    accelerations: tuple[float, ...],
    fractions: tuple[float, ...],
    acquisitions: tuple[str, ...],
    only_acceleration: float | None,
    first: int | None,
    results: Path | None,
    save: Path | None,
    as_json: bool,
    server: str | None,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
) -> None:
    """Score models on the fastMRI files in FOLDER, as the fastMRI challenge did.

    SSIM, PSNR and NMSE of every volume against its true images, over the picture and inside the object, and their mean over volumes
    with twice the standard deviation.
    What was scored is kept in a file: the same command continues where it was interrupted, and other options add to it.
    """
    samplings = _samplings(mask, accelerations, fractions)
    volumes, left_out = find_volumes(folder, acquisitions=acquisitions, acceleration=only_acceleration)
    if mask == "own":
        left_out += [
            f"{volume.path.name} has no mask: choose one with --mask" for volume in volumes if not volume.masked
        ]
        volumes = [volume for volume in volumes if volume.masked]
    volumes = volumes[:first]
    if not volumes:
        raise _nothing(folder, left_out)
    scores = ScoreFile(results or Path(f"{folder.resolve().name}-scores.jsonl"))
    done: list[Score] = []
    failed: list[Failure] = []
    with Connection(server, ca, certificate, key).open() as client:
        tasks = plan(client, volumes, tuple(dict.fromkeys(models)), samplings)
        with _progress(len(tasks), wanted=not as_json) as begin:
            for outcome in run(client, tasks, scores, save=save, begin=begin):
                (done if isinstance(outcome, Score) else failed).append(outcome)  # type: ignore[arg-type]
    groups = summarise(done)
    if as_json:
        print_json(
            {
                "folder": str(folder),
                "groups": [group.to_json() for group in groups],
                "volumes": [asdict(score) for score in done],
                "failed": [asdict(failure) for failure in failed],
                "left_out": left_out,
            }
        )
    else:
        _print(groups, failed, left_out)
    if failed:
        raise click.exceptions.Exit(EXIT_INPUT)


def _samplings(mask: str, accelerations: tuple[float, ...], fractions: tuple[float, ...]) -> list[str]:
    """Return how samples are chosen, in the words of the SDK.

    Raises
    ------
    click.UsageError
        The options do not go together.
    """
    if mask == "own":
        if accelerations or fractions:
            msg = "--acceleration and --center-fraction go with --mask; the mask in a file has its own"
            raise click.UsageError(msg)
        return [OWN_MASK]
    factors = accelerations or (4.0,)
    if fractions and len(fractions) != len(factors):
        msg = f"give as many --center-fraction as --acceleration, not {len(fractions)} for {len(factors)}"
        raise click.UsageError(msg)
    centres = fractions or tuple(_CENTER_TIMES_ACCELERATION / factor for factor in factors)
    samplings = [
        f"{mask.replace('_', '-')}:{factor:g}:{centre:g}" for factor, centre in zip(factors, centres, strict=True)
    ]
    for sampling in samplings:
        try:
            parse_undersampling(sampling)
        except InputError as error:
            raise click.UsageError(error.message) from error
    return list(dict.fromkeys(samplings))


def _nothing(folder: Path, left_out: list[str]) -> InputError:
    why = f": {'; '.join(left_out[:3])}" if left_out else ", with these filters"
    return InputError(f"there is no fastMRI file to score in {folder}{why}", reason="NO_VOLUMES", field="FOLDER")


@contextmanager
def _progress(total: int, *, wanted: bool) -> Iterator[Callable[[Task], None]]:
    """Show which volume is being scored, on a terminal only."""
    console = Console(stderr=True)
    if not (wanted and console.is_terminal):
        yield lambda task: None  # noqa: ARG005 - as run calls it
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    begun = 0
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task("", total=total)

        def begin(task: Task) -> None:
            nonlocal begun
            bars.update(bar, completed=begun, description=f"{task.model}, {task.sampling}, {task.volume.path.name}")
            begun += 1

        yield begin


def _print(groups: list[Group], failed: list[Failure], left_out: list[str]) -> None:
    """Print a table for each sampling, and what went wrong, for people."""
    console = Console()
    for sampling in dict.fromkeys(group.sampling for group in groups):
        chosen = [group for group in groups if group.sampling == sampling]
        several = any(group.acquisition != "all" for group in chosen)
        titles = ["model", *(["acquisition"] if several else []), "n", *_TITLES, "s/slice"]
        table = Table(*(Column(title, no_wrap=True) for title in titles), title=sampling, box=box.SIMPLE_HEAD)
        for group in chosen:
            table.add_row(
                Text(group.model),
                *([group.acquisition] if several else []),
                str(group.volumes),
                *(_shown(getattr(group, name), form) for name, form in _FIGURES),
                f"{group.seconds_per_slice:.3f}",
            )
        table.caption = "mean over n volumes, \u00b1 2 standard deviations"
        width = max(console.width, console.measure(table, options=console.options.update(width=_WIDEST)).maximum)
        Console(width=width).print(table)
    for text in left_out:
        console.print(Text(f"left out: {text}", style="dim"))
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for failure in failed:
        reasons.setdefault((failure.model, failure.sampling, failure.message), []).append(failure.file)
    for (model, sampling, message), files in reasons.items():
        names = ", ".join(files[:3]) + (f" and {len(files) - 3} others" if len(files) > 3 else "")
        console.print(Text(f"not scored with {model}, {sampling}: {names}: {message}", style="yellow"))


def _shown(mean: Mean | None, form: str) -> str:
    if mean is None:
        return "-"
    return form.format(mean.mean) + (f" \u00b1 {form.format(mean.two_std)}" if mean.two_std is not None else "")
