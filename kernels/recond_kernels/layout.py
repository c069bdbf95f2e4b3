"""Coils of several frames, one after another along the first axis ("ragged coils"), and which frame each belongs to."""

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

    def segments(self) -> list[slice]:
        """Return the place of each frame's coils along the packed axis."""
        ends = list(itertools.accumulate(self.counts))
        return [slice(end - count, end) for end, count in zip(ends, self.counts, strict=True)]

    def check(self, packed: Tensor) -> None:
        """Raise ValueError unless the first axis of `packed` has `total` entries."""
        if packed.shape[0] != self.total:
            raise ValueError(f"packed coils have {packed.shape[0]} entries, the layout has {self.total}")
