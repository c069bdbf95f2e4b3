"""Orthonormal wavelets of compact support for complex images of any size.

Daubechies' filters of four taps (Daubechies 1988, doi:10.1002/cpa.3160410705) on the infinite grid, of which the image covers a
part: all coefficients that it touches are kept, so the transform is an isometry, its adjoint gives the image back exactly, and
nothing runs over from one side to the other. Each level may start its pairs at an even or an odd pixel; drawn at random, that
moves the grid of the wavelets over the image (cycle spinning, Coifman and Donoho 1995, doi:10.1007/978-1-4612-2544-7_9) without
a copy for the shift.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_TAPS = 4
_SMALLEST = 8


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Wavelet coefficients of a batch of images.

    Parameters
    ----------
    coarse
        Real (batch, 2, rows', columns'): real and imaginary part of the coarsest scale.
    details
        From coarse to fine, real (batch, 2, 3, rows'', columns''): the three orientations of each scale.
    """

    coarse: Tensor
    details: tuple[Tensor, ...]


def levels_for(rows: int, columns: int, most: int = 4) -> int:
    """Return how often an image is halved: at most `most` times, and so that the coarsest scale keeps eight pixels a side."""
    return max(0, min(most, int(math.log2(max(min(rows, columns), 1) / _SMALLEST)))) if min(rows, columns) > 0 else 0


def decompose(images: Tensor, levels: int, shift: tuple[int, int] = (0, 0)) -> Coefficients:
    """Transform images.

    Parameters
    ----------
    images
        Complex (batch, rows, columns).
    levels
        How often the sides are halved, at least 0.
    shift
        Offset of the wavelets' grid in rows and columns, each from 0 to ``2**levels - 1``; bit l belongs to level l.

    Returns
    -------
    Coefficients
        Their sum of squares is that of the images.

    Raises
    ------
    ValueError
        `levels` or `shift` is out of range.
    """
    coarse = torch.view_as_real(images).movedim(-1, 1).flatten(0, 1)[:, None]
    filters = _filters(coarse.dtype, coarse.device)
    details: list[Tensor] = []
    for level in _levels((int(images.shape[1]), int(images.shape[2])), levels, shift):
        bands = functional.conv2d(coarse, filters, stride=2, padding=level.padding)
        coarse = bands[:, :1]
        details.insert(0, _pair(bands[:, 1:]))
    return Coefficients(_pair(coarse[:, 0]), tuple(details))


def compose(coefficients: Coefficients, shape: tuple[int, int], shift: tuple[int, int] = (0, 0)) -> Tensor:
    """Transform coefficients to images: the adjoint of `decompose`, which is its inverse for what `decompose` returned.

    Parameters
    ----------
    coefficients
        As from `decompose`.
    shape
        (rows, columns) of the images.
    shift
        As for `decompose`.

    Returns
    -------
    Tensor
        Complex (batch, rows, columns).
    """
    coarse = coefficients.coarse.flatten(0, 1)[:, None]
    filters = _filters(coarse.dtype, coarse.device)
    levels = _levels(shape, len(coefficients.details), shift)
    for level, detail in zip(reversed(levels), coefficients.details, strict=True):
        bands = torch.cat([coarse, detail.flatten(0, 1)], dim=1)
        coarse = functional.conv_transpose2d(bands, filters, None, 2, level.padding, level.odd)
    parts = _pair(coarse[:, 0])
    return torch.complex(parts[:, 0], parts[:, 1])


def soft_threshold(
    images: Tensor, thresholds: Tensor, levels: int | None = None, shift: tuple[int, int] = (0, 0)
) -> Tensor:
    """Shrink the wavelet coefficients of images: the proximal map of their l1 norm (Donoho 1995, doi:10.1109/18.382009).

    Real and imaginary part of a coefficient shrink together; the coarsest scale, which is not sparse, is left alone.

    Parameters
    ----------
    images
        Complex (batch, rows, columns).
    thresholds
        Real (batch,): what is taken off the magnitudes, in units of the images.
    levels
        How often the sides are halved; None for `levels_for`.
    shift
        As for `decompose`.

    Returns
    -------
    Tensor
        Complex (batch, rows, columns).
    """
    shape = (int(images.shape[1]), int(images.shape[2]))
    coefficients = decompose(images, levels_for(*shape) if levels is None else levels, shift)
    details = []
    for detail in coefficients.details:
        magnitudes = detail.square().sum(dim=1, keepdim=True).sqrt_()
        limits = thresholds.to(magnitudes.dtype)[:, None, None, None, None]
        # What is left of a magnitude m is m - t = m (1 - t / m); zero divided by zero does not occur.
        kept = (magnitudes - limits).clamp_min_(0).div_(magnitudes.clamp_min(torch.finfo(magnitudes.dtype).tiny))
        details.append(detail * kept)
    return compose(Coefficients(coefficients.coarse, tuple(details)), shape, shift)


def random_shift(seed: int, step: int, levels: int) -> tuple[int, int]:
    """Return the offset of the wavelets' grid for one step of an iteration.

    Parameters
    ----------
    seed, step
        The same for both give the same offset: no generator is shared, so a frame's image does not depend on what ran before it.
    levels
        As for `decompose`.
    """
    generator = torch.Generator().manual_seed((seed << 20) + step)
    rows, columns = torch.randint(1 << levels, (2,), generator=generator).tolist()
    return rows, columns


@dataclass(frozen=True, slots=True)
class _Level:
    """How one level meets the borders: zeros around the image, and whether its sides are odd."""

    padding: tuple[int, int]
    odd: tuple[int, int]


def _levels(shape: tuple[int, int], levels: int, shift: tuple[int, int]) -> list[_Level]:
    """Return the levels from fine to coarse."""
    if levels < 0 or not all(0 <= offset < 1 << levels for offset in shift):
        raise ValueError(f"need levels >= 0 and 0 <= shift < 2**levels, got {levels} and {shift}")
    sizes, result = shape, []
    for number in range(levels):
        odd = (sizes[0] % 2, sizes[1] % 2)
        # Enough zeros that every window that touches the image is there, at both ends.
        padding = (
            _TAPS - 2 + odd[0] + (shift[0] >> number & 1),
            _TAPS - 2 + odd[1] + (shift[1] >> number & 1),
        )
        result.append(_Level(padding, odd))
        sizes = ((sizes[0] + 2 * padding[0] - _TAPS) // 2 + 1, (sizes[1] + 2 * padding[1] - _TAPS) // 2 + 1)
    return result


def _pair(parts: Tensor) -> Tensor:
    """Turn (2 batch, ...) into (batch, 2, ...)."""
    return parts.reshape(-1, 2, *parts.shape[1:])


@functools.lru_cache(maxsize=16)
def _filters(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return real (4, 1, 4, 4): low-pass in both axes, then the three with a high-pass."""
    root = math.sqrt(3)
    low = [(1 + root), (3 + root), (3 - root), (1 - root)]
    high = [low[3], -low[2], low[1], -low[0]]
    with torch.inference_mode(mode=False):
        pair = torch.tensor([low, high], dtype=torch.float64) / (4 * math.sqrt(2))
        products = torch.einsum("ax,by->abxy", pair, pair).reshape(4, 1, _TAPS, _TAPS)
        return products.to(dtype=dtype, device=device)
