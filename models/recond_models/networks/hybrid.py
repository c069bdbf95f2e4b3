"""The encoding of line-wise undersampling in hybrid space: position along the readout, frequency along phase encoding.

With whole lines the transform along the readout commutes with the sampling, so it happens once, before anything else, and every row
of the image is a problem of its own. The factors that centre the transforms (`recond_kernels.fourier`) are multiplied into data and
sensitivities once and cancel everywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recond_kernels import coils
from recond_kernels.layout import CoilLayout
from recond_models import per_frame

_BLOCK_BYTES = 1 << 19
"""Coil images of so many bytes are worked on at a time by a core of a CPU: they stay in its cache."""


@dataclass(frozen=True, slots=True)
class RowBlocks:
    """One frame on a CPU, some rows at a time. Images have a leading axis of 1, the batch.

    Parameters
    ----------
    zero_filled
        complex64 (rows, coils, columns): images of the measured samples, times the conjugate of the centring factors.
    sensitivities
        complex64 (rows, coils, columns), times the centring factors.
    lines
        float32 (columns,): 1 where measured, 0 elsewhere.
    """

    zero_filled: Tensor
    sensitivities: Tensor
    lines: Tensor

    def combine(self) -> Tensor:
        """Return complex64 (1, rows, columns): the zero-filled image, combined with the conjugate sensitivities."""
        image = torch.empty_like(self.zero_filled[:, 0])

        def work(block: slice) -> None:
            image[block] = torch.linalg.vecdot(self.sensitivities[block], self.zero_filled[block], dim=1)

        per_frame.map_parallel(work, self._blocks())
        return image[None]

    def power(self) -> Tensor:
        """Return float32 (1, rows, columns): the sum of the squared sensitivities."""
        total = self.lines.new_empty(self.zero_filled[:, 0].shape)

        def work(block: slice) -> None:
            total[block] = torch.view_as_real(self.sensitivities[block]).square().sum(dim=(1, -1))

        per_frame.map_parallel(work, self._blocks())
        return total[None]

    def normal(self, images: Tensor) -> Tensor:
        """Return complex64 (1, rows, columns): the image expanded to coils, sampled, and combined again."""
        result = torch.empty_like(images)

        def work(block: slice) -> None:
            sampled = self._sampled(images[0, block], block)
            result[0, block] = torch.linalg.vecdot(self.sensitivities[block], sampled, dim=1)

        per_frame.map_parallel(work, self._blocks())
        return result

    def magnitude(self, removed: Tensor, sampled: Tensor) -> Tensor:
        """Return the root sum of squares of the coil images of ``measured - E(removed) + M E(sampled)``.

        Parameters
        ----------
        removed, sampled
            complex64 (1, rows, columns).

        Returns
        -------
        Tensor
            float32 (1, rows, columns).
        """
        result = self.lines.new_empty(removed.shape)

        def work(block: slice) -> None:
            coil_images = self._sampled(sampled[0, block], block)
            coil_images += self.zero_filled[block]
            coil_images -= removed[0, block, None] * self.sensitivities[block]
            result[0, block] = torch.view_as_real(coil_images).square().sum(dim=(1, -1)).sqrt()

        per_frame.map_parallel(work, self._blocks())
        return result

    def _sampled(self, image: Tensor, block: slice) -> Tensor:
        """Return complex64 (rows of the block, coils, columns): coil images of the measured lines of an image."""
        hybrid = torch.fft.fft(image[:, None] * self.sensitivities[block], norm="ortho")
        hybrid *= self.lines
        images: Tensor = torch.fft.ifft(hybrid, norm="ortho")
        return images

    def _blocks(self) -> list[slice]:
        return blocks(*self.zero_filled.shape)


def blocks(rows: int, coils_of_frame: int, columns: int) -> list[slice]:
    """Cut the rows of complex64 (rows, coils, columns) into parts that fit into the cache of a core."""
    step = max(1, _BLOCK_BYTES // (8 * coils_of_frame * columns))
    return [slice(start, min(rows, start + step)) for start in range(0, rows, step)]


@dataclass(frozen=True, slots=True)
class PackedFrames:
    """All frames of a batch at once, for a GPU: few launches, nothing waits for the host.

    Parameters
    ----------
    zero_filled
        complex64 (coils of all frames, rows, columns): images of the measured samples, times the conjugate of the centring factors.
    sensitivities
        complex64 (coils of all frames, rows, columns), times the centring factors.
    lines
        float32 (coils of all frames, 1, columns): 1 where measured, 0 elsewhere.
    layout
        Coils of each frame.
    """

    zero_filled: Tensor
    sensitivities: Tensor
    lines: Tensor
    layout: CoilLayout

    def combine(self) -> Tensor:
        """Return complex64 (batch, rows, columns): the zero-filled images, combined with the conjugate sensitivities."""
        return coils.reduce(self.zero_filled, self.sensitivities, self.layout)

    def power(self) -> Tensor:
        """Return float32 (batch, rows, columns): the sum of the squared sensitivities."""
        return coils.root_sum_of_squares(self.sensitivities, self.layout).square()

    def normal(self, images: Tensor) -> Tensor:
        """Return complex64 (batch, rows, columns): the images expanded to coils, sampled, and combined again."""
        return coils.reduce(self._sampled(images), self.sensitivities, self.layout)

    def magnitude(self, removed: Tensor, sampled: Tensor) -> Tensor:
        """Return float32 (batch, rows, columns); see `RowBlocks.magnitude`."""
        coil_images = self._sampled(sampled).add_(self.zero_filled)
        coil_images -= coils.expand(removed, self.sensitivities, self.layout)
        return coils.root_sum_of_squares(coil_images, self.layout)

    def _sampled(self, images: Tensor) -> Tensor:
        """Return complex64 (coils of all frames, rows, columns): coil images of the measured lines of images."""
        hybrid = torch.fft.fft(coils.expand(images, self.sensitivities, self.layout), norm="ortho")
        coil_images: Tensor = torch.fft.ifft(hybrid.mul_(self.lines), norm="ortho")
        return coil_images
