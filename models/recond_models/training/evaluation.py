"""How good a network in training is on subjects that it is not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recond_models import metrics, object_metrics
from recond_models.networks.unrolled import UnrolledNetwork
from recond_models.training.examples import Example


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over the frames of an evaluation.

    Parameters
    ----------
    ssim
        Structural similarity to the root sum of squares of the true coil images.
    psnr
        Peak signal-to-noise ratio, dB.
    ssim_object, psnr_object
        The same inside the object, see `recond_models.object_metrics`.
    """

    ssim: float
    psnr: float
    ssim_object: float
    psnr_object: float


def evaluate(
    network: UnrolledNetwork, examples: Sequence[Example], device: torch.device, *, half: bool, rounds: int
) -> Figures:
    """Reconstruct the frames of the examples and score them.

    Parameters
    ----------
    network
        The network.
    examples
        What to reconstruct.
    device
        Where.
    half
        Convolutions in bfloat16.
    rounds
        How many rounds to make.

    Returns
    -------
    Figures
        Means over all frames.
    """
    images: list[Tensor] = []
    references: list[Tensor] = []
    for example in examples:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            made = network(
                example.data.to(device),
                example.encoding(device).gram,
                example.noise.to(device),
                example.fractions.to(device),
                rounds,
            )
        images.extend(made.images[-1].abs().cpu())
        references.extend(example.magnitudes)
    return score(references, images)


def score(references: Sequence[Tensor], images: Sequence[Tensor]) -> Figures:
    """Return the mean figures of images float32 (rows, columns) against their references."""
    rows = []
    for reference, image in zip(references, images, strict=True):
        pair = reference.numpy(), image.numpy()
        whole = (
            metrics.ssim(*(one[None] for one in pair), square=False),
            metrics.psnr(*(one[None] for one in pair), square=False),
        )
        within = object_metrics.inside_object(*(one[None] for one in pair))
        rows.append((*whole, within.ssim, within.psnr))
    return Figures(*(float(value) for value in np.mean(rows, axis=0)))
