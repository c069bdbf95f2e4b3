"""What goes into a model and what comes out: frames with any number of coils, packed without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recond_kernels.layout import CoilLayout
from recond_models.evidence import HeldOut
from recond_models.model import ModelInfo
from recond_models.note import Note

Array = NDArray[Any] | Tensor


@dataclass(frozen=True)
class PackedBatch:
    """Frames of one size whose coils lie one after another.

    Parameters
    ----------
    kspace
        complex64 (coils of all frames, rows, columns), zero where nothing was measured; centred orthonormal DFT.
    coil_offsets
        int64 (batch + 1,), starting at 0: frame b has the coils ``coil_offsets[b]:coil_offsets[b + 1]``.
    masks
        bool (batch, rows, columns), true where measured.
    calibrations
        For each frame complex64 (coils, calibration rows, calibration columns), fully sampled k-space centred at ``n // 2``, or
        None. Its scale may differ from that of `kspace`.
    crops
        For each frame (rows, columns) of the middle of the image that will be shown, or None for all of it: models that normalise
        an image by its own statistics need to know. Empty if that is None for every frame.
    deviations
        Whether somebody wants the standard deviations of the images too.

    Raises
    ------
    ValueError
        Types or shapes do not belong together.
    """

    kspace: Tensor
    coil_offsets: Tensor
    masks: Tensor
    calibrations: tuple[Tensor | None, ...]
    crops: tuple[tuple[int, int] | None, ...] = ()
    deviations: bool = False

    def __post_init__(self) -> None:
        _require(self.kspace, "kspace", torch.complex64, 3)
        _require(self.coil_offsets, "coil_offsets", torch.int64, 1)
        _require(self.masks, "masks", torch.bool, 3)
        layout = CoilLayout.from_offsets(self.coil_offsets)
        layout.check(self.kspace)
        if tuple(self.masks.shape) != (layout.batch, *self.kspace.shape[1:]):
            raise ValueError(
                f"masks have the shape {tuple(self.masks.shape)}, expected {(layout.batch, *self.kspace.shape[1:])}"
            )
        if len(self.calibrations) != layout.batch:
            raise ValueError(f"there are {len(self.calibrations)} calibrations for {layout.batch} frames")
        for number, (calibration, coils) in enumerate(zip(self.calibrations, layout.counts, strict=True)):
            if calibration is None:
                continue
            _require(calibration, f"calibrations[{number}]", torch.complex64, 3)
            if calibration.shape[0] != coils:
                raise ValueError(f"calibrations[{number}] has {calibration.shape[0]} coils, its frame has {coils}")
        if len(self.crops) not in {0, layout.batch}:
            raise ValueError(f"there are {len(self.crops)} crops for {layout.batch} frames; give one a frame, or none")
        whole = (int(self.kspace.shape[1]), int(self.kspace.shape[2]))
        for number, crop in enumerate(self.crops):
            if crop is not None and not (0 < crop[0] <= whole[0] and 0 < crop[1] <= whole[1]):
                raise ValueError(f"crops[{number}] is {crop}; it must lie within the image of {whole}")

    @classmethod
    def pack(
        cls,
        kspaces: Sequence[Array],
        masks: Sequence[Array],
        calibrations: Sequence[Array | None] | None = None,
        crops: Sequence[tuple[int, int] | None] = (),
        *,
        deviations: bool = False,
    ) -> PackedBatch:
        """Pack frames.

        Parameters
        ----------
        kspaces
            For each frame complex64 (coils, rows, columns); rows and columns the same for all.
        masks
            For each frame bool (rows, columns).
        calibrations
            For each frame complex64 (coils, calibration rows, calibration columns) or None; None if there are none at all.
        crops
            For each frame (rows, columns) of the middle that will be shown, or None; empty if there are none at all.
        deviations
            Whether somebody wants the standard deviations of the images too.

        Returns
        -------
        PackedBatch
            A copy of the k-space; of a single frame the k-space itself, which models do not change.

        Raises
        ------
        ValueError
            There are no frames, or types or shapes do not belong together.
        """
        tensors = [torch.as_tensor(kspace) for kspace in kspaces]
        if not tensors:
            raise ValueError("a batch needs at least one frame")
        shapes = {tuple(tensor.shape[1:]) for tensor in tensors}
        if len(shapes) > 1:
            raise ValueError(f"frames of a batch have the same rows and columns, got {sorted(shapes)}")
        offsets = np.cumsum([0, *(tensor.shape[0] for tensor in tensors)], dtype=np.int64)
        blocks = [None] * len(tensors) if calibrations is None else calibrations
        return cls(
            tensors[0] if len(tensors) == 1 else torch.cat(tensors),
            torch.from_numpy(offsets),
            torch.stack([torch.as_tensor(mask) for mask in masks]),
            tuple(None if block is None else torch.as_tensor(block) for block in blocks),
            tuple(crops),
            deviations,
        )

    @property
    def layout(self) -> CoilLayout:
        """Coils of each frame."""
        return CoilLayout.from_offsets(self.coil_offsets)

    def __len__(self) -> int:
        return len(self.calibrations)


@dataclass(frozen=True, slots=True)
class CoilImages:
    """Coil images that `recond_models.finishing` combines by root sum of squares, once they have the size that is wanted.

    Parameters
    ----------
    images
        complex64 (coils of all frames, rows, columns): the plain inverse DFT of k-space that was multiplied by the conjugate of
        `recond_kernels.fourier.ramp`. Times the same factor they are centred; their magnitudes are right as they are. Near 1, so
        that squares neither over- nor underflow.
    layout
        Coils of each frame.
    """

    images: Tensor
    layout: CoilLayout


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why the image of a frame should not be trusted, and another of the same samples.

    Parameters
    ----------
    note
        What contradicts the image.
    image
        complex64 (rows, columns), scaled like the doubtful one: what a classical method made of the samples.
    method
        Name of that method.
    certain
        The doubtful image could not be shown at all, so that the other stands in its place already.
    residual
        ``||A x - y|| / ||y||`` of the other image.
    """

    note: Note
    image: Tensor
    method: str
    certain: bool = False
    residual: float | None = None


@dataclass(frozen=True)
class Reconstruction:
    """What a model made of a batch: images before they are cropped, interpolated and scaled; see `recond_models.finishing`.

    Parameters
    ----------
    images
        On the device of the model, (batch, rows, columns): complex64 from models that know the phase, float32 magnitudes from those
        that do not; or coil images that are yet to be combined.
    residuals
        float64 (batch,) on the CPU: ``||A x - y|| / ||y||`` over the measured samples; None for models that do not fit the samples.
    notes
        For each frame what the model noticed on it; empty if there is nothing on any frame.
    scales
        float64 (batch,), powers of two: the images times these are in the units of the k-space. None where they are already.
    deviations
        float32 (batch, rows, columns) in the units of the images: standard deviation of the error of their magnitudes; None where
        nobody wants it or the model predicts none.
    doubts
        For each frame why its image should not be trusted, or None; empty if there is no doubt about any.
    trials
        For each frame what held-out samples showed, or None; empty where none were held out.
    """

    images: Tensor | CoilImages
    residuals: Tensor | None = None
    notes: tuple[tuple[Note, ...], ...] = ()
    scales: Tensor | None = None
    deviations: Tensor | None = None
    doubts: tuple[Doubt | None, ...] = ()
    trials: tuple[HeldOut | None, ...] = ()


class Reconstructor(Protocol):
    """A model with its weights in memory, ready to run."""

    info: ModelInfo

    def reconstruct(self, batch: PackedBatch) -> Reconstruction:
        """Reconstruct every frame of a batch; the image of a frame does not depend on the others.

        Raises
        ------
        UnsuitableModelError
            The model cannot reconstruct such frames.
        """
        ...


def _require(tensor: Tensor, name: str, dtype: torch.dtype, axes: int) -> None:
    """Raise ValueError unless the tensor has this type and number of axes."""
    if tensor.dtype != dtype or tensor.ndim != axes:
        raise ValueError(f"{name} must be {dtype} with {axes} axes, got {tensor.dtype} {tuple(tensor.shape)}")
