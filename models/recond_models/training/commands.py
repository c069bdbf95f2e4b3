"""`recond train`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from safetensors.torch import load_file

from recond_models.store.errors import StoreError
from recond_models.training.config import TrainingConfig, TrainingConfigError
from recond_models.training.examples import SimulatedExamples, evaluation_examples
from recond_models.training.heads.config import HeadTrainingConfig, names_head
from recond_models.training.heads.generators import trainer_of
from recond_models.training.heads.publish import publish_head
from recond_models.training.heads.trainer import HeadProgress
from recond_models.training.publish import Run, publish
from recond_models.training.trainer import BEST, Progress, Trainer, weights_of
from recond_models.training.volumes import VolumesNotFoundError, load_volumes

_BAD_INPUT, _FAILED = 3, 5
_Reported = TypeVar("_Reported", Progress, HeadProgress)


@click.command()
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("out/volumes"),
    show_default=True,
    help="Folder of training volumes, as `make training-data` fetches them.",
)
@click.option(
    "-o",
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Folder of the run; one that is there goes on.  [default: out/train/NAME]",
)
@click.option("--device", default="cpu", show_default=True, help="torch device, such as cuda:0.")
@click.option("--threads", type=click.IntRange(min=1), default=None, help="Threads of the network on a CPU.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    help="Stop with a checkpoint after this processor time; the same command goes on.",
)
@click.option("--best", is_flag=True, help="Do not train: write the best weights of the run so far as a model.")
def train(
    config: Path,
    data: Path,
    folder: Path | None,
    device: str,
    threads: int | None,
    minutes: float | None,
    *,
    best: bool,
) -> None:
    """Train an unrolled network on simulated k-space, or a head on simulated images.

    CONFIG is a TOML file; one with `head = NAME` trains a head. The run can be interrupted and goes on from its last checkpoint.
    Losses, figures on held-out subjects and a plot are in its folder while it runs; the weights, their manifest and a model card
    at the end.
    """
    if threads:
        torch.set_num_threads(threads)
    if names_head(config):
        _train_head(config, data, folder, device, minutes, best=best)
        return
    try:
        settings = TrainingConfig.read(config)
        load_volumes(data, "training")
        place = folder or Path("out/train") / settings.name
        trainer = Trainer(
            settings,
            SimulatedExamples(data, "training", settings),
            [] if best else evaluation_examples(data, settings),
            place,
            device,
        )
    except (TrainingConfigError, VolumesNotFoundError) as error:
        click.echo(f"recond train: {error}", err=True)
        raise click.exceptions.Exit(_BAD_INPUT) from error
    if best:
        if not (place / BEST).exists():
            click.echo(f"recond train: {place} holds no evaluated weights yet", err=True)
            raise click.exceptions.Exit(_BAD_INPUT)
        weights = load_file(place / BEST)
        click.echo(f"{settings.name}: {publish(place, Run.of(trainer, settings, config, data, best=True), weights)}")
        return
    try:
        _run(
            lambda report, limit: trainer.run(report, seconds=limit),
            _line,
            settings.name,
            (trainer.step, settings.steps),
            minutes,
        )
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        click.echo(
            f"recond train: a process that simulates samples ended ({error}); the same command goes on from the last checkpoint",
            err=True,
        )
        raise click.exceptions.Exit(_FAILED) from error
    if trainer.step < settings.steps:
        click.echo(f"{settings.name}: stopped at step {trainer.step} of {settings.steps}; the same command goes on")
        return
    written = publish(place, Run.of(trainer, settings, config, data, best=False), weights_of(trainer.average))
    click.echo(f"{settings.name}: {written}")


def _train_head(
    config: Path, data: Path, folder: Path | None, device: str, minutes: float | None, *, best: bool
) -> None:
    """Train a head, and write it as a model; with `best`, what is best so far."""
    try:
        settings = HeadTrainingConfig.read(config)
        place = folder or Path("out/train") / settings.name
        if not best:
            trainer = trainer_of(settings, data, place, device)
            _run(
                lambda report, limit: trainer.run(report, seconds=limit),
                _head_line,
                settings.name,
                (trainer.step, settings.steps),
                minutes,
            )
        named = config.as_posix() if not config.is_absolute() else config.name
        written = publish_head(place, settings, named)
    except (StoreError, TrainingConfigError, VolumesNotFoundError) as error:
        click.echo(f"recond train: {error}", err=True)
        raise click.exceptions.Exit(_BAD_INPUT) from error
    click.echo(f"{settings.name}: {written}")


def _run(
    training: Callable[[Callable[[_Reported], None], float | None], None],
    line: Callable[[_Reported], str],
    name: str,
    steps: tuple[int, int],
    minutes: float | None,
) -> None:
    """Train with a bar on a terminal, and a line now and then elsewhere; `steps` are those done and those in all."""
    seconds = None if minutes is None else 60 * minutes
    console = Console(stderr=True)
    if not console.is_terminal:
        training(lambda progress: click.echo(line(progress), err=True), seconds)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console) as bars:
        bar = bars.add_task(name, total=steps[1], completed=steps[0])
        training(lambda progress: bars.update(bar, completed=progress.step, description=line(progress)), seconds)


def _line(progress: Progress) -> str:
    figures = progress.figures
    shown = f", held out SSIM {figures.ssim:.4f}, PSNR {figures.psnr:.2f} dB" if figures else ""
    return f"step {progress.step}/{progress.steps}, loss {progress.loss:.4f}{shown}"


def _head_line(progress: HeadProgress) -> str:
    shown = f", held out Dice {progress.dice:.4f}" if progress.dice is not None else ""
    return f"step {progress.step}/{progress.steps}, loss {progress.loss:.4f}{shown}"
