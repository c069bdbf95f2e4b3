"""How good a network in training is on subjects that it is not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from recond_models import metrics
from recond_models.networks.unrolled import UnrolledNetwork
from recond_models.training.examples import Example
from recond_models.training.losses import similarity

_OBJECT_FROM = 0.1


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
        The same inside the object, see `object_mask`.
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
        rows.append((*whole, *inside_object(*pair)))
    return Figures(*(float(value) for value in np.mean(rows, axis=0)))


def object_mask(reference: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Return where the object is, bool (rows, columns).

    The mean over 7 x 7 pixels is above a tenth of the 99th percentile of the reference, holes filled.
    """
    values = np.asarray(reference, dtype=np.float64)
    inside: NDArray[np.bool_] = ndimage.binary_fill_holes(
        ndimage.uniform_filter(values, metrics.WINDOW, mode="constant") > _OBJECT_FROM * np.quantile(values, 0.99)
    )
    return inside


def inside_object(
    reference: NDArray[np.floating[Any]], image: NDArray[np.floating[Any]], inside: NDArray[np.bool_] | None = None
) -> tuple[float, float]:
    """Return SSIM and PSNR (dB) in the object.

    Windows and range are those of `metrics.ssim`; windows count whose middle is in the object, and pixels that are.

    Parameters
    ----------
    reference, image
        Real (rows, columns), same units.
    inside
        Bool (rows, columns): the object; found from the reference if None.
    """
    target, shown = (torch.from_numpy(np.asarray(one, dtype=np.float64))[None] for one in (reference, image))
    inside = object_mask(reference) if inside is None else inside
    counted = torch.from_numpy(inside.astype(np.float64))[None]
    ssim = float(similarity(target, shown, counted)[0])
    error = float(np.square((shown - target)[0].numpy()[inside]).mean())
    return ssim, float(10 * np.log10(float(target.max()) ** 2 / max(error, 1e-30)))
