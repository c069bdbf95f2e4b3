"""Quality figures of a volume."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recond_models import metrics
from recond_service.types import Figures, FindingList


def compute_figures(
    volume: NDArray[np.float32],
    reference: NDArray[np.float32] | None,
    residuals: Sequence[float | None],
    findings: FindingList,
) -> Figures:
    """Return the figures that can be computed.

    Parameters
    ----------
    volume
        float32 (images, rows, columns).
    reference
        Same shape and units, or None.
    residuals
        ``||A x - y|| / ||y||`` of each image, None where the model does not fit the samples.
    findings
        Gets why a figure is missing.
    """
    ssim = psnr = nmse = noise = None
    if reference is not None:
        try:
            ssim = metrics.ssim(reference, volume)
            psnr = metrics.psnr(reference, volume)
            nmse = metrics.nmse(reference, volume)
        except metrics.ImageTooSmallError:
            findings.info(
                "image-too-small", f"Images of fewer than {metrics.WINDOW} pixels cannot be scored against a reference."
            )
        except metrics.MetricError as error:
            findings.warn("reference-unusable", f"The images cannot be scored: {error}.")
    try:
        noise = metrics.noise_level(volume)
    except metrics.ImageTooSmallError:
        findings.info("image-too-small", "The images are too small for an estimate of their noise.")
    return Figures(_finite(ssim), _finite(psnr), _finite(nmse), root_mean_square(residuals), _finite(noise))


def _finite(value: float | None) -> float | None:
    """Return a figure, or None where it is none: the PSNR of an image that equals its reference is infinite."""
    return value if value is not None and math.isfinite(value) else None


def root_mean_square(residuals: Sequence[float | None]) -> float | None:
    """Return the root mean square of the residuals that are known and finite; None if none is."""
    known = [residual for residual in residuals if residual is not None and math.isfinite(residual)]
    return math.sqrt(sum(residual**2 for residual in known) / len(known)) if known else None
