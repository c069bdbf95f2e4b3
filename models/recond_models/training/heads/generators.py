"""Which generator makes the samples of which head."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from recond_models.training.config import TrainingConfigError
from recond_models.training.heads.config import HeadTrainingConfig
from recond_models.training.heads.label_maps import load_maps, load_measured
from recond_models.training.heads.samples import Samples
from recond_models.training.heads.stack import load_bank
from recond_models.training.heads.tissue import EASY, TissueSamples
from recond_models.training.heads.trainer import HeadTrainer

COLLECTION = "RECOND_TRAINING_COLLECTION"
"""Environment variable: the folder of collected images and labels, as for `make training-data`."""

Generators = tuple[Samples, Samples, Samples | None]
"""What a head is trained on, the same of held-out subjects, and easy samples to begin with, if there are such."""


def trainer_of(config: HeadTrainingConfig, volumes: Path, folder: Path, device: str) -> HeadTrainer:
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
    if config.head not in _GENERATORS:
        raise TrainingConfigError(f"head must be one of {', '.join(_GENERATORS)}, got {config.head!r}")
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


_GENERATORS: dict[str, Callable[[HeadTrainingConfig, Path], Generators]] = {"tissue": _tissue}
