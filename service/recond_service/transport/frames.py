"""How a frame lies in shared memory on its way from conditioning to a model."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recond_service.transport.memory import SharedBlock
from recond_service.types import Frame

_ALIGNMENT = 64


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


@dataclass(frozen=True, slots=True)
class FrameLayout:
    """Sizes of a frame: k-space, then mask, then (where it is not a block of the k-space) calibration; each 64-byte aligned.

    Parameters
    ----------
    coils, rows, columns
        Of the k-space.
    calibration_rows, calibration_columns
        Extent of the calibration block, 0 if there is none.
    calibration_apart
        The calibration has k-space of its own.
    crop_rows, crop_columns
        The middle of the image that will be shown, 0 where that is all of it.
    """

    coils: int
    rows: int
    columns: int
    calibration_rows: int = 0
    calibration_columns: int = 0
    calibration_apart: bool = False
    crop_rows: int = 0
    crop_columns: int = 0

    @classmethod
    def of(cls, frame: Frame) -> FrameLayout:
        """Return the layout of a frame."""
        coils, rows, columns = frame.kspace.shape
        apart = frame.calibration is not None
        calibration = frame.calibration_extent if frame.calibration is None else frame.calibration.shape[1:]
        shown = (min(frame.image_shape[0], rows), min(frame.image_shape[1], columns))
        if frame.window is not None:
            shown = (frame.window.rows, frame.window.columns)
        return cls(coils, rows, columns, calibration[0], calibration[1], apart, *shown)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> FrameLayout:
        """Return the layout that `to_json` described.

        Raises
        ------
        ValueError
            If a size is not positive or a calibration block lies outside its k-space.
        """
        layout = cls(
            coils=int(data["coils"]),
            rows=int(data["rows"]),
            columns=int(data["columns"]),
            calibration_rows=int(data["calibration_rows"]),
            calibration_columns=int(data["calibration_columns"]),
            calibration_apart=bool(data["calibration_apart"]),
            crop_rows=int(data["crop_rows"]),
            crop_columns=int(data["crop_columns"]),
        )
        sizes = (layout.coils, layout.rows, layout.columns)
        block = (layout.calibration_rows, layout.calibration_columns)
        inside = layout.calibration_apart or (block[0] <= layout.rows and block[1] <= layout.columns)
        shown = 0 <= layout.crop_rows <= layout.rows and 0 <= layout.crop_columns <= layout.columns
        if min(sizes) < 1 or min(block) < 0 or not inside or not shown:
            raise ValueError(f"impossible frame layout {layout}")
        return layout

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for `from_json`."""
        return asdict(self)

    @property
    def crop(self) -> tuple[int, int] | None:
        """(rows, columns) of the middle of the image that will be shown, None for all of it."""
        shown = (self.crop_rows or self.rows, self.crop_columns or self.columns)
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
        """Copy a frame of this layout into a new block."""
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

    @staticmethod
    def _array(  # writable also for readers: torch takes no others without complaint
        block: SharedBlock, dtype: type, shape: tuple[int, ...], offset: int
    ) -> NDArray[Any]:
        return block.array(dtype, shape, offset, writable=True, populate=True)

    def kspace(self, block: SharedBlock) -> NDArray[np.complex64]:
        """Map the k-space, complex64 (coils, rows, columns)."""
        return self._array(block, np.complex64, (self.coils, self.rows, self.columns), 0)

    def mask(self, block: SharedBlock) -> NDArray[np.bool_]:
        """Map the mask, bool (rows, columns)."""
        return self._array(block, np.bool_, (self.rows, self.columns), self._mask_offset)

    def calibration(self, block: SharedBlock) -> NDArray[np.complex64] | None:
        """Map the calibration, complex64 (coils, calibration rows, calibration columns), or return None if there is none.

        Both the k-space and its calibration block have their centre at index n // 2.
        """
        rows, columns = self.calibration_rows, self.calibration_columns
        if rows == 0 or columns == 0:
            return None
        if self.calibration_apart:
            return self._array(block, np.complex64, (self.coils, rows, columns), self._calibration_offset)
        top, left = self.rows // 2 - rows // 2, self.columns // 2 - columns // 2
        return self.kspace(block)[:, top : top + rows, left : left + columns]
