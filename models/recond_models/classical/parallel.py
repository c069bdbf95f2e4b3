"""What the models with coil sensitivities share: the inverse problem of Cartesian SENSE, posed from a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from recond_kernels import espirit
from recond_kernels.consistency import sample
from recond_kernels.layout import CoilLayout
from recond_kernels.operators.sense import SenseEncoding
from recond_kernels.residuals import relative_residuals
from recond_models import per_frame
from recond_models.batch import Doubt, PackedBatch, Reconstruction
from recond_models.classical import field_of_view, noise
from recond_models.classical.compression import VIRTUAL_COILS, compress
from recond_models.classical.inverse_problem import InverseProblem
from recond_models.classical.scale import normalise
from recond_models.model import MINIMUM_CALIBRATION, ModelInfo, UnsuitableModelError

CROP = 0.95
"""Pixels of a smaller ESPIRiT eigenvalue are background. In measured heads 999 of 1000 pixels with signal are above 0.99."""

LARGEST_BLOCK = 24
"""Rows and columns of calibration data that are used; more cost time and add little."""

NoiseEstimate = Callable[[Tensor, Tensor, CoilLayout], Tensor]
"""From samples, masks and layout to the standard deviations of every frame, as `noise.deviations`."""


@dataclass(frozen=True, slots=True)
class ParallelImaging:
    """The samples of a batch and their Cartesian SENSE encoding.

    Parameters
    ----------
    encoding
        Its sensitivities have root sum of squares 1 in the object and 0 outside.
    kspace
        complex64 (virtual coils of all frames, rows, columns), normalised, zero where nothing was measured.
    scales
        float64 (batch,): what the frames were divided by.
    """

    encoding: SenseEncoding
    kspace: Tensor
    scales: Tensor

    def inverse_problem(self, estimate_noise: NoiseEstimate = noise.deviations) -> InverseProblem:
        """Return what is to be solved, with the noise estimated from the samples."""
        encoding = self.encoding
        coils = torch.split(encoding.sensitivities, list(encoding.layout.counts))
        return InverseProblem(
            encoding,
            self.kspace,
            estimate_noise(self.kspace, encoding.masks, encoding.layout),
            fractions_of(encoding.masks),
            torch.stack([(frame != 0).any(dim=0) for frame in coils]),
        )


@dataclass(frozen=True, slots=True)
class Solution:
    """What a method made of a posed problem.

    Parameters
    ----------
    images
        complex64 (batch, rows, columns), normalised as the problem.
    doubts
        For each frame why its image should not be trusted, or None; empty if there is no doubt about any.
    deviations
        float32 (batch, rows, columns): standard deviation of the error of the magnitudes; None where nobody wants or knows it.
    residuals
        float64 (batch,) on the CPU, of these images; None where the method has not needed them.
    """

    images: Tensor
    doubts: tuple[Doubt | None, ...] = ()
    deviations: Tensor | None = None
    residuals: Tensor | None = None


class PosedMethod(Protocol):
    """A model that solves what `pose` posed; several may solve the same."""

    info: ModelInfo

    def solve(self, posed: ParallelImaging) -> Tensor:
        """Return complex64 images (batch, rows, columns), normalised as the problem."""
        ...


class PosedNetwork(PosedMethod, Protocol):
    """A network that solves what `pose` posed, and may know how far its images are from the truth."""

    def solve_with_deviations(self, posed: ParallelImaging) -> tuple[Tensor, Tensor | None]:
        """Return what `solve` does, and float32 of the same shape: the standard deviations of the magnitudes, None if not known."""
        ...


def pose(
    batch: PackedBatch,
    info: ModelInfo,
    device: torch.device,
    *,
    largest_block: int = LARGEST_BLOCK,
    virtual_coils: int = VIRTUAL_COILS,
) -> ParallelImaging:
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
    largest_block
        Rows and columns of calibration data that are used at most.
    virtual_coils
        Most coils of the problem.

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
    blocks = _calibrations(batch, info)
    shape = (int(batch.kspace.shape[1]), int(batch.kspace.shape[2]))
    masks = batch.masks.to(device)
    measured, scales = normalise(sample(batch.kspace.to(device), masks, layout), layout)
    samples, virtual_blocks = [], []
    for frame, calibration in zip(torch.split(measured, list(layout.counts)), blocks, strict=True):
        compressed, block = compress(frame, _middle(calibration.to(device), shape, largest_block), virtual_coils)
        samples.append(compressed)
        virtual_blocks.append(block)
    maps = espirit.estimate_batch(virtual_blocks, shape, crop=CROP)
    virtual = CoilLayout(tuple(frame.shape[0] for frame in samples))
    return ParallelImaging(SenseEncoding(maps, masks, virtual), torch.cat(samples), scales)


def sensitivities(
    batch: PackedBatch, info: ModelInfo, device: torch.device, *, largest_block: int = LARGEST_BLOCK
) -> Tensor:
    """Estimate the coil sensitivities of every frame, of all its coils.

    Parameters
    ----------
    batch, info, device, largest_block
        As for `pose`.

    Returns
    -------
    Tensor
        complex64 (coils of all frames, rows, columns), as `recond_kernels.espirit.estimate_batch`.

    Raises
    ------
    UnsuitableModelError
        A frame has no calibration data, too few, or a single coil.
    """
    shape = (int(batch.kspace.shape[1]), int(batch.kspace.shape[2]))
    blocks = [_middle(block.to(device), shape, largest_block) for block in _calibrations(batch, info)]
    return espirit.estimate_batch(blocks, shape, crop=CROP)


def reconstruct(
    batch: PackedBatch,
    info: ModelInfo,
    device: torch.device,
    method: Callable[[InverseProblem], Tensor],
    *,
    largest_block: int = LARGEST_BLOCK,
    virtual_coils: int = VIRTUAL_COILS,
    estimate_noise: NoiseEstimate = noise.deviations,
) -> Reconstruction:
    """Pose and solve the inverse problems of a batch: on a CPU every frame by itself, on a GPU all together.

    Parameters
    ----------
    batch
        Frames with calibration data.
    info
        The model that asks, for the message of the error.
    device
        Where to compute.
    method
        Returns the complex64 images (batch, rows, columns) of a problem.
    largest_block, virtual_coils
        As for `pose`.
    estimate_noise
        How `method` wants the noise of its problem to be estimated.

    Returns
    -------
    Reconstruction
        Complex images and residuals. The phase of an image is that of the object times that of a virtual coil that sees all of it;
        see `recond_kernels.espirit`.

    Raises
    ------
    UnsuitableModelError
        A frame has no calibration data, too few, or a single coil.
    """
    return reconstruct_posed(
        batch,
        info,
        device,
        lambda posed: Solution(method(posed.inverse_problem(estimate_noise))),
        largest_block=largest_block,
        virtual_coils=virtual_coils,
    )


def reconstruct_posed(
    batch: PackedBatch,
    info: ModelInfo,
    device: torch.device,
    solve: Callable[[ParallelImaging], Solution],
    *,
    largest_block: int = LARGEST_BLOCK,
    virtual_coils: int = VIRTUAL_COILS,
) -> Reconstruction:
    """Do what `reconstruct` does with a method that poses inverse problems of its own, or doubts what it made.

    Parameters
    ----------
    batch, info, device, largest_block, virtual_coils
        As for `reconstruct`.
    solve
        Solves what `pose` posed.

    Returns
    -------
    Reconstruction
        As for `reconstruct`, with the doubts of `solve`.

    Raises
    ------
    UnsuitableModelError
        A frame has no calibration data, too few, or a single coil.
    """
    _calibrations(batch, info)

    def work(part: PackedBatch) -> Reconstruction:
        trimmed, first = field_of_view.trim(part)
        posed = pose(trimmed, info, device, largest_block=largest_block, virtual_coils=virtual_coils)
        solution = solve(posed)
        rows = int(part.kspace.shape[1])
        whole = field_of_view.untrim(solution.images, rows, first)
        doubts = _finished(solution, posed, rows, first) if any(solution.doubts) else ()
        known = solution.deviations
        return Reconstruction(
            whole,
            residuals_of(posed, solution.images) if solution.residuals is None else solution.residuals,
            scales=posed.scales,
            deviations=None if known is None else field_of_view.untrim(known, rows, first),
            doubts=doubts,
        )

    together = device.type != "cpu" and field_of_view.are_alike(batch)
    if together:
        return per_frame.map_parallel(work, [batch])[0]
    return per_frame.reconstruct_each(lambda _, part: work(part), batch, at_once=True)


def residuals_of(posed: ParallelImaging, images: Tensor) -> Tensor:
    """Return ``||A x - y|| / ||y||`` of images of a posed problem, float64 (batch,) on the CPU."""
    return relative_residuals(posed.encoding, images, posed.kspace, posed.encoding.layout).cpu()


def _finished(solution: Solution, posed: ParallelImaging, rows: int, first: int) -> tuple[Doubt | None, ...]:
    """Return the doubts about a batch, their images with residuals and as many rows as those of the frames."""
    pairs = list(zip(solution.images, solution.doubts, strict=True))
    others = torch.stack([image if doubt is None else doubt.image for image, doubt in pairs])
    residuals = residuals_of(posed, others).tolist()
    whole = field_of_view.untrim(others, rows, first)
    return tuple(
        None if doubt is None else replace(doubt, image=image, residual=residual)
        for doubt, image, residual in zip(solution.doubts, whole, residuals, strict=True)
    )


def fractions_of(masks: Tensor) -> Tensor:
    """Return float32 (batch,): the measured part of k-space of bool (batch, rows, columns)."""
    return masks.flatten(1).to(torch.float32).mean(dim=1)


def _calibrations(batch: PackedBatch, info: ModelInfo) -> list[Tensor]:
    """Return the calibration data of every frame; raise UnsuitableModelError for the first that has not enough."""
    return [
        _required(number, calibration, coils, info)
        for number, (calibration, coils) in enumerate(zip(batch.calibrations, batch.layout.counts, strict=True))
    ]


def _required(number: int, calibration: Tensor | None, coils: int, info: ModelInfo) -> Tensor:
    """Return the calibration data of a frame; raise UnsuitableModelError if no sensitivities can be estimated from them."""
    if calibration is not None and min(calibration.shape[1:]) >= MINIMUM_CALIBRATION and coils >= 2:
        return calibration
    found = "no calibration data" if calibration is None else f"calibration data of shape {tuple(calibration.shape)}"
    raise UnsuitableModelError(
        f"{info.name} needs two coils or more and at least {MINIMUM_CALIBRATION} x {MINIMUM_CALIBRATION} calibration "
        f"samples, but frame {number} of the batch has {coils} coil(s) and {found}: use the model rss"
    )


def _middle(calibration: Tensor, shape: tuple[int, int], largest: int) -> Tensor:
    """Return the middle of (coils, rows, columns), origin kept at ``n // 2``."""
    block = calibration
    for axis, size in enumerate(shape, start=1):
        wanted = min(largest, size, block.shape[axis])
        block = block.narrow(axis, block.shape[axis] // 2 - wanted // 2, wanted)
    return block
