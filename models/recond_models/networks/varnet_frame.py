"""A frame on its way into a variational network, on a CPU: scaled, transformed along the readout, sensitivities estimated."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recond_kernels import interruption
from recond_kernels.fourier import ramp
from recond_models import per_frame
from recond_models.networks import cascades
from recond_models.networks.engines import Engine
from recond_models.networks.hybrid import RowBlocks, blocks


@dataclass(frozen=True, slots=True)
class HybridFrame:
    """The measured lines of a frame in hybrid space, scaled by a power of two to be near 1.

    Parameters
    ----------
    samples
        complex64 (coils, rows, measured columns), times the conjugate of the centring factors in k-space.
    columns
        int64 (measured columns,): where they lie.
    size
        (rows, columns) of k-space.
    exponent
        The samples were divided by 2 to this power.
    silent
        Bool (coils,): coils whose samples are all zero.
    """

    samples: Tensor
    columns: Tensor
    size: tuple[int, int]
    exponent: int
    silent: Tensor

    @classmethod
    def of(cls, kspace: Tensor, columns: Tensor) -> HybridFrame:
        """Prepare complex64 (coils, rows, columns), of which the columns with these indices were measured, or are wanted."""
        rows, width = int(kspace.shape[1]), int(kspace.shape[2])
        samples = kspace[:, :, columns]
        largest = torch.linalg.vector_norm(torch.view_as_real(samples).flatten(1), ord=torch.inf, dim=1)
        exponent = int(torch.frexp(largest.max())[1])
        # Two factors: one alone may overflow where the product does not.
        half = exponent // 2
        samples *= 2.0**-half
        samples *= 2.0 ** (half - exponent)
        samples *= ramp(rows, width, kspace.dtype, kspace.device, conjugate=True)[:, columns]
        return cls(torch.fft.ifft(samples, dim=1, norm="ortho"), columns, (rows, width), exponent, largest == 0)

    def zero_filled(self) -> Tensor:
        """Return complex64 (rows, coils, columns): coil images, times the centring factors in the image."""
        rows, width = self.size
        images = self.samples.new_zeros(rows, self.samples.shape[0], width)
        images[:, :, self.columns] = self.samples.permute(1, 0, 2)

        def work(block: slice) -> None:
            images[block] = torch.fft.ifft(images[block], norm="ortho")

        per_frame.map_parallel(work, blocks(*images.shape))
        return images

    def coil_image(self, coil: int, start: int, stop: int) -> Tensor:
        """Return complex64 (1, rows, columns): centred image of the columns ``start:stop`` of a coil."""
        wanted = (self.columns >= start) & (self.columns < stop)
        spectrum = self.samples.new_zeros(self.size)
        spectrum[:, self.columns[wanted]] = self.samples[coil][:, wanted]
        image: Tensor = torch.fft.ifft(spectrum, norm="ortho")
        return image.mul_(ramp(*self.size, image.dtype, image.device, conjugate=True))[None]


def sensitivities(calibration: HybridFrame, start: int, stop: int, engine: Engine) -> Tensor:
    """Estimate coil sensitivities, coil by coil.

    Parameters
    ----------
    calibration
        Where the calibration lines are.
    start, stop
        Its columns that are calibration lines.
    engine
        The U-Net for the sensitivities.

    Returns
    -------
    Tensor
        complex64 (rows, coils, columns), times the centring factors; root sum of squares 1, or 0 where there is no signal.
    """
    rows, width = calibration.size
    count = calibration.samples.shape[0]
    maps = calibration.samples.new_empty(rows, count, width)
    for coil in range(count):
        interruption.checkpoint()
        maps[:, coil] = cascades.apply(engine, calibration.coil_image(coil, start, stop))[0]
    engine.release()
    wave = ramp(rows, width, maps.dtype, maps.device)

    def work(block: slice) -> None:
        total = torch.view_as_real(maps[block]).square().sum(dim=(1, -1)).sqrt()
        maps[block] *= (wave[block] / torch.where(total > 0, total, 1))[:, None]

    per_frame.map_parallel(work, blocks(*maps.shape))
    return maps


def reconstruct(
    frame: HybridFrame,
    calibration: HybridFrame,
    lines: tuple[int, int],
    engines: list[Engine],
    weights: list[float],
) -> Tensor:
    """Reconstruct a frame.

    Parameters
    ----------
    frame
        Its samples.
    calibration
        Where its calibration lines are: the same, or k-space that was measured beside it.
    lines
        First calibration line, and the one after the last.
    engines
        The U-Nets: that for the sensitivities, then those of the cascades.
    weights
        Weights of data consistency of the cascades.

    Returns
    -------
    Tensor
        float32 (1, rows, columns): root sum of squares of the coil images, to be multiplied by ``2 ** frame.exponent``.
    """
    maps = sensitivities(calibration, *lines, engines[0])
    mask = torch.zeros(frame.size[1])
    mask[frame.columns] = 1
    return cascades.run(RowBlocks(frame.zero_filled(), maps, mask), engines[1:], weights)
