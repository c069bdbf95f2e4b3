"""The end of a training run: weights, manifest, golden pair and model card in a folder of models."""

from __future__ import annotations

from pathlib import Path

from recond_models.contract import Contract
from recond_models.store.package import Description, write_model
from recond_models.training.config import TrainingConfig
from recond_models.training.trainer import Trainer, weights_of
from recond_models.training.volumes import SOURCES

MODELS = "models"
"""Folder within that of the run; as RECOND_MODELS_DIR it makes the model known to a service."""

VERSION = "1"
_LICENCE = "Apache-2.0"
_REFERENCE = (
    "Unrolled network of recond; after Aggarwal et al. 2019 (MoDL), doi:10.1109/TMI.2018.2865356, with ESPIRiT maps, "
    "doi:10.1002/mrm.24751"
)
_ACCELERATION = (1.0, 12.0)
_COILS = (2, 64)
# Readouts may be oversampled: what nobody wants of them is left out first.
_ROWS, _COLUMNS = (64, 768), (64, 512)
_CALIBRATION = (8, 8)


CONTRACT = Contract(
    patterns=("uniform", "irregular", "two-dimensional"),
    acceleration=_ACCELERATION,
    coils=_COILS,
    rows=_ROWS,
    columns=_COLUMNS,
    calibration=_CALIBRATION,
    requires_calibration=True,
    anatomy="head",
    contrast="T1-weighted, and T2-, PD- and FLAIR-like contrasts synthesised from it",
)
"""What data networks are made for that were trained on the simulated heads."""


def publish(trainer: Trainer, config: TrainingConfig, config_path: Path, place: Path) -> Path:
    """Write the averaged weights of a run as a model.

    Parameters
    ----------
    trainer
        The run.
    config
        Its configuration.
    config_path
        Where that was read, for the command in the card.
    place
        Folder of the run.

    Returns
    -------
    Path
        Folder of the model.

    Raises
    ------
    StoreError
        The weights are of no use, or the folder cannot be written.
    """
    described = Description(
        name=config.name,
        version=VERSION,
        description=config.description,
        reference=_REFERENCE,
        licence=_LICENCE,
        source=f"trained by recond train on simulated k-space, {trainer.step} steps",
        card=_card(trainer, config, config_path),
    )
    architecture = {"family": "unrolled", **config.architecture.to_json()}
    packaged = write_model(
        place / MODELS,
        described,
        architecture,
        weights_of(trainer.average),
        CONTRACT,
        precision="bfloat16" if config.precision == "bfloat16" else "float32",
        replace=True,
    )
    return packaged.folder


def _card(trainer: Trainer, config: TrainingConfig, config_path: Path) -> str:
    """Return the model card as Markdown."""
    parameters = sum(weight.numel() for weight in trainer.average.parameters())
    sizes = config.architecture
    last = trainer.history.last_figures
    figures = (
        f"Held-out subjects of the training run, step {last[0]}: mean SSIM {last[1]:.4f}, mean PSNR {last[2]:.2f} dB over "
        f"{config.evaluation_frames} simulated frames of all kinds. Those of the test subjects beside classical methods, cell by "
        "cell, are in docs/quality.md."
        if last
        else "This run was not evaluated."
    )
    sources = "\n".join(
        f"| {source.name} | {source.subject} | {source.split} | {source.package} | {source.licence} |"
        for source in SOURCES
    )
    return f"""# {config.name}, version {VERSION}

{config.description}

Not a medical device: for research only.

## Data

No measured k-space was used. k-space was simulated from images of heads, on the fly: planes of any orientation, deformed, in
contrasts synthesised from tissue maps, with lesions, phase, receive arrays of 1 to 32 coils and noise over two decades.
Subjects are in one split only:

| volume | subject | used for | package | licence |
|---|---|---|---|---|
{sources}

The weights contain none of these images; none is part of this repository.

## Network

{sizes.rounds} rounds of one U-Net (channels {", ".join(map(str, sizes.channels))}) and data consistency by conjugate gradients
({sizes.iterations} steps a round), ESPIRiT sensitivities from at most {sizes.calibration} x {sizes.calibration} calibration
samples; {parameters / 1e6:.2f} million parameters. Convolutions in {config.precision}, all else in float32.

## Training

```
make training-data
recond train {config_path.as_posix() if not config_path.is_absolute() else config_path.name}
```

{trainer.step} steps of {config.batch} frame(s) in {trainer.history.seconds / 60:.0f} minutes; Adam, seed {config.seed},
exponential moving average of the weights ({config.average}). The loss is 1 - SSIM plus the relative error.

## Figures

{figures}

## Limits

* Heads only; trained on few subjects, all adults without known disease. Synthetic lesions are not disease.
* Only simulated k-space was seen in training: no motion, no flow, no field inhomogeneity, no wrap-around.
* Needs {_CALIBRATION[0]} x {_CALIBRATION[1]} calibration samples and two coils or more. Outside its contract `auto` takes a
  classical model.
* A network can make what is missing look plausible. Look at the data-consistency residual, and compare with `l1-wavelet`.

## Licence

{_LICENCE}
"""
