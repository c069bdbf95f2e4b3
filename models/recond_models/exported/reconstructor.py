"""An exported program on packed batches."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recond_kernels.coils import root_sum_of_squares
from recond_kernels.fourier import ifft2c
from recond_models import per_frame
from recond_models.batch import PackedBatch, Reconstruction
from recond_models.classical import parallel
from recond_models.classical.scale import normalise
from recond_models.exported.program import Program
from recond_models.exported.signature import Signature, TensorForm
from recond_models.model import ModelInfo, UnsuitableModelError
from recond_models.networks.lines import measured_lines
from recond_models.note import Note

_SILENT = Note("no-signal", "all samples are zero, and so is the image")


class ExportedReconstructor:
    """Normalises every frame, estimates its sensitivities if the program takes them, and runs the program.

    The program gets k-space whose zero-filled root-sum-of-squares image has a brightest pixel of 1; its image is scaled back.

    Parameters
    ----------
    info
        Its entry in the registry.
    program
        The program.
    device
        torch device.
    together
        Frames with equal numbers of coils go to a program that takes several at once. Else one after another.

    Attributes
    ----------
    signature
        What the program takes and returns.
    together
        As given.

    Raises
    ------
    SignatureError
        The program does not take (k-space, mask[, maps]) and return an image.
    """

    def __init__(self, info: ModelInfo, program: Program, device: str = "cpu", *, together: bool = False) -> None:
        self.info = info
        self.signature = Signature.of(program)
        self._program = program
        self._device = torch.device(device)
        self.together = together
        program.place(self._device)

    @torch.inference_mode()
    def reconstruct(self, batch: PackedBatch) -> Reconstruction:
        """Return the images of a batch; no residuals, for nobody knows whether the program fits the samples.

        Raises
        ------
        UnsuitableModelError
            The program does not take frames of this size or number of coils, takes whole lines and the mask has none, or needs
            sensitivities and there are too few calibration data or coils.
        ProgramError
            The program returns another image than its signature says.
        """
        counts = batch.layout.counts
        for coils in counts:
            problems = self.signature.problems(coils, *map(int, batch.kspace.shape[1:]))
            if problems:
                raise UnsuitableModelError(
                    f"{self.info.name} cannot take this frame: {'; '.join(problems)}: use another model"
                )
        lines = measured_lines(batch.masks.cpu(), self.info.name) if self.signature.takes_lines else None
        maps = self._maps(batch)
        if self.together and len(set(counts)) == 1 and self._takes(len(batch)):
            return self._run(batch, lines, maps)
        segments = batch.layout.segments()
        return per_frame.reconstruct_each(
            lambda number, frame: self._run(
                frame,
                None if lines is None else lines[number : number + 1],
                None if maps is None else maps[segments[number]],
            ),
            batch,
            at_once=self._device.type == "cpu",
        )

    def _takes(self, frames: int) -> bool:
        return self.signature.takes_batches and not self.signature.sizes["batch"].problem(frames)

    def _maps(self, batch: PackedBatch) -> Tensor | None:
        return None if self.signature.maps is None else parallel.sensitivities(batch, self.info, self._device)

    def _run(self, batch: PackedBatch, lines: Tensor | None, maps: Tensor | None) -> Reconstruction:
        """Reconstruct frames with equal numbers of coils."""
        layout, signature = batch.layout, self.signature
        frames, coils = len(batch), layout.counts[0]
        masks = batch.masks.to(self._device)
        kspace, scales = normalise(batch.kspace.to(self._device), layout)
        peaks = root_sum_of_squares(ifft2c(kspace), layout).flatten(1).amax(dim=1)
        silent = peaks == 0
        peaks = torch.where(silent, torch.ones_like(peaks), peaks)
        shape = (frames, coils, *kspace.shape[1:])
        inputs = [
            _as_input(kspace.reshape(shape) / peaks[:, None, None, None], signature.kspace),
            _as_mask(masks if lines is None else lines.to(self._device), signature.mask, coils),
        ]
        if maps is not None and signature.maps is not None:
            inputs.append(_as_input(maps.reshape(shape).clone(), signature.maps))
        images = _as_images(self._program(*inputs), signature.image, (frames, *kspace.shape[1:]))
        images = torch.where(silent[:, None, None], torch.zeros_like(images), images * peaks[:, None, None])
        notes = tuple((_SILENT,) if is_silent else () for is_silent in silent.tolist())
        return Reconstruction(images, notes=notes if any(notes) else (), scales=scales.cpu())


def _as_input(values: Tensor, form: TensorForm) -> Tensor:
    """Return complex64 (batch, coils, rows, columns) as a program takes it."""
    shaped = values if form.axes[0] == "batch" else values[0]
    return torch.view_as_real(shaped).contiguous() if "parts" in form.axes else shaped.contiguous()


def _as_mask(masks: Tensor, form: TensorForm, coils: int) -> Tensor:
    """Return bool (batch, rows, columns), or lines (batch, columns), as a program takes them; memory of its own."""
    lengths = {
        "batch": masks.shape[0],
        "coils": coils,
        "rows": masks.shape[-2] if masks.ndim == 3 else 1,
        "columns": masks.shape[-1],
        "parts": 2,
        "1": 1,
    }
    own = {"batch", "rows", "columns"}
    values = masks if "batch" in form.axes else masks[0]
    values = values.reshape([lengths[axis] if axis in own else 1 for axis in form.axes]).to(form.dtype)
    return values.expand([lengths[axis] for axis in form.axes]).clone(memory_format=torch.contiguous_format)


def _as_images(made: Tensor, form: TensorForm, shape: tuple[int, ...]) -> Tensor:
    """Return complex64 or float32 (batch, rows, columns); raise ValueError if the program made something else."""
    values = made.to(torch.complex64 if form.dtype.is_complex else torch.float32)
    if "parts" in form.axes and values.ndim == len(form.axes):
        values = torch.view_as_complex(values.movedim(form.axes.index("parts"), -1).contiguous())
    if values.numel() != math.prod(shape) or tuple(values.shape[-2:]) != shape[-2:]:
        raise ValueError(f"the program made an image of {tuple(made.shape)}, not of {form}")
    values = values.reshape(shape)
    return values if values.is_complex() else values.abs()
