"""All frames of a batch at once through a variational network: the way for a GPU, where nothing in between waits for the host."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recond_kernels import coils, interruption
from recond_kernels.consistency import sample
from recond_kernels.fourier import ramp
from recond_kernels.layout import CoilLayout
from recond_models.networks import cascades
from recond_models.networks.engines import Engine
from recond_models.networks.hybrid import PackedFrames

_COILS = 8
"""Coils whose sensitivities are estimated at a time: enough to fill a GPU, few enough for its memory."""


def reconstruct(
    kspace: Tensor,
    calibrations: Tensor,
    lines: Tensor,
    calibration_lines: Tensor,
    layout: CoilLayout,
    engines: Sequence[Engine],
    weights: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor]:
    """Reconstruct frames.

    Parameters
    ----------
    kspace
        complex64 (coils of all frames, rows, columns).
    calibrations
        complex64 (coils of all frames, rows, columns): k-space with the calibration lines; may be `kspace` itself.
    lines, calibration_lines
        Bool (batch, columns): measured lines, and those for the sensitivities.
    layout
        Coils of each frame.
    engines
        The U-Nets: that for the sensitivities, then those of the cascades.
    weights
        Weights of data consistency of the cascades.

    Returns
    -------
    images
        float32 (batch, rows, columns): root sum of squares of the scaled coil images.
    scales
        float64 (batch,): what the images are to be multiplied by.
    silent
        Bool (coils of all frames,): coils whose samples are all zero.
    """
    hybrid, scales, silent = _hybrid(kspace, lines, layout)
    shared = calibrations is kspace
    source = hybrid if shared else _hybrid(calibrations, calibration_lines, layout)[0]
    owners = layout.owners(kspace.device)
    maps = _sensitivities(source, calibration_lines[owners], layout, engines[0])
    encoding = PackedFrames(
        torch.fft.ifft(hybrid, norm="ortho"), maps, lines[owners][:, None].to(torch.float32), layout
    )
    return cascades.run(encoding, engines[1:], weights), scales, silent


def _hybrid(kspace: Tensor, lines: Tensor, layout: CoilLayout) -> tuple[Tensor, Tensor, Tensor]:
    """Return the samples in hybrid space, scaled by powers of two, these powers (float64 (batch,)), and which coils are silent."""
    rows, columns = kspace.shape[1:]
    samples = sample(kspace, lines[:, None].expand(-1, rows, -1), layout)
    largest = torch.linalg.vector_norm(torch.view_as_real(samples).flatten(1), ord=torch.inf, dim=1)
    of_frames = torch.stack([part.amax() for part in torch.split(largest, list(layout.counts))])
    _, exponents = torch.frexp(of_frames)
    owners = layout.owners(kspace.device)
    half = exponents // 2
    ones = torch.ones_like(of_frames)
    for part in (half, exponents - half):
        samples *= torch.ldexp(ones, -part)[owners, None, None]
    samples *= ramp(rows, columns, kspace.dtype, kspace.device, conjugate=True)
    scales = torch.ldexp(torch.ones_like(of_frames, dtype=torch.float64), exponents)
    return torch.fft.ifft(samples, dim=1, norm="ortho"), scales, largest == 0


def _sensitivities(hybrid: Tensor, lines: Tensor, layout: CoilLayout, engine: Engine) -> Tensor:
    """Return complex64 (coils of all frames, rows, columns), times the centring factors."""
    rows, columns = hybrid.shape[1:]
    back = ramp(rows, columns, hybrid.dtype, hybrid.device, conjugate=True)
    maps = torch.empty_like(hybrid)
    for part, spectrum, wanted in zip(*(torch.split(each, _COILS) for each in (maps, hybrid, lines)), strict=True):
        interruption.checkpoint()
        images = torch.fft.ifft(torch.where(wanted[:, None], spectrum, 0), norm="ortho").mul_(back)
        part.copy_(cascades.apply(engine, images))
    engine.release()
    total = coils.root_sum_of_squares(maps, layout)
    factors = ramp(rows, columns, hybrid.dtype, hybrid.device) / torch.where(total > 0, total, 1)
    return maps.mul_(factors[layout.owners(hybrid.device)])
