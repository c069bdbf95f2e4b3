"""The encoding of Cartesian parallel imaging: sensitivities, Fourier transform, sampling."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from recond_kernels import coils
from recond_kernels.consistency import sample
from recond_kernels.fourier import fft2c, ifft2c, ramp
from recond_kernels.layout import CoilLayout

_BOTH = (-2, -1)
_PHASE_ENCODE = (-1,)


@dataclass(frozen=True)
class SenseEncoding:
    """A = sampling . Fourier . sensitivities, for a batch of frames (Pruessmann et al. 1999, 2001, doi:10.1002/mrm.1241).

    Parameters
    ----------
    sensitivities
        Complex (coils of all frames, rows, columns).
    masks
        Bool (batch, rows, columns), true where measured.
    layout
        Coils of each frame.

    Raises
    ------
    ValueError
        The shapes do not belong together.
    """

    sensitivities: Tensor
    masks: Tensor
    layout: CoilLayout
    _blocks: list[_Block] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        self.layout.check(self.sensitivities)
        expected = (self.layout.batch, *self.sensitivities.shape[1:])
        if tuple(self.masks.shape) != expected:
            raise ValueError(f"masks have the shape {tuple(self.masks.shape)}, expected {expected}")

    def forward(self, images: Tensor) -> Tensor:
        """Encode complex images (batch, rows, columns) to samples (coils of all frames, rows, columns)."""
        return sample(fft2c(coils.expand(images, self.sensitivities, self.layout)), self.masks, self.layout)

    def adjoint(self, kspace: Tensor) -> Tensor:
        """Apply the adjoint of `forward`: (coils of all frames, rows, columns) to (batch, rows, columns)."""
        coil_images = ifft2c(sample(kspace, self.masks, self.layout))
        return coils.reduce(coil_images, self.sensitivities, self.layout)

    def normal(self, images: Tensor) -> Tensor:
        """Apply ``adjoint(forward(images))`` in a third of the time or less.

        The factors that centre the transform in k-space cancel, those in the image are part of the sensitivities. Where whole lines
        were measured, the transform along the readout cancels too.
        """
        if not self._blocks:
            self._blocks.extend(self._prepare())
        parts = [block.normal(images[block.frames]) for block in self._blocks]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def relative_residuals(self, images: Tensor, kspace: Tensor) -> Tensor:
        """Return ``||A x - y|| / ||y||`` over the measured samples of each frame.

        Parameters
        ----------
        images
            Complex (batch, rows, columns).
        kspace
            Complex (coils of all frames, rows, columns).

        Returns
        -------
        Tensor
            float64 (batch,); 0 for a frame whose samples are all zero.
        """
        measured = sample(kspace, self.masks, self.layout)
        missing = _squared_norms(self.forward(images) - measured, self.layout).sqrt()
        norms = _squared_norms(measured, self.layout).sqrt()
        return torch.where(norms > 0, missing / norms.clamp_min(torch.finfo(norms.dtype).tiny), 0)

    def _prepare(self) -> list[_Block]:
        """Split the batch into frames, on a GPU into runs of frames whose masks are of one kind."""
        lines = (self.masks == self.masks[:, :1]).flatten(1).all(dim=1).tolist()
        places = self.layout.segments()
        blocks: list[_Block] = []
        first = 0
        for end in range(1, self.layout.batch + 1):
            if end < self.layout.batch and self.sensitivities.is_cuda and lines[end] == lines[first]:
                continue
            axes = _PHASE_ENCODE if lines[first] else _BOTH
            maps = self.sensitivities[places[first].start : places[end - 1].stop]
            counts = CoilLayout(self.layout.counts[first:end])
            blocks.append(_Block.of(slice(first, end), maps, self.masks[first:end], counts, axes))
            first = end
        return blocks


@dataclass(frozen=True, slots=True)
class _Block:
    """Some frames of a batch, prepared for the normal operator.

    Parameters
    ----------
    frames
        Place in the batch.
    maps
        Complex (coils, rows, columns): sensitivities times the ramp that centres a plain DFT.
    conjugates
        Their conjugates in memory where the block is a single frame on a CPU; None elsewhere.
    masks
        Complex (coils or 1, rows or 1, columns): 1 where measured, 0 elsewhere. Products of complex numbers are faster than those
        of mixed types.
    layout
        Coils of each frame.
    axes
        Axes of the transform.
    """

    frames: slice
    maps: Tensor
    conjugates: Tensor | None
    masks: Tensor
    layout: CoilLayout
    axes: tuple[int, ...]

    @classmethod
    def of(
        cls, frames: slice, sensitivities: Tensor, masks: Tensor, layout: CoilLayout, axes: tuple[int, ...]
    ) -> _Block:
        """Prepare the frames."""
        rows, columns = sensitivities.shape[1:]
        wave = ramp(rows, columns, sensitivities.dtype, sensitivities.device)
        kept = masks[:, :1] if axes == _PHASE_ENCODE else masks
        spread = kept if layout.batch == 1 else kept[layout.owners(masks.device)]
        maps = sensitivities * wave
        conjugates = None if maps.is_cuda else maps.conj().resolve_conj()
        return cls(frames, maps, conjugates, spread.to(maps.dtype), layout, axes)

    def normal(self, images: Tensor) -> Tensor:
        """Apply the normal operator to complex (batch, rows, columns)."""
        alone = self.conjugates is not None
        weighted = self.maps * images if alone else coils.expand(images, self.maps, self.layout)
        kspace = torch.fft.fftn(weighted, dim=self.axes, norm="ortho").mul_(self.masks)
        coil_images = torch.fft.ifftn(kspace, dim=self.axes, norm="ortho")
        if self.conjugates is None:
            return coils.reduce(coil_images, self.maps, self.layout)
        combined: Tensor = coil_images.mul_(self.conjugates).sum(dim=0, keepdim=True)
        return combined


def _squared_norms(packed: Tensor, layout: CoilLayout) -> Tensor:
    """Return float64 (batch,): the squared norm of each frame's coils."""
    squares = torch.view_as_real(packed).square()
    return coils.sum_segments(squares.sum(dim=(-3, -2, -1), dtype=torch.float64), layout)
