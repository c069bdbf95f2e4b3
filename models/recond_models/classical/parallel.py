"""What the models with coil sensitivities share: the encoding and the samples of a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recond_kernels import espirit
from recond_kernels.coils import CoilLayout
from recond_kernels.consistency import sample
from recond_kernels.sense import SenseEncoding
from recond_models.batch import PackedBatch, Reconstruction
from recond_models.classical.compression import compress
from recond_models.classical.scale import normalise, restore
from recond_models.registry import MINIMUM_CALIBRATION, ModelInfo, UnsuitableModelError

CROP = 0.95
"""Pixels of a smaller ESPIRiT eigenvalue are background. In measured heads 999 of 1000 pixels with signal are above 0.99."""

_LARGEST_BLOCK = 24
"""Rows and columns of calibration data that are used; more cost time and add little."""


@dataclass(frozen=True, slots=True)
class ParallelImaging:
    """The inverse problem of a batch: find x with A x = y.

    Parameters
    ----------
    encoding
        A; its sensitivities have root sum of squares 1 in the object and 0 outside.
    kspace
        y: complex64 (virtual coils of all frames, rows, columns), normalised, zero where nothing was measured.
    scales
        float64 (batch,): what the frames were divided by.
    """

    encoding: SenseEncoding
    kspace: Tensor
    scales: Tensor

    @property
    def support(self) -> Tensor:
        """Bool (batch, rows, columns): the pixels that A sees."""
        coils = torch.split(self.encoding.sensitivities, list(self.encoding.layout.counts))
        return torch.stack([(frame != 0).any(dim=0) for frame in coils])

    def parts(self) -> list[ParallelImaging]:
        """Return the problems to solve one after another.

        On a CPU every frame is one: its arrays stay in the cache, frames that need few iterations do not wait for others, and an
        image does not depend on its batch to the last bit. On a GPU all frames are solved together.
        """
        if self.kspace.is_cuda or self.encoding.layout.batch == 1:
            return [self]
        encoding, result = self.encoding, []
        for frame, (place, count) in enumerate(zip(encoding.layout.segments(), encoding.layout.counts, strict=True)):
            one = slice(frame, frame + 1)
            part = SenseEncoding(encoding.sensitivities[place], encoding.masks[one], CoilLayout((count,)))
            result.append(ParallelImaging(part, self.kspace[place], self.scales[one]))
        return result


def pose(batch: PackedBatch, info: ModelInfo, device: torch.device) -> ParallelImaging:
    """Normalise the samples of every frame, compress its coils and estimate its sensitivities.

    Residuals of this problem are those of the virtual coils.

    Parameters
    ----------
    batch
        Frames with calibration data.
    info
        The model that asks, for the message of the error.
    device
        Where to compute.

    Returns
    -------
    ParallelImaging
        The problem, on `device`. What belongs to a frame does not depend on the others.

    Raises
    ------
    UnsuitableModelError
        A frame has no calibration data, too few, or a single coil.
    """
    layout = batch.layout
    blocks = [
        _required(number, calibration, coils, info)
        for number, (calibration, coils) in enumerate(zip(batch.calibrations, layout.counts, strict=True))
    ]
    shape = (int(batch.kspace.shape[1]), int(batch.kspace.shape[2]))
    masks = batch.masks.to(device)
    measured, scales = normalise(sample(batch.kspace.to(device), masks, layout), layout)
    samples, maps = [], []
    for frame, calibration in zip(torch.split(measured, list(layout.counts)), blocks, strict=True):
        compressed, block = compress(frame, _middle(calibration.to(device), shape))
        samples.append(compressed)
        maps.append(_sensitivities(block, shape))
    virtual = CoilLayout(tuple(frame.shape[0] for frame in samples))
    return ParallelImaging(SenseEncoding(torch.cat(maps), masks, virtual), torch.cat(samples), scales)


def solve(problem: ParallelImaging, method: Callable[[ParallelImaging], Tensor]) -> Reconstruction:
    """Solve the parts of a problem.

    Parameters
    ----------
    problem
        From `pose`.
    method
        Returns the complex64 images (batch, rows, columns) of a part.

    Returns
    -------
    Reconstruction
        Magnitudes and residuals of the whole batch.
    """
    images, residuals = [], []
    for part in problem.parts():
        solved = method(part)
        images.append(restore(solved.abs(), part.scales))
        residuals.append(part.encoding.relative_residuals(solved, part.kspace).cpu())
    return Reconstruction(torch.cat(images), torch.cat(residuals))


def _required(number: int, calibration: Tensor | None, coils: int, info: ModelInfo) -> Tensor:
    """Return the calibration data of a frame; raise UnsuitableModelError if no sensitivities can be estimated from them."""
    if calibration is not None and min(calibration.shape[1:]) >= MINIMUM_CALIBRATION and coils >= 2:
        return calibration
    found = "no calibration data" if calibration is None else f"calibration data of shape {tuple(calibration.shape)}"
    raise UnsuitableModelError(
        f"{info.name} needs two coils or more and at least {MINIMUM_CALIBRATION} x {MINIMUM_CALIBRATION} calibration "
        f"samples, but frame {number} of the batch has {coils} coil(s) and {found}: use the model rss"
    )


def _middle(calibration: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return the middle of (coils, rows, columns), origin kept at ``n // 2``."""
    block = calibration
    for axis, size in enumerate(shape, start=1):
        wanted = min(_LARGEST_BLOCK, size, block.shape[axis])
        block = block.narrow(axis, block.shape[axis] // 2 - wanted // 2, wanted)
    return block


def _sensitivities(block: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return complex64 (coils, rows, columns), cropped; zero for calibration data of zeros."""
    if not bool(block.abs().max() > 0):
        return torch.zeros((block.shape[0], *shape), dtype=torch.complex64, device=block.device)
    result = espirit.estimate(block, shape)
    return torch.where(result.eigenvalues > CROP, result.sensitivities, 0)
