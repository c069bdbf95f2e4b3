"""From the slices of a volume to what the networks of heads see, and back; what they see of them, `framing` decides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from torch import Tensor

from recond_models.heads.framing import BRIGHTEST, LEAST_SLICES, Framing, frame
from recond_models.heads.network import SLICES

_HALO = SLICES // 2


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring slices of a prepared volume with the two on either side that the first and last of them need.

    Parameters
    ----------
    images
        float32 (slices + 4, rows, columns).
    framing
        Where the pixels lie in the volume.
    """

    images: NDArray[np.float32]
    framing: Framing

    @property
    def slices(self) -> int:
        """Slices that a network says something about."""
        return len(self.images) - 2 * _HALO

    def stacks(self) -> Tensor:
        """Return what the network sees: float32 (slices, 5, rows, columns)."""
        return torch.from_numpy(self.images).unfold(0, SLICES, 1).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A volume as networks see it.

    Parameters
    ----------
    images
        float32 (slices, rows, columns), 0 to `BRIGHTEST`.
    framing
        Where the pixels lie in the volume.
    """

    images: NDArray[np.float32]
    framing: Framing

    def block(self, start: int, stop: int) -> Block:
        """Return slices from `start` to before `stop`; beyond the ends of the volume the last slice repeats.

        Raises
        ------
        IndexError
            There are no such slices.
        """
        count = len(self.images)
        if not 0 <= start < stop <= count:
            raise IndexError(f"slices {start} to {stop} of {count}")
        numbers = np.clip(np.arange(start - _HALO, stop + _HALO), 0, count - 1)
        return Block(self.images[numbers], self.framing)


def prepare(
    volume: NDArray[np.floating], spacing: tuple[float, float, float], least_slices: int = LEAST_SLICES
) -> Prepared:
    """Bring a volume to the pixels and the brightness that the networks of heads know.

    Parameters
    ----------
    volume
        Magnitude (slices, rows, columns) in any unit.
    spacing
        Distance of slices, of rows and of columns, mm.
    least_slices
        How many slices the head needs.

    Raises
    ------
    VolumeError
        One of its kinds, as `frame` raises them.
    """
    framing = frame(volume, spacing, least_slices)
    images = np.empty((len(volume), *framing.seen), dtype=np.float32)
    for number, image in enumerate(volume):
        images[number] = seen(torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None], framing)[0].numpy()
    return Prepared(images, framing)


def seen(images: Tensor, framing: Framing) -> Tensor:
    """Return what a network sees of slices, float32 (slices, rows, columns) from 0 to `BRIGHTEST`.

    Parameters
    ----------
    images
        float32 (slices, rows, columns) of the volume.
    framing
        Of that volume.
    """
    scaled = (images / framing.scale).clamp(0, BRIGHTEST)
    resampled = _resized(scaled[:, None], framing.resampled)[:, 0]
    (row, column), (rows, columns) = framing.start, framing.seen
    below = row + rows - framing.resampled[0]
    right = column + columns - framing.resampled[1]
    return nnf.pad(resampled, (-column, right, -row, below))  # negative widths cut


def back(values: Tensor, framing: Framing, outside: float) -> Tensor:
    """Interpolate what a network said on the pixels of the volume.

    Parameters
    ----------
    values
        float32 (slices, channels, rows, columns) as the network sees them.
    framing
        Of the volume.
    outside
        Value of pixels that the network did not see.

    Returns
    -------
    Tensor
        float32 (slices, channels, rows, columns) of the volume.
    """
    (row, column), (rows, columns) = framing.start, framing.resampled
    below = rows - framing.seen[0] - row
    right = columns - framing.seen[1] - column
    return _resized(nnf.pad(values, (column, right, row, below), value=outside), framing.size)


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate (slices, channels, rows, columns); averaged where pixels become larger."""
    if tuple(images.shape[-2:]) == size:
        return images
    return nnf.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
