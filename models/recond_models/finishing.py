"""From a reconstruction to finished images: cut out, interpolated and scaled; complex until the last step.

An image is interpolated to a finer matrix by zeros around its k-space. That is exact for complex images, and for coil images
before they are combined. Their magnitude has edges where the object changes its sign, and interpolated it rings there, so it is
taken last; only models that make nothing else have their magnitudes interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recond_kernels.coils import root_sum_of_squares
from recond_kernels.fourier import fft2c, ifft2c, ramp
from recond_kernels.layout import CoilLayout
from recond_models.batch import CoilImages, Reconstruction
from recond_models.model import NoPhaseError

_COILS = 8
"""Coil images that are interpolated at a time."""

_NORMAL = 2.0**126
"""This power of two and its inverse are normal numbers of float32."""

_MOST = 800
"""Exponents beyond this make infinity or zero of every pixel, but zero of zero."""


@dataclass(frozen=True, slots=True)
class Finishing:
    """How the image of a frame is to be finished.

    Parameters
    ----------
    shape
        (rows, columns) of the finished image.
    window
        First row, first column, rows and columns of what is cut out of the reconstruction first; None for the pixels around the
        centre, as many as `shape` has, or all where that has more.
    exponent
        K-space was multiplied by ``2**exponent``; the finished image is divided by it.
    """

    shape: tuple[int, int]
    window: tuple[int, int, int, int] | None = None
    exponent: int = 0


def finish(
    result: Reconstruction, finishings: Sequence[Finishing | None], *, complex_images: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Finish the images of a batch.

    Parameters
    ----------
    result
        What a model made of it.
    finishings
        For each frame how its image is finished; None for a frame that nobody wants any more.
    complex_images
        For each frame whether its image is to stay complex.

    Returns
    -------
    tuple
        For each frame (rows, columns) on the CPU, in the units of the measured data: float32 magnitudes, infinite where these go
        beyond float32, or complex64; None where the finishing is. May share memory with `result`.

    Raises
    ------
    NoPhaseError
        A complex image is wanted where `result` has magnitudes or coil images.
    ValueError
        A window does not lie within the image, or the numbers of frames do not belong together.
    """
    frames = _frames(result.images)
    scales = [1.0] * len(frames) if result.scales is None else result.scales.tolist()
    return tuple(
        None if finishing is None else _finished(frame, finishing, scale, stays_complex=stays_complex)
        for frame, finishing, scale, stays_complex in zip(frames, finishings, scales, complex_images, strict=True)
    )


def finish_deviations(result: Reconstruction, finishings: Sequence[Finishing | None]) -> tuple[Tensor | None, ...]:
    """Finish the standard deviations of a batch as `finish` does its images.

    Parameters
    ----------
    result
        What a model made of it.
    finishings
        For each frame how its image is finished; None for a frame whose deviations nobody wants.

    Returns
    -------
    tuple
        For each frame float32 (rows, columns) on the CPU, not negative, in the units of the measured data; None where the finishing
        is, and everywhere if the model predicted none.

    Raises
    ------
    ValueError
        A window does not lie within the image, or the numbers of frames do not belong together.
    """
    if result.deviations is None:
        return (None,) * len(finishings)
    return finish(replace(result, images=result.deviations), finishings, complex_images=[False] * len(finishings))


@torch.inference_mode()
def magnitudes(result: Reconstruction) -> Tensor:
    """Return float32 (batch, rows, columns) on the CPU: whole magnitude images in the units of the k-space."""
    if isinstance(result.images, CoilImages):
        images = root_sum_of_squares(result.images.images, result.images.layout)
    else:
        images = result.images.abs() if result.images.is_complex() else result.images
    if result.scales is None:
        return images.cpu()
    return torch.stack(
        [_scaled(image, scale) for image, scale in zip(images.cpu(), result.scales.tolist(), strict=True)]
    )


def in_magnitudes(result: Reconstruction) -> Reconstruction:
    """Return the same with `magnitudes` for images."""
    return replace(result, images=magnitudes(result), scales=None)


def _frames(images: Tensor | CoilImages) -> list[Tensor]:
    """Return for each frame (rows, columns), or (coils, rows, columns) of coil images."""
    if isinstance(images, CoilImages):
        return list(torch.split(images.images, list(images.layout.counts)))
    return list(images)


@torch.inference_mode()
def _finished(image: Tensor, finishing: Finishing, scale: float, *, stays_complex: bool) -> Tensor:
    """Return the finished image of a frame; it has a leading axis of coils, or none."""
    if stays_complex and (image.ndim == 3 or not image.is_complex()):
        raise NoPhaseError("complex images are wanted of a model that makes magnitudes only")
    part, first_row, first_column = _cut(image, finishing)
    if tuple(part.shape[-2:]) == finishing.shape:
        wanted = root_sum_of_squares(part, CoilLayout((part.shape[0],)))[0] if part.ndim == 3 else part
    elif part.ndim == 3:
        wave = ramp(int(image.shape[-2]), int(image.shape[-1]), image.dtype, image.device, conjugate=True)
        wave = wave[first_row : first_row + part.shape[-2], first_column : first_column + part.shape[-1]]
        wanted = _combined(part, wave, finishing.shape)
    elif part.is_complex():
        wanted = interpolate(part, finishing.shape)
    else:
        # What rings below zero is clipped, since a magnitude cannot be negative.
        wanted = interpolate(part.to(torch.complex64), finishing.shape).real.clamp_min(0)
    if wanted.is_complex() and not stays_complex:
        wanted = wanted.abs()
    return _scaled(wanted.cpu(), scale, finishing.exponent).contiguous()


def _cut(image: Tensor, finishing: Finishing) -> tuple[Tensor, int, int]:
    """Return a view of the wanted part of (..., rows, columns), and its first row and column."""
    height, width = int(image.shape[-2]), int(image.shape[-1])
    if finishing.window is None:
        rows, columns = min(finishing.shape[0], height), min(finishing.shape[1], width)
        first_row, first_column = height // 2 - rows // 2, width // 2 - columns // 2
    else:
        first_row, first_column, rows, columns = finishing.window
    if min(first_row, first_column) < 0 or first_row + rows > height or first_column + columns > width:
        raise ValueError(f"the window {finishing.window} does not lie within the image of {height} x {width}")
    return image[..., first_row : first_row + rows, first_column : first_column + columns], first_row, first_column


def _combined(coil_images: Tensor, wave: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return float32 of `shape`: root sum of squares of interpolated coil images, centred by a factor (rows, columns)."""
    total = coil_images.new_zeros(shape, dtype=torch.float32)
    for some in torch.split(coil_images, _COILS):
        total += torch.view_as_real(interpolate(some * wave, shape)).square().sum(dim=(0, -1))
    return total.sqrt_()


def interpolate(images: Tensor, shape: tuple[int, int]) -> Tensor:
    """Bring complex images to another matrix over the same field of view by zeros around their k-space, or by cutting it.

    Parameters
    ----------
    images
        complex64 (..., rows, columns); pixel ``n // 2`` stays at the centre.
    shape
        (rows, columns) wanted.

    Returns
    -------
    Tensor
        complex64 (..., *shape). The values keep their size.
    """
    kspace = fft2c(images)
    wanted = kspace.new_zeros((*kspace.shape[:-2], *shape))
    inner, outer = kspace, wanted
    for axis, goal in zip((-2, -1), shape, strict=True):
        length = int(kspace.shape[axis])
        common = min(length, goal)
        inner = inner.narrow(axis, length // 2 - common // 2, common)
        outer = outer.narrow(axis, goal // 2 - common // 2, common)
    outer.copy_(inner)
    return ifft2c(wanted).mul_(math.sqrt(shape[0] * shape[1] / (images.shape[-2] * images.shape[-1])))


def _scaled(image: Tensor, scale: float, exponent: int = 0) -> Tensor:
    """Multiply by ``scale / 2**exponent``, a power of two that may be no number of float32 where the product is one."""
    factor = math.ldexp(scale, -max(-_MOST, min(_MOST, exponent)))
    if factor == 1:
        return image
    parts = torch.view_as_real(image) if image.is_complex() else image
    is_normal = 1 / _NORMAL <= factor <= _NORMAL
    scaled = parts * factor if is_normal else (parts.to(torch.float64) * factor).to(torch.float32)
    return torch.view_as_complex(scaled) if image.is_complex() else scaled
