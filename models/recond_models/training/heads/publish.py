"""What comes of the training of a head: weights, manifest, golden pair and model card in a folder of models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from recond_models.store.heads import write_head
from recond_models.store.lineage import Lineage
from recond_models.store.package import Description
from recond_models.training.config import TrainingConfigError
from recond_models.training.heads.config import HeadTrainingConfig
from recond_models.training.heads.contracts import CONTRACTS, MERGED
from recond_models.training.heads.trainer import ARCHITECTURE, BEST
from recond_models.training.publish import MODELS

CALIBRATION = "calibration.json"
"""In the folder of a run, found on held-out volumes: ``temperature`` of a segmentation, ``detection`` of lesions,
``temperatures`` and ``thresholds`` of a series; absent for the usual values."""

_LICENCE = "Apache-2.0"
_GENERATED = "trained on generated images (Billot et al. 2023, SynthSeg, doi:10.1016/j.media.2023.102789)"
_UNET = f"U-Net on five neighbouring slices (Ronneberger et al. 2015, arXiv:1505.04597), {_GENERATED}"
_SERIES = (
    "convolutions on one slice, and the Mahalanobis distance of their features from those of heads (Lee et al. 2018, "
    f"arXiv:1807.03888), {_GENERATED}"
)


def publish_head(place: Path, config: HeadTrainingConfig, command: str) -> Path:
    """Write the best weights of a run as a head.

    Parameters
    ----------
    place
        Folder of the run.
    config
        Its configuration.
    command
        The file of that, as the card names it.

    Returns
    -------
    Path
        Folder of the head.

    Raises
    ------
    TrainingConfigError
        The run has no evaluated weights yet.
    StoreError
        The weights are of no use, or the folder cannot be written.
    """
    if not (place / BEST).exists():
        raise TrainingConfigError(f"{place} holds no evaluated weights yet")
    calibration: dict[str, Any] = {}
    if (place / CALIBRATION).exists():
        calibration = json.loads((place / CALIBRATION).read_text())
    contract = CONTRACTS[config.head]
    if "detection" in calibration:
        contract = replace(contract, detection=dict(calibration["detection"]))
    family = "series" if config.head == "series" else "slice-unet"
    architecture: dict[str, Any] = {"family": family, **json.loads((place / ARCHITECTURE).read_text())}
    if config.head in MERGED:
        architecture["merged"] = list(MERGED[config.head])
    for name in ("temperature", "temperatures"):
        if name in calibration:
            architecture[name] = calibration[name]
    if "thresholds" in calibration:
        groups = tuple(
            replace(group, least_probability=calibration["thresholds"].get(group.name, group.least_probability))
            for group in contract.groups
        )
        contract = replace(contract, groups=groups)
    reference = _SERIES if family == "series" else _UNET
    weights = load_file(place / BEST)
    described = Description(
        name=config.name,
        version=config.version,
        description=config.description,
        reference=reference,
        licence=_LICENCE,
        source="trained by recond train on generated images",
        card=_card(config, command, reference, sum(tensor.numel() for tensor in weights.values())),
    )
    told = config.to_json()
    for name in ("name", "version", "description", "origin", "start"):
        del told[name]
    lineage = Lineage(parent=config.origin, hyperparameters=told)
    return write_head(
        place / MODELS,
        described,
        architecture,
        weights,
        contract,
        stored="bfloat16",
        lineage=lineage,
        replace=True,
    ).folder


def _card(config: HeadTrainingConfig, command: str, reference: str, parameters: int) -> str:
    """Return a model card that says what is known without an evaluation; figures are added by hand."""
    return f"""# {config.name} {config.version}

{config.description.rstrip(".")}.

* Network: {parameters / 1e6:.2f} million weights; {reference}.
* Licence of the weights: {_LICENCE}.
* Training: `recond train {command} --data VOLUMES`, {config.steps} steps of {config.batch} samples, seed {config.seed}.
* Not a medical device: for research only.
"""
