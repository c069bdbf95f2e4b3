"""How a frame lies in shared memory on its way from conditioning to a model, and what its image will be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recond_service.processes.shared_block import SharedBlock
from recond_service.types import Frame, Window

_ALIGNMENT = 64
_LARGEST_EXPONENT = 4096


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


@dataclass(frozen=True, slots=True)
class FrameLayout:
    """Sizes of a frame and of its finished image.

    In shared memory lie the k-space, then the mask, then (where it is not a block of the k-space) the calibration, each aligned to
    64 bytes.

    Parameters
    ----------
    coils, rows, columns
        Of the k-space.
    calibration_rows, calibration_columns
        Extent of the calibration block, 0 if there is none.
    calibration_apart
        The calibration has k-space of its own.
    image_rows, image_columns
        Of the finished image; 0 for the rows and columns of the k-space.
    window
        What to cut out of the reconstruction before it is brought to that size; see `Frame.window`.
    exponent
        The samples were multiplied by two to the power of this; the finished image is divided by it.
    complex_image
        The finished image is complex64; else float32, magnitude.
    uncertainty
        The standard deviations of its pixels follow it, float32.
    guarded
        Where the model doubts its image, the classical image that it has beside it is wanted.

    Raises
    ------
    ValueError
        A size is not positive, or a block lies outside of what it is a part of.
    """

    coils: int
    rows: int
    columns: int
    calibration_rows: int = 0
    calibration_columns: int = 0
    calibration_apart: bool = False
    image_rows: int = 0
    image_columns: int = 0
    window: Window | None = None
    exponent: int = 0
    complex_image: bool = False
    uncertainty: bool = False
    guarded: bool = False

    def __post_init__(self) -> None:
        block = (self.calibration_rows, self.calibration_columns)
        inside = self.calibration_apart or (block[0] <= self.rows and block[1] <= self.columns)
        if min(self.coils, self.rows, self.columns) < 1 or min(block) < 0 or not inside:
            raise ValueError(f"impossible frame layout {self}")
        if min(self.image_rows, self.image_columns) < 0 or abs(self.exponent) > _LARGEST_EXPONENT:
            raise ValueError(f"impossible image of a frame: {self}")
        window = self.window
        if window is not None and not (
            0 <= window.first_row < window.first_row + window.rows <= self.rows
            and 0 <= window.first_column < window.first_column + window.columns <= self.columns
        ):
            raise ValueError(f"{window} does not lie in a frame of {self.rows} x {self.columns}")

    @classmethod
    def of(cls, frame: Frame, *, complex_image: bool = False, uncertainty: bool = False) -> FrameLayout:
        """Return the layout of a frame.

        Parameters
        ----------
        frame
            The frame.
        complex_image
            Its image is wanted with its phase.
        uncertainty
            Its image is wanted with standard deviations.
        """
        calibration = frame.calibration_extent if frame.calibration is None else frame.calibration.shape[1:]
        return cls(
            coils=frame.kspace.shape[0],
            rows=frame.kspace.shape[1],
            columns=frame.kspace.shape[2],
            calibration_rows=calibration[0],
            calibration_columns=calibration[1],
            calibration_apart=frame.calibration is not None,
            image_rows=frame.image_shape[0],
            image_columns=frame.image_shape[1],
            window=frame.window,
            exponent=math.frexp(frame.scale)[1] - 1,
            complex_image=complex_image,
            uncertainty=uncertainty,
        )

    @property
    def image_shape(self) -> tuple[int, int]:
        """(rows, columns) of the finished image."""
        return self.image_rows or self.rows, self.image_columns or self.columns

    @property
    def pixel_bytes(self) -> int:
        """Size of the pixels of the finished image."""
        rows, columns = self.image_shape
        return rows * columns * (8 if self.complex_image else 4)

    @property
    def image_bytes(self) -> int:
        """Size of the finished image, with the standard deviations if they are wanted."""
        rows, columns = self.image_shape
        return self.pixel_bytes + rows * columns * 4 * self.uncertainty

    @property
    def crop(self) -> tuple[int, int] | None:
        """(rows, columns) of the middle of the reconstruction that will be shown, None for all of it."""
        shown = (min(self.image_shape[0], self.rows), min(self.image_shape[1], self.columns))
        if self.window is not None:
            shown = (self.window.rows, self.window.columns)
        return None if shown == (self.rows, self.columns) else shown

    @property
    def kspace_bytes(self) -> int:
        """Size of the k-space."""
        return self.coils * self.rows * self.columns * 8

    @property
    def _mask_offset(self) -> int:
        return _aligned(self.kspace_bytes)

    @property
    def _calibration_offset(self) -> int:
        return self._mask_offset + _aligned(self.rows * self.columns)

    @property
    def size(self) -> int:
        """Bytes in all."""
        apart = self.coils * self.calibration_rows * self.calibration_columns * 8 if self.calibration_apart else 0
        return self._calibration_offset + apart

    def store(self, frame: Frame) -> SharedBlock:
        """Copy a frame of this layout into a new block, or what is missing into the one that its k-space lies in already."""
        if frame.memory is not None and frame.memory.holds(frame.kspace):
            block = SharedBlock(frame.memory.seal(self.size), self.size)
        else:
            # Written, not mapped: a write fills fresh pages without zeroing them first.
            block = SharedBlock.create("recond-frame", self.size)
            block.write(np.ascontiguousarray(frame.kspace).data.cast("B"), 0)
        block.write(np.ascontiguousarray(frame.mask).data.cast("B"), self._mask_offset)
        if frame.calibration is not None:
            block.write(np.ascontiguousarray(frame.calibration).data.cast("B"), self._calibration_offset)
        return block

    def arrays(
        self, block: SharedBlock
    ) -> tuple[NDArray[np.complex64], NDArray[np.bool_], NDArray[np.complex64] | None]:
        """Map a frame of this layout, once; writable, for torch takes no other arrays without complaint.

        Returns
        -------
        kspace
            complex64 (coils, rows, columns).
        mask
            bool (rows, columns).
        calibration
            complex64 (coils, calibration rows, calibration columns), None if there is none. Both the k-space and its calibration
            have their centre at index n // 2.
        """
        everything = block.array(np.uint8, (self.size,), writable=True, populate=True)

        def part(dtype: type, shape: tuple[int, ...], offset: int) -> NDArray[Any]:
            return np.frombuffer(everything.data, dtype, math.prod(shape), offset).reshape(shape)

        kspace = part(np.complex64, (self.coils, self.rows, self.columns), 0)
        mask = part(np.bool_, (self.rows, self.columns), self._mask_offset)
        rows, columns = self.calibration_rows, self.calibration_columns
        if rows == 0 or columns == 0:
            return kspace, mask, None
        if self.calibration_apart:
            return kspace, mask, part(np.complex64, (self.coils, rows, columns), self._calibration_offset)
        top, left = self.rows // 2 - rows // 2, self.columns // 2 - columns // 2
        return kspace, mask, kspace[:, top : top + rows, left : left + columns]
