"""Parallel imaging: coil sensitivities as an operator, and the encoding of Cartesian SENSE."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import torch
from torch import Tensor

from recond_kernels import coils
from recond_kernels.fourier import ramp
from recond_kernels.layout import CoilLayout
from recond_kernels.operators.cartesian import Fourier, Mask
from recond_kernels.operators.linear import LinearOperator, SelfAdjointOperator

_BOTH = (-2, -1)
_PHASE_ENCODE = (-1,)


class Sensitivities(LinearOperator):
    """Expands images to coil images by coil sensitivities; the adjoint combines coil images.

    Parameters
    ----------
    maps
        Complex (coils of all frames, rows, columns).
    layout
        Coils of each frame.

    Raises
    ------
    ValueError
        The number of coils is not that of the layout.
    """

    def __init__(self, maps: Tensor, layout: CoilLayout) -> None:
        layout.check(maps)
        self._maps, self._layout = maps, layout

    def __call__(self, images: Tensor, /) -> Tensor:
        """Expand complex (batch, rows, columns) to (coils of all frames, rows, columns)."""
        return coils.expand(images, self._maps, self._layout)

    def adjoint(self, coil_images: Tensor, /) -> Tensor:
        """Combine complex (coils of all frames, rows, columns) to (batch, rows, columns)."""
        return coils.reduce(coil_images, self._maps, self._layout)


@dataclass(frozen=True)
class SenseEncoding(LinearOperator):
    """``Mask @ Fourier @ Sensitivities`` (Pruessmann et al. 1999, 2001, doi:10.1002/mrm.1241), with a fast Gram operator.

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
    _parts: LinearOperator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        expand = Sensitivities(self.sensitivities, self.layout)
        expected = (self.layout.batch, *self.sensitivities.shape[1:])
        if tuple(self.masks.shape) != expected:
            raise ValueError(f"masks have the shape {tuple(self.masks.shape)}, expected {expected}")
        object.__setattr__(self, "_parts", Mask(self.masks, self.layout) @ Fourier() @ expand)

    def __call__(self, images: Tensor, /) -> Tensor:
        """Encode complex images (batch, rows, columns) to samples (coils of all frames, rows, columns)."""
        return self._parts(images)

    def adjoint(self, kspace: Tensor, /) -> Tensor:
        """Bring samples (coils of all frames, rows, columns) back to images (batch, rows, columns)."""
        return self._parts.adjoint(kspace)

    @functools.cached_property
    def gram(self) -> LinearOperator:
        """``H @ self`` in a third of the time or less; prepared at the first use."""
        return _SenseGram(self.sensitivities, self.masks, self.layout)


class _SenseGram(SelfAdjointOperator):
    """The Gram operator of a `SenseEncoding`.

    The factors that centre the transform in k-space cancel, those in the image are part of the sensitivities. Where whole lines
    were measured, the transform along the readout cancels too.
    """

    def __init__(self, sensitivities: Tensor, masks: Tensor, layout: CoilLayout) -> None:
        self._blocks = _blocks(sensitivities, masks, layout)

    def __call__(self, images: Tensor, /) -> Tensor:
        """Apply the operator to complex images (batch, rows, columns)."""
        parts = [block.gram(images[block.frames]) for block in self._blocks]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _blocks(sensitivities: Tensor, masks: Tensor, layout: CoilLayout) -> list[_Block]:
    """Split a batch into frames, on a GPU into runs of frames whose masks are of one kind."""
    lines = (masks == masks[:, :1]).flatten(1).all(dim=1).tolist()
    places = layout.segments()
    blocks: list[_Block] = []
    first = 0
    for end in range(1, layout.batch + 1):
        if end < layout.batch and sensitivities.is_cuda and lines[end] == lines[first]:
            continue
        axes = _PHASE_ENCODE if lines[first] else _BOTH
        maps = sensitivities[places[first].start : places[end - 1].stop]
        counts = CoilLayout(layout.counts[first:end])
        blocks.append(_Block.of(slice(first, end), maps, masks[first:end], counts, axes))
        first = end
    return blocks


@dataclass(frozen=True, slots=True)
class _Block:
    """Some frames of a batch, prepared for the Gram operator.

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
        """Prepare frames for `gram`: centre their sensitivities and spread their masks to the coils."""
        rows, columns = sensitivities.shape[1:]
        wave = ramp(rows, columns, sensitivities.dtype, sensitivities.device)
        kept = masks[:, :1] if axes == _PHASE_ENCODE else masks
        spread = kept if layout.batch == 1 else kept[layout.owners(masks.device)]
        maps = sensitivities * wave
        conjugates = None if maps.is_cuda else maps.conj().resolve_conj()
        return cls(frames, maps, conjugates, spread.to(maps.dtype), layout, axes)

    def gram(self, images: Tensor) -> Tensor:
        """Apply the Gram operator to complex (batch, rows, columns)."""
        alone = self.conjugates is not None
        weighted = self.maps * images if alone else coils.expand(images, self.maps, self.layout)
        kspace = torch.fft.fftn(weighted, dim=self.axes, norm="ortho").mul_(self.masks)
        coil_images = torch.fft.ifftn(kspace, dim=self.axes, norm="ortho")
        if self.conjugates is None:
            return coils.reduce(coil_images, self.maps, self.layout)
        combined: Tensor = coil_images.mul_(self.conjugates).sum(dim=0, keepdim=True)
        return combined
