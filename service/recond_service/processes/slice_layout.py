"""How slices lie in shared memory on their way to a head, and what comes back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recond_models.heads.framing import Framing
from recond_service.processes.shared_block import SharedBlock

_MOST_SLICES = 4096
_MOST_SIDE = 1 << 16
_MOST_OUTPUTS = 4096
_MOST_CELLS = 256

Answer = Literal["pixels", "slices"]


@dataclass(frozen=True, slots=True)
class PixelAnswer:
    """What a head says of every pixel of consecutive slices.

    Parameters
    ----------
    sums
        float32 (slices, classes, 2): sum over the pixels of the probability p of each class, and of p (1 - p).
    labels
        uint8 (slices, rows, columns).
    confidence
        uint8 (slices, rows, columns): of a segmentation the probability of the label, of the search for lesions that of any lesion;
        times 255.
    """

    sums: NDArray[np.float32]
    labels: NDArray[np.uint8]
    confidence: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SliceLayout:
    """Sizes of consecutive slices for a head, and of its answer.

    In shared memory lie the slices, float32 (`slices`, rows, columns) of the images. The answer is a `PixelAnswer`, its arrays one
    after another, or float32 (`count`, `outputs`): probabilities of whole slices, and behind them their attention maps.

    Parameters
    ----------
    slices
        Of the block, neighbours included.
    halo
        Neighbours at both ends that are seen and not answered.
    framing
        What the head sees of an image.
    outputs
        Classes that the head tells apart.
    answer
        What comes back.
    attention
        Rows and columns of the attention map of each class that comes with probabilities of whole slices; (0, 0) for none.

    Raises
    ------
    ValueError
        A size cannot be.
    """

    slices: int
    halo: int
    framing: Framing
    outputs: int
    answer: Answer
    attention: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        framing = self.framing
        sides = (*framing.size, *framing.resampled, *framing.seen)
        if not all(1 <= side <= _MOST_SIDE for side in sides) or not (
            math.isfinite(framing.scale) and framing.scale > 0
        ):
            raise ValueError(f"impossible framing of slices {framing}")
        if not 0 <= 2 * self.halo < self.slices <= _MOST_SLICES or not 1 <= self.outputs <= _MOST_OUTPUTS:
            raise ValueError(f"impossible block of slices {self}")
        if not all(0 <= side <= _MOST_CELLS for side in self.attention) or (
            self.has_attention and self.answer != "slices"
        ):
            raise ValueError(f"impossible attention map of {self}")

    @property
    def count(self) -> int:
        """Slices that are answered."""
        return self.slices - 2 * self.halo

    @property
    def rows(self) -> int:
        """Rows that the head sees."""
        return self.framing.seen[0]

    @property
    def columns(self) -> int:
        """Columns that the head sees."""
        return self.framing.seen[1]

    @property
    def coils(self) -> int:
        """What the cost of a batch grows with, as the coils of frames do: the slices that are answered."""
        return self.count

    @property
    def has_attention(self) -> bool:
        """Attention maps come with the probabilities."""
        return min(self.attention) > 0

    @property
    def attention_shape(self) -> tuple[int, int, int, int]:
        """(slices, outputs, rows, columns) of the attention maps."""
        return (self.count, self.outputs, *self.attention)

    @property
    def _pixels(self) -> int:
        return math.prod(self.framing.size)

    @property
    def size(self) -> int:
        """Bytes of the slices."""
        return 4 * self.slices * self._pixels

    @property
    def image_bytes(self) -> int:
        """Bytes of the answer."""
        if self.answer == "slices":
            return 4 * (self.count * self.outputs + math.prod(self.attention_shape))
        return self.count * (8 * self.outputs + 2 * self._pixels)

    def array(self, block: SharedBlock) -> NDArray[np.float32]:
        """Map the slices, float32 (slices, rows, columns), writable, for torch takes no other arrays without complaint."""
        return block.array(np.float32, (self.slices, *self.framing.size), writable=True, populate=True)

    def pixel_answer(self, block: SharedBlock) -> PixelAnswer:
        """Map an answer about pixels."""
        shape = (self.count, *self.framing.size)
        labels_at = 8 * self.count * self.outputs
        return PixelAnswer(
            block.array(np.float32, (self.count, self.outputs, 2)),
            block.array(np.uint8, shape, labels_at),
            block.array(np.uint8, shape, labels_at + math.prod(shape)),
        )

    def slice_answer(self, block: SharedBlock) -> NDArray[np.float32]:
        """Map an answer about whole slices, float32 (count, outputs)."""
        return block.array(np.float32, (self.count, self.outputs))

    def attention_answer(self, block: SharedBlock) -> NDArray[np.float32]:
        """Map the attention maps behind an answer about whole slices, float32 (count, outputs, rows, columns)."""
        return block.array(np.float32, self.attention_shape, 4 * self.count * self.outputs)
