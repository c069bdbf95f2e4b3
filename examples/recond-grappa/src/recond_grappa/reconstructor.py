"""GRAPPA on packed batches."""

from __future__ import annotations

import torch
from torch import Tensor

from recond_kernels.fourier import ifft2c
from recond_models.batch import PackedBatch, Reconstruction
from recond_models.model import ModelInfo, UnsuitableModelError
from recond_models.per_frame import reconstruct_each

_ROWS = 5  # of a kernel, along the readout
_LINES = 4  # measured lines of a kernel: two on either side
_RIDGE = 1e-4  # of the mean eigenvalue of the normal matrix


class Grappa:
    """Fills every missing line from the measured ones around it, with weights that the calibration data determine.

    Parameters
    ----------
    info
        What recond's registry says about the model.
    device
        torch device.
    """

    def __init__(self, info: ModelInfo, device: str) -> None:
        self.info = info
        self._device = torch.device(device)

    def reconstruct(self, batch: PackedBatch) -> Reconstruction:
        """Return the root sum of squares of the completed coils of every frame.

        Raises
        ------
        UnsuitableModelError
            The lines are not uniformly spaced, or there are too few calibration data.
        """
        return reconstruct_each(lambda _, frame: self._one(frame), batch, at_once=self._device.type == "cpu")

    def _one(self, frame: PackedBatch) -> Reconstruction:
        kspace = frame.kspace.to(self._device)
        lines = frame.masks[0].any(dim=0)
        # A power of two changes no digit: k-space of any scale gives the same image.
        largest = torch.view_as_real(kspace).abs().amax()
        exponent = int(torch.frexp(largest)[1]) if largest > 0 else 0
        kspace = torch.view_as_complex(torch.ldexp(torch.view_as_real(kspace), torch.tensor(-exponent)))
        block = frame.calibrations[0]
        first, spacing = _spacing(lines, self.info.name)
        if spacing > 1:
            if block is None or min(block.shape[1:]) < _ROWS or block.shape[2] <= spacing * (_LINES - 1):
                raise UnsuitableModelError(
                    f"{self.info.name} needs {spacing * (_LINES - 1) + 1} calibration lines at this spacing: use l1-wavelet"
                )
            scale = torch.view_as_real(block).abs().amax().clamp_min(torch.finfo(torch.float32).tiny)
            kspace = complete(kspace, lines.to(self._device), block.to(self._device) / scale, first, spacing)
        image = torch.view_as_real(ifft2c(kspace)).square().sum(dim=(0, -1)).sqrt()
        return Reconstruction(image[None], scales=torch.tensor([2.0**exponent], dtype=torch.float64))


def complete(kspace: Tensor, lines: Tensor, block: Tensor, first: int, spacing: int) -> Tensor:
    """Fill the missing lines between the first and the last measured one.

    Parameters
    ----------
    kspace
        complex64 (coils, rows, columns), zero where nothing was measured.
    lines
        bool (columns,), true where measured.
    block
        complex64 (coils, rows, columns), fully sampled, from the middle of k-space; its scale does not matter.
    first, spacing
        Every `spacing`-th line was measured, line `first` among them.

    Returns
    -------
    Tensor
        complex64 (coils, rows, columns). What was measured stays.
    """
    filled = kspace.clone()
    columns = torch.arange(kspace.shape[2], device=kspace.device)
    measured = columns[lines]
    for distance in range(1, spacing):
        targets = columns[((columns - first) % spacing == distance) & ~lines]
        targets = targets[(targets > measured[0]) & (targets < measured[-1])]
        if not targets.numel():
            continue
        offsets = torch.tensor([spacing * step - distance for step in range(1 - _LINES // 2, _LINES // 2 + 1)])
        weights = _weights(block, offsets.to(kspace.device))
        sources = _sources(kspace, targets, offsets.to(kspace.device))
        made = sources.flatten(0, 1) @ weights  # (rows x targets, coils)
        filled[:, :, targets] = made.reshape(kspace.shape[1], -1, kspace.shape[0]).permute(2, 0, 1)
    return filled


def _weights(block: Tensor, offsets: Tensor) -> Tensor:
    """Return complex64 (sources, coils): the weights that predict a sample from those at the offsets, by ridge regression."""
    columns = torch.arange(block.shape[2], device=block.device)
    inside = columns[(columns + offsets.min() >= 0) & (columns + offsets.max() < block.shape[2])]
    margin = _ROWS // 2
    rows = slice(margin, block.shape[1] - margin)
    sources = _sources(block, inside, offsets)[rows].flatten(0, 1).to(torch.complex128)
    wanted = block[:, rows, inside].permute(1, 2, 0).flatten(0, 1).to(torch.complex128)
    normal = sources.mH @ sources
    ridge = _RIDGE * normal.diagonal().real.mean().clamp_min(1e-30)
    normal.diagonal().add_(ridge)
    return torch.linalg.solve(normal, sources.mH @ wanted).to(torch.complex64)


def _sources(kspace: Tensor, targets: Tensor, offsets: Tensor) -> Tensor:
    """Return complex64 (rows, targets, sources): the samples around each target in all coils, zero beyond the edges."""
    coils, _, columns = kspace.shape
    places = targets[:, None] + offsets
    valid = (places >= 0) & (places < columns)
    taken = kspace[:, :, places.clamp(0, columns - 1)] * valid  # (coils, rows, targets, lines)
    padded = torch.nn.functional.pad(taken, (0, 0, 0, 0, _ROWS // 2, _ROWS // 2))
    windows = padded.unfold(1, _ROWS, 1)  # (coils, rows, targets, lines, kernel rows)
    return windows.permute(1, 2, 0, 3, 4).reshape(kspace.shape[1], len(targets), coils * len(offsets) * _ROWS)


def _spacing(lines: Tensor, name: str) -> tuple[int, int]:
    """Return (first line, spacing) of bool (columns,); raise UnsuitableModelError unless every spacing-th line is there."""
    measured = lines.nonzero()[:, 0]
    gaps = measured.diff()
    if not gaps.numel() or int(gaps.max()) == 1:
        return 0, 1
    spacing = int(gaps.max())
    for first in measured[:-1][gaps == spacing].tolist():
        grid = torch.arange(first % spacing, len(lines), spacing)
        inner = grid[(grid >= measured[0]) & (grid <= measured[-1])]
        if bool(lines[inner].all()):
            return first, spacing
    raise UnsuitableModelError(f"{name} takes lines at equal distances, and these are not: use l1-wavelet")
