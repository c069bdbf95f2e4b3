"""One 2-D encoded k-space on its way to a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class FrameIndex:
    """Counters of an image, as in the ISMRMRD encoding counters, and the encoding that they belong to.

    `slice` of a frame is the slice counter, of a 3-D scan that of the slab. The images of a 3-D scan count its partitions as
    slices, the slabs following one another. `place` tells images apart that share all counters but lie elsewhere: 0 for the
    first place that was seen under these counters, and so on.
    """

    slice: int = 0
    contrast: int = 0
    phase: int = 0
    repetition: int = 0
    set: int = 0
    encoding: int = 0
    place: int = 0


@dataclass(frozen=True, slots=True)
class Geometry:
    """Position and orientation of an image, or of a 3-D volume, patient coordinates LPS in mm.

    Rows are the readout and columns the phase encode; slices of a 3-D scan lie along the partition. `position` is where pixel
    ``(rows // 2, columns // 2)`` of the finished image, of slice ``slices // 2`` of a volume, has its centre: a centred DFT
    puts the centre of the field of view there. Directions are orthonormal; `slice_direction` may be minus the cross product of
    the other two.

    Parameters
    ----------
    position
        Centre of the image, mm.
    row_direction
        Unit vector along increasing row index.
    column_direction
        Unit vector along increasing column index.
    slice_direction
        Unit vector of the slice normal.
    spacing
        Pixel size along rows, along columns, and slice thickness; mm.
    """

    position: Vector
    row_direction: Vector
    column_direction: Vector
    slice_direction: Vector
    spacing: Vector


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a reconstruction that shows the wanted field of view: `rows` x `columns` pixels from a first one."""

    first_row: int
    first_column: int
    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class Crossing:
    """Which part of a 3-D scan a frame is: the plane that crosses the readout at pixel `number` of `count`.

    Its rows are the phase encode and its columns the partition. The images of the scan, which are slices along the partition,
    are put together when all its frames are reconstructed.
    """

    number: int
    count: int


class KspaceMemory(Protocol):
    """Shared memory that k-space was written to as it came; see `processes.StagedKspace`."""

    def holds(self, kspace: NDArray[np.complex64]) -> bool:
        """Tell whether an array lies in it."""
        ...

    def seal(self, size: int) -> int:
        """Give it its final size in bytes; return its descriptor, which is the caller's from now on."""
        ...


@dataclass(slots=True)
class Frame:
    """A conditioned 2-D k-space and what is needed to reconstruct and to finish its image.

    Parameters
    ----------
    index
        Counters of the image that the frame belongs to.
    kspace
        complex64 (coils, rows, columns), centred orthonormal DFT, zero where nothing was measured, multiplied by `scale`. Rows =
        readout, columns = phase encode; of a 3-D scan, one readout position: rows = phase encode, columns = partition.
    mask
        bool (rows, columns), true where measured, or completed by its mirror image (partial Fourier).
    calibration_extent
        (rows, columns) of the fully sampled block around the centre ``(rows // 2, columns // 2)`` of `kspace`; (0, 0) if none.
    calibration
        complex64 (coils, calibration rows, calibration columns): centre of k-space from calibration lines that are not part of
        `kspace`, same scale and coils; None where the block of `calibration_extent` is the calibration.
    scale
        Power of two by which the measured samples were multiplied so that every model sees values near 1. Images are divided
        by it on the way out.
    image_shape
        (rows, columns) of the finished image: the reconstruction is cropped to it about the centre, or interpolated up.
    window
        What to cut out of the reconstruction before it is brought to `image_shape`; None for the pixels about the centre, as many
        as `image_shape` has, or all where that has more.
    crossing
        Which readout position of a 3-D scan this is, None for a 2-D frame.
    geometry
        Position and orientation of the finished image, or of the whole volume of a 3-D scan; None where the input has none.
    reference
        float32 image of `image_shape` in the units of the measured data (not multiplied by `scale`) to score against, or None.
    reference_source
        Where `reference` came from: ``"file"``, ``"reference file"``, ``"undersampling"``, or empty.
    whitened
        Coils are noise-whitened: noise has variance 1 in real and imaginary parts before multiplication by `scale`.
    repetition_time
        TR in ms, None where the header does not say or names several.
    """

    index: FrameIndex
    kspace: NDArray[np.complex64]
    mask: NDArray[np.bool_]
    calibration_extent: tuple[int, int]
    scale: float
    image_shape: tuple[int, int]
    window: Window | None = None
    calibration: NDArray[np.complex64] | None = None
    crossing: Crossing | None = None
    geometry: Geometry | None = None
    reference: NDArray[np.float32] | None = None
    reference_source: str = ""
    whitened: bool = False
    repetition_time: float | None = None
    memory: KspaceMemory | None = None
