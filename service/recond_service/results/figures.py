"""Quality figures of a volume."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recond_models import metrics, object_metrics
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
    against_reference: dict[str, float | None] = {}
    noise = None
    if reference is not None:
        try:
            against_reference = _against(reference, volume, findings)
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
    return Figures(
        data_consistency_residual=root_mean_square(residuals), noise_level=_finite(noise), **against_reference
    )


def _against(
    reference: NDArray[np.float32], volume: NDArray[np.float32], findings: FindingList
) -> dict[str, float | None]:
    """Return the figures over the picture and in the object; findings get why those in the object are missing, and a noise floor.

    Raises
    ------
    MetricError
        There are no figures over the picture.
    """
    found = {name: getattr(metrics, name)(reference, volume) for name in ("ssim", "psnr", "nmse")}
    try:
        inside = object_metrics.object_mask(reference)
        within = object_metrics.inside_object(reference, volume, inside)
        floor = object_metrics.noise_floor(reference, volume, inside)
    except metrics.MetricError as error:
        findings.info("object-not-found", f"There are no figures inside the object: {error}.")
    else:
        found |= {"ssim_object": within.ssim, "psnr_object": within.psnr, "nmse_object": within.nmse}
        if floor is not None:
            findings.info(
                "reference-noise-floor",
                f"SSIM over the picture is ruled by the noise floor of the reference ({floor.reference:.1%} of its maximum around "
                f"the object, {max(floor.reconstruction, 0):.1%} in the images): look at the figures in the object.",
            )
    return {name: _finite(value) for name, value in found.items()}


def _finite(value: float | None) -> float | None:
    """Return a figure, or None where it is none: the PSNR of an image that equals its reference is infinite."""
    return value if value is not None and math.isfinite(value) else None


def root_mean_square(residuals: Sequence[float | None]) -> float | None:
    """Return the root mean square of the residuals that are known and finite; None if none is."""
    known = [residual for residual in residuals if residual is not None and math.isfinite(residual)]
    return math.sqrt(sum(residual**2 for residual in known) / len(known)) if known else None
