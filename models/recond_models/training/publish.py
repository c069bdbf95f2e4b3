"""What comes of a training run: weights, manifest, golden pair and model card in a folder of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from recond_models.contract import Contract
from recond_models.store.lineage import Lineage
from recond_models.store.package import Description, write_model
from recond_models.training.config import TrainingConfig
from recond_models.training.evaluation import Figures
from recond_models.training.trainer import Trainer
from recond_models.training.volumes import SOURCES, Source, is_saved

MODELS = "models"
"""Folder within that of the run; as RECOND_MODELS_DIR it makes the model known to a service."""

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
    contrast="T1-, T2- and FLAIR-weighted, and contrasts synthesised from them and from label maps",
)
"""What data networks are made for that were trained on the simulated heads; see `contract_of` for others."""

_OF_SHAPES = ", and contrasts of random shapes"


@dataclass(frozen=True, slots=True)
class Run:
    """A training run as its model card tells of it.

    Parameters
    ----------
    config
        Its configuration.
    command
        The file of that, as the command in the card names it.
    steps, minutes
        Updates so far, and the time that they took.
    figures
        Step and figures of the evaluation whose weights are published; None if there was none.
    sources
        The volumes that were there.
    """

    config: TrainingConfig
    command: str
    steps: int
    minutes: float
    figures: tuple[int, Figures] | None
    sources: Sequence[Source]

    @classmethod
    def of(cls, trainer: Trainer, config: TrainingConfig, config_path: Path, volumes: Path, *, best: bool) -> Run:
        """Return what there is to tell of a run: with its best figures, or its last."""
        history = trainer.history
        return cls(
            config,
            config_path.as_posix() if not config_path.is_absolute() else config_path.name,
            trainer.step,
            history.seconds / 60,
            history.best_figures if best else history.last_figures,
            [source for source in SOURCES if is_saved(volumes, source)],
        )


def publish(place: Path, run: Run, weights: Mapping[str, Tensor]) -> Path:
    """Write weights of a run as a model, in bfloat16 where the run computes in it.

    Parameters
    ----------
    place
        Folder of the run.
    run
        What its card tells.
    weights
        Averaged weights.

    Returns
    -------
    Path
        Folder of the model.

    Raises
    ------
    StoreError
        The weights are of no use, or the folder cannot be written.
    """
    config = run.config
    step = run.figures[0] if run.figures else run.steps
    described = Description(
        name=config.name,
        version=config.version,
        description=config.description,
        reference=_REFERENCE,
        licence=_LICENCE,
        source=f"trained by recond train on simulated k-space, {step} steps",
        card=_card(run, sum(tensor.numel() for tensor in weights.values())),
    )
    precision: Literal["float32", "bfloat16"] = "bfloat16" if config.precision == "bfloat16" else "float32"
    packaged = write_model(
        place / MODELS,
        described,
        {"family": "unrolled", **config.architecture.to_json()},
        weights,
        contract_of(config),
        precision=precision,
        stored=precision,
        lineage=_lineage(run, step),
        replace=True,
    )
    return packaged.folder


def _lineage(run: Run, step: int) -> Lineage:
    """Return what the manifest tells of a run."""
    told = run.config.to_json()
    for name in ("name", "version", "description", "origin"):
        del told[name]
    told["start"] = Path(run.config.start).name  # where it lay is nobody's business
    figures = {} if run.figures is None else asdict(run.figures[1])
    return Lineage(
        parent=run.config.origin,
        hyperparameters={**told, "published_step": step, "steps_done": run.steps, "minutes": round(run.minutes, 1)},
        metrics={name: round(float(value), 6) for name, value in figures.items() if isinstance(value, int | float)},
        data=tuple(
            {
                "name": source.name,
                "subject": source.subject,
                "split": source.split,
                "package": source.package,
                "licence": source.licence,
            }
            for source in run.sources
        ),
    )


def contract_of(config: TrainingConfig) -> Contract:
    """Return what data a network is made for."""
    contrast = CONTRACT.contrast + (_OF_SHAPES if config.shapes else "")
    return replace(CONTRACT, anatomy=config.anatomy, contrast=contrast)


def _card(run: Run, parameters: int) -> str:
    """Return the model card as Markdown."""
    config, sizes = run.config, run.config.architecture
    if run.figures is None:
        figures = "This run was not evaluated."
    else:
        step, found = run.figures
        figures = (
            f"Held-out subjects of the training run, step {step}, over {config.evaluation_frames} simulated frames of all kinds: "
            f"mean SSIM {found.ssim:.4f} and PSNR {found.psnr:.2f} dB over the picture, {found.ssim_object:.4f} and "
            f"{found.psnr_object:.2f} dB inside the object. "
            "Figures beside classical methods and on measured heads are in docs/training.md."
        )
    shapes = (
        f"\nIn {config.shapes:.0%} of the frames there was no head but a body of random shapes (recond_models.training.shapes).\n"
        if config.shapes
        else ""
    )
    trained_on = "Heads only; trained on few subjects" if config.anatomy == "head" else "Trained on few subjects"
    sources = "\n".join(
        f"| {source.name} | {source.subject} | {source.split} | {source.package} | {source.licence} |"
        for source in run.sources
    )
    begun = f" It began with the weights of `{config.origin}`." if config.origin else ""
    loss = "1 - SSIM plus the relative error of the complex image"
    if config.inside:
        loss += " and half that of its magnitude, all inside the object"
    added = [
        text
        for used, text in (
            (sizes.context, f"one more level of {sizes.context} features"),
            (sizes.trust, "a weight of the proposal for every pixel"),
            (sizes.spectral, "one for every frequency"),
            (sizes.recycle, "fits that begin within the search directions of those before"),
            (sizes.calibrated_noise, "the noise of the calibration samples"),
            (sizes.resolution, "a map of how much the samples decide"),
            (sizes.deviation, "a part that predicts the standard deviation of the image"),
        )
        if used
    ]
    made = run.figures[0] if run.figures else run.steps
    extra = f"Beside these: {', '.join(added)}." if added else ""
    return f"""# {config.name}, version {config.version}

{config.description}

Not a medical device: for research only.

## Data

No measured k-space was used. k-space was simulated from images and label maps of heads, on the fly: planes of any orientation,
deformed, in their own contrasts and in synthesised ones, with lesions, phase, receive arrays of 1 to 32 coils as hard as measured
ones, and noise over two decades. Subjects are in one split only:
{shapes}
| volume | subject | used for | source | licence |
|---|---|---|---|---|
{sources}

The weights contain none of these images; none is part of this repository.

## Network

{sizes.rounds} rounds of one U-Net (channels {", ".join(map(str, sizes.channels))}) and data consistency by conjugate gradients
({sizes.start_iterations} steps at first and {sizes.iterations} in each round), ESPIRiT sensitivities from at most
{sizes.calibration} x {sizes.calibration} calibration samples; {parameters / 1e6:.2f} million parameters.
{extra}
Convolutions in {config.precision}, all else in float32.

## Training

```
make training-data
recond train {run.command}
```

{made} steps of {config.batch} frame(s); the run so far: {run.steps} steps in {run.minutes:.0f} minutes. Adam, seed {config.seed},
exponential moving average of the weights ({config.average}).{begun}
The loss is {loss}.

## Figures

{figures}

## Limits

* {trained_on}. Synthetic lesions are not disease.
* Only simulated k-space was seen in training: movement of up to a pixel, fat of its own phase, lines that differ
  by up to 3 percent; no flow, no other field inhomogeneity.
* Needs {_CALIBRATION[0]} x {_CALIBRATION[1]} calibration samples and two coils or more. Outside its contract `auto` takes a
  classical model.
* A network can make what is missing look plausible. Look at the data-consistency residual, and compare with `l1-wavelet`.

## Licence

{_LICENCE}
"""
