"""How well reconstructions predict samples that were set aside: in the k-space of the virtual coils, from one posed problem.

Samples that a reconstruction did not see are the only truth there is about a scan without a reference. The principle is
cross-validation (Stone 1974, doi:10.1111/j.2517-6161.1974.tb00994.x), as self-supervised training uses it (Yaman et al. 2020,
doi:10.1002/mrm.28378). The calibration block stays: sensitivities come from it, and every candidate shares them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recond_kernels.consistency import sample
from recond_kernels.operators.sense import SenseEncoding
from recond_models.classical.parallel import ParallelImaging
from recond_models.networks import noise_level

SHARE = 0.08
"""Part of the samples outside the calibration block that is set aside in one hiding."""

_FEWEST_LINES = 2
_FEWEST_POINTS = 16


def draw(mask: NDArray[np.bool_], block: tuple[int, int], number: int) -> NDArray[np.bool_]:
    """Choose samples to set aside: whole lines where whole lines were measured, else points.

    They are spread over k-space: one of each of as many runs of neighbouring lines or points, from its centre outwards.

    Parameters
    ----------
    mask
        bool (rows, columns), true where measured.
    block
        (rows, columns) of the calibration block about ``n // 2``, which is left alone.
    number
        Of the hiding: another draws others.

    Returns
    -------
    ndarray
        bool (rows, columns), a part of `mask`; all false where too few samples lie outside the block.
    """
    rows, columns = mask.shape
    outside = mask.copy()
    lines = bool((mask == mask[:1]).all())
    height, width = (rows if lines else block[0]), block[1]
    top, left = rows // 2 - height // 2, columns // 2 - width // 2
    outside[top : top + height, left : left + width] = False
    generator = np.random.default_rng([number, rows, columns])
    hidden = np.zeros_like(mask)
    if lines:
        free = np.flatnonzero(outside[0])
        chosen = _spread(generator, free, max(_FEWEST_LINES, round(SHARE * free.size)))
        hidden[:, chosen] = True
    else:
        free = np.flatnonzero(outside)
        centred = (np.arange(rows)[:, None] - rows // 2) / rows, (np.arange(columns)[None] - columns // 2) / columns
        order = np.argsort(np.hypot(*centred).ravel()[free], kind="stable")
        chosen = _spread(generator, free[order], max(_FEWEST_POINTS, round(SHARE * free.size)))
        hidden.ravel()[chosen] = True
    return hidden


def without(posed: ParallelImaging, hidden: Tensor) -> ParallelImaging:
    """Return a posed problem without the hidden samples, bool (batch, rows, columns); the sensitivities stay."""
    encoding = posed.encoding
    masks = encoding.masks & ~hidden
    return ParallelImaging(
        SenseEncoding(encoding.sensitivities, masks, encoding.layout),
        sample(posed.kspace, masks, encoding.layout),
        posed.scales,
    )


def predict(posed: ParallelImaging, images: Tensor, hidden: Tensor) -> Tensor:
    """Return what images complex64 (1, rows, columns) let expect at the hidden samples, complex64 (coils, samples)."""
    encoding = posed.encoding
    predicted: Tensor = SenseEncoding(encoding.sensitivities, hidden, encoding.layout)(images)
    return predicted[:, hidden[0]]


def measured(posed: ParallelImaging, hidden: Tensor) -> Tensor:
    """Return the hidden samples, complex64 (coils, samples)."""
    return posed.kspace[:, hidden[0]]


def noise_energy(posed: ParallelImaging, samples: Tensor) -> float:
    """Return what the noise of a posed problem of one frame adds to squared magnitudes of samples, summed over all of them."""
    encoding = posed.encoding
    deviation = float(noise_level.deviations(posed.kspace, encoding.masks, encoding.layout)[0])
    return 2 * deviation**2 * samples.numel()


def _spread(generator: np.random.Generator, free: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
    """Return one of each of `wanted` runs of equal length, at most half of all; none of fewer than two."""
    count = min(wanted, free.size // 2)
    if count == 0:
        return free[:0]
    edges = np.linspace(0, free.size, count + 1)
    places = edges[:-1] + generator.random(count) * np.diff(edges)
    return free[places.astype(np.int64)]
