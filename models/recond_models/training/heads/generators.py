"""Which generator makes the samples of which head."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from recond_models.training.config import TrainingConfigError
from recond_models.training.heads.bank import load_heads
from recond_models.training.heads.config import HeadTrainingConfig
from recond_models.training.heads.label_maps import load_maps, load_measured
from recond_models.training.heads.lesion_samples import LesionSamples
from recond_models.training.heads.others import everyday_pictures
from recond_models.training.heads.samples import Samples
from recond_models.training.heads.series_samples import SeriesSamples
from recond_models.training.heads.series_trainer import SeriesTrainer
from recond_models.training.heads.stack import load_bank
from recond_models.training.heads.tissue import EASY, TissueSamples
from recond_models.training.heads.trainer import HeadTrainer

COLLECTION = "RECOND_TRAINING_COLLECTION"
"""Environment variable: the folder of collected images and labels, as for `make training-data`."""

Generators = tuple[Samples, Samples, Samples | None]
"""What a head is trained on, the same of held-out subjects, and easy samples to begin with, if there are such."""


def trainer_of(config: HeadTrainingConfig, volumes: Path, folder: Path, device: str) -> HeadTrainer | SeriesTrainer:
    """Return the trainer of a head.

    Parameters
    ----------
    config
        Its configuration.
    volumes
        Folder of training volumes.
    folder
        Of the run.
    device
        torch device.

    Raises
    ------
    TrainingConfigError
        There is no such head, or the configuration does not fit the run in the folder.
    VolumesNotFoundError
        The volumes are not there.
    """
    if config.head == "series":
        return _series(config, volumes, folder, device)
    if config.head not in _GENERATORS:
        raise TrainingConfigError(f"head must be one of {', '.join(_GENERATORS)} or series, got {config.head!r}")
    samples, held_out, easy = _GENERATORS[config.head](config, volumes)
    return HeadTrainer(config, samples, held_out, folder, device, easy)


def _tissue(config: HeadTrainingConfig, volumes: Path) -> Generators:
    collection = os.environ.get(COLLECTION)
    measured = load_measured(Path(collection)) if collection else []
    maps = [*load_maps(volumes, held_out=False), *measured]
    return (
        TissueSamples(maps, config.size, bank=load_bank(volumes / config.bank) if config.bank else ()),
        TissueSamples(load_maps(volumes, held_out=True), config.size),
        TissueSamples(maps, config.size, EASY),
    )


def _lesion(config: HeadTrainingConfig, volumes: Path) -> Generators:
    heads = load_heads(volumes, held_out=False)
    return (
        LesionSamples(heads, config.size),
        LesionSamples(load_heads(volumes, held_out=True), config.size),
        LesionSamples(heads, config.size, easy=True),
    )


def _series(config: HeadTrainingConfig, volumes: Path, folder: Path, device: str) -> SeriesTrainer:
    pictures = everyday_pictures()
    # Whether a patient's lesions are marked does not matter here.
    parts = [
        SeriesSamples(load_heads(volumes, held_out=held_out, unmarked=True), pictures[held_out::2])
        for held_out in (False, True)
    ]
    return SeriesTrainer(config, parts[0], parts[1], folder, device)


_GENERATORS: dict[str, Callable[[HeadTrainingConfig, Path], Generators]] = {"tissue": _tissue, "lesion": _lesion}
