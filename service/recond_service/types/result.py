"""What comes out of the results room."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recond_service.types.frame import FrameIndex, Geometry

NIFTI_WITHOUT_SIZES = b"recond: the size of voxels is not known"
"""Description in NIfTI files of images without geometry: their 1 mm is a placeholder that is not to be measured with."""


@dataclass(frozen=True, slots=True)
class FinishedImage:
    """An image as the client gets it.

    Parameters
    ----------
    number
        Counts the images of a request from 0 in the order of their frames.
    index
        Counters; of a 3-D scan, `slice` counts the partitions, slab after slab.
    pixels
        float32 (rows, columns), magnitudes in the units of the measured data, C order.
    complex_pixels
        complex64 (rows, columns), the same with its phase; None where that was not asked for.
    uncertainty
        float32 (rows, columns): standard deviation of the error of the magnitudes; None where that was not asked for.
    geometry
        Position and orientation, None where the input has none.
    stack
        Number of the stack that the image belongs to, as far as that is known before all images are there: by orientation, slab,
        encoding and size.
    """

    number: int
    index: FrameIndex
    pixels: NDArray[np.float32]
    geometry: Geometry | None = None
    stack: int = 0
    complex_pixels: NDArray[np.complex64] | None = None
    uncertainty: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class ImageVolume:
    """Images that were reconstructed elsewhere.

    Parameters
    ----------
    images
        Numbered from 0.
    voxel_order
        Axes of the array in the file that are rows, columns and slices here; None where the file holds slices.
    """

    images: tuple[FinishedImage, ...]
    voxel_order: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class ImagePlace:
    """Where an image belongs; see `FinishedImage`."""

    number: int
    index: FrameIndex
    geometry: Geometry | None
    stack: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Quality figures of a scan; None where a figure does not apply.

    Parameters
    ----------
    ssim, psnr, nmse
        Against the reference, as fastMRI's `evaluate.py` defines them; psnr in dB.
    data_consistency_residual
        ``||A x - y|| / ||y||`` over the measured samples, root mean square over images.
    noise_level
        Standard deviation of the noise in the images as a fraction of the volume's maximum.
    ssim_object, psnr_object, nmse_object
        Against the reference, inside the object; see `recond_models.object_metrics`.
    """

    ssim: float | None = None
    psnr: float | None = None
    nmse: float | None = None
    data_consistency_residual: float | None = None
    noise_level: float | None = None
    ssim_object: float | None = None
    psnr_object: float | None = None
    nmse_object: float | None = None


@dataclass(frozen=True, slots=True)
class StackSummary:
    """A stack of the output.

    Parameters
    ----------
    name
        As in the names of its files.
    images
        Numbers of its images in their order.
    shape
        (images, rows, columns).
    """

    name: str
    images: tuple[int, ...]
    shape: tuple[int, int, int]
