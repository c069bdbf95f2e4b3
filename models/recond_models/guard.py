"""Does a network's image contradict what was measured? Then a classical image of the same samples should be shown.

Two images of the same samples differ by what noise and missing samples leave open. How much that usually is was measured on heads
with a truth, see `recond_models.evidence`; what goes beyond it comes from a network that met what it does not know, or from weights
or a processor that are damaged.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recond_models.batch import Doubt
from recond_models.classical import cg_sense, noise
from recond_models.classical.parallel import ParallelImaging, fractions_of
from recond_models.classical.scale import bright_pixels
from recond_models.evidence import calibration
from recond_models.note import Note

CONTRADICTED = "network-contradicted"
NOT_FINITE = "network-not-finite"

_START_TOLERANCE = 2e-4
_START_ITERATIONS = 12


def against_images(
    posed: ParallelImaging, learnt: Tensor, classical: Tensor, methods: Sequence[str], network: str
) -> tuple[Doubt | None, ...]:
    """Compare the images of a network with classical ones of the same problem.

    Parameters
    ----------
    posed
        The problem.
    learnt, classical
        complex64 (batch, rows, columns).
    methods
        For each frame what made the classical image.
    network
        Name of the network.

    Returns
    -------
    tuple
        For each frame what is to be doubted; empty if nothing is.
    """
    norms = torch.linalg.vector_norm(classical, dim=(1, 2)).clamp_min(torch.finfo(torch.float32).tiny)
    found = (torch.linalg.vector_norm(learnt - classical, dim=(1, 2)) / norms).tolist()
    limits = _limits(posed, classical, methods)
    doubts = tuple(
        _doubt(network, methods[frame], f"its image differs from that of {methods[frame]}", *pair, classical[frame])
        for frame, pair in enumerate(zip(found, limits, strict=True))
    )
    return doubts if any(doubts) else ()


def against_samples(posed: ParallelImaging, residuals: Tensor, network: str) -> tuple[Doubt | None, ...]:
    """Compare the images of a network with the measured samples.

    Parameters
    ----------
    posed
        The problem.
    residuals
        Of the images, as `parallel.residuals_of` has them.
    network
        Name of the network.

    Returns
    -------
    tuple
        For each frame what is to be doubted, with an image of iterative SENSE; empty if nothing is.
    """
    encoding = posed.encoding
    found = residuals.tolist()
    limits = _limits(posed, encoding.adjoint(posed.kspace), ["samples"] * len(found))
    if all(value <= limit for value, limit in zip(found, limits, strict=True)):
        return ()
    start = cg_sense.iterate(posed.inverse_problem(), tolerance=_START_TOLERANCE, max_iterations=_START_ITERATIONS)
    return tuple(
        _doubt(network, "cg-sense", "its image leaves the measured samples", *pair, start[frame])
        for frame, pair in enumerate(zip(found, limits, strict=True))
    )


def without_unusable(images: Tensor, doubts: tuple[Doubt | None, ...]) -> Tensor:
    """Return images complex64 (batch, rows, columns), the classical ones in place of those whose pixels are no numbers."""
    if not any(doubt is not None and doubt.certain for doubt in doubts):
        return images
    usable = [
        doubt.image if doubt is not None and doubt.certain else image
        for image, doubt in zip(images, doubts, strict=True)
    ]
    return torch.stack(usable)


def _limits(posed: ParallelImaging, images: Tensor, compared_with: Sequence[str]) -> list[float]:
    encoding = posed.encoding
    bright = bright_pixels(images).clamp_min(torch.finfo(torch.float32).tiny)
    levels = (noise.deviations(posed.kspace, encoding.masks, encoding.layout) / bright).tolist()
    accelerations = (1 / fractions_of(encoding.masks).clamp_min(1e-6)).tolist()
    guards = calibration().guards
    return [
        guards[name].at(level, acceleration)
        for name, level, acceleration in zip(compared_with, levels, accelerations, strict=True)
    ]


def _doubt(network: str, method: str, how: str, found: float, limit: float, image: Tensor) -> Doubt | None:
    if found <= limit:
        return None
    if found == found and found != float("inf"):  # noqa: PLR0124 - not NaN
        text = f"{how} by {found:.1%}, while noise and acceleration explain {limit:.1%}"
        return Doubt(Note(CONTRADICTED, f"{network} is contradicted: {text}"), image, method)
    return Doubt(Note(NOT_FINITE, f"{network} made pixels that are no numbers"), image, method, certain=True)
