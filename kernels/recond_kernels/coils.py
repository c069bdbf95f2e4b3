"""Sums over the coils of each frame, and their adjoint, for frames with different numbers of coils."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class CoilLayout:
    """Which of the packed coils belong to which frame.

    Parameters
    ----------
    counts
        Number of coils of each frame, at least 1.

    Raises
    ------
    ValueError
        There is no frame, or a frame without coils.
    """

    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.counts or min(self.counts) < 1:
            raise ValueError(f"every frame needs at least one coil, got the coil counts {self.counts}")

    @classmethod
    def from_offsets(cls, coil_offsets: Tensor) -> CoilLayout:
        """Return the layout for int64 `coil_offsets` (batch + 1,): frame b has the coils ``offsets[b]:offsets[b + 1]``."""
        offsets = [int(offset) for offset in coil_offsets.tolist()]
        if not offsets or offsets[0] != 0:
            raise ValueError(f"coil offsets start at 0, got {offsets}")
        return cls(tuple(end - start for start, end in itertools.pairwise(offsets)))

    @property
    def batch(self) -> int:
        """Number of frames."""
        return len(self.counts)

    @property
    def total(self) -> int:
        """Number of coils of all frames."""
        return sum(self.counts)

    def owners(self, device: torch.device) -> Tensor:
        """Return int64 (total,): the frame that each coil belongs to."""
        counts = torch.tensor(self.counts, device=device)
        return torch.repeat_interleave(torch.arange(self.batch, device=device), counts, output_size=self.total)

    def check(self, packed: Tensor) -> None:
        """Raise ValueError unless the first axis of `packed` has `total` entries."""
        if packed.shape[0] != self.total:
            raise ValueError(f"packed coils have {packed.shape[0]} entries, the layout has {self.total}")


def sum_segments(packed: Tensor, layout: CoilLayout) -> Tensor:
    """Sum over the coils of each frame.

    One reduction per frame, so that the order of the additions, and with it the rounding, does not depend on the other frames.

    Parameters
    ----------
    packed
        (coils of all frames, ...).
    layout
        Coils of each frame.

    Returns
    -------
    Tensor
        (batch, ...).
    """
    layout.check(packed)
    return torch.stack([segment.sum(dim=0) for segment in torch.split(packed, list(layout.counts))])


def expand(images: Tensor, sensitivities: Tensor, layout: CoilLayout) -> Tensor:
    """Weight each frame's image by its coil sensitivities.

    Parameters
    ----------
    images
        Complex (batch, rows, columns).
    sensitivities
        Complex (coils of all frames, rows, columns).
    layout
        Coils of each frame.

    Returns
    -------
    Tensor
        Complex (coils of all frames, rows, columns).
    """
    layout.check(sensitivities)
    return images[layout.owners(images.device)] * sensitivities


def reduce(coil_images: Tensor, sensitivities: Tensor, layout: CoilLayout) -> Tensor:
    """Combine coil images with the conjugate sensitivities: the adjoint of `expand`.

    Parameters
    ----------
    coil_images, sensitivities
        Complex (coils of all frames, rows, columns).
    layout
        Coils of each frame.

    Returns
    -------
    Tensor
        Complex (batch, rows, columns).
    """
    return sum_segments(sensitivities.conj() * coil_images, layout)


def root_sum_of_squares(coil_images: Tensor, layout: CoilLayout) -> Tensor:
    """Combine coil images by the root of the sum of squared magnitudes (Roemer et al. 1990, doi:10.1002/mrm.1910160203).

    Parameters
    ----------
    coil_images
        Complex (coils of all frames, rows, columns). Values should be near 1: squares must neither over- nor underflow.
    layout
        Coils of each frame.

    Returns
    -------
    Tensor
        Real (batch, rows, columns).
    """
    squares = coil_images.real.square() + coil_images.imag.square()
    return sum_segments(squares, layout).sqrt()
