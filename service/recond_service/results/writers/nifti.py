"""NIfTI-1, gzip-compressed: (rows, columns, slices), and volumes as the fourth axis."""

from __future__ import annotations

import gzip
from typing import Any, BinaryIO

import nibabel
import numpy as np
from numpy.typing import NDArray

from recond_service.series import Stack, affine_of
from recond_service.types import NIFTI_WITHOUT_SIZES, FindingList, FinishedImage

_SCANNER = 1  # NIFTI_XFORM_SCANNER_ANAT
_ALIGNED = 2  # NIFTI_XFORM_ALIGNED_ANAT: axes without a claim about the scanner


def write_nifti(stack: Stack, findings: FindingList, file: BinaryIO, *, part: str = "") -> None:
    """Write a NIfTI file of one stack. No date goes in, so that equal images give equal bytes.

    Of images without geometry the header says in words, and by its lack of units, that the size of voxels is not known.
    The step of the fourth axis is TR where that is repetitions, and 0 where it is not known. Where volumes differ in their
    slices, all images are stacked into one volume and a finding says so.

    Parameters
    ----------
    stack
        Images that one affine holds for.
    findings
        Gets what is odd about the geometry.
    file
        Open for writing.
    part
        What to write in place of the magnitudes: ``"phase"`` of complex images, radians from -pi to pi, or ``"uncertainty"``.
    """
    _, rows, columns = stack.shape
    slices = stack.slices or len(stack.images)
    if not stack.slices:
        findings.warn(
            "volumes-differ", "Volumes of the scan have different slices: the NIfTI file stacks all images in one."
        )
    affine = affine_of(stack.images[:slices], findings)
    data = np.empty((rows, columns, slices, stack.volumes), np.float32, order="F")
    for number, image in enumerate(stack.images):
        data[:, :, number % slices, number // slices] = _pixels(image, part)
    nifti: Any = nibabel.Nifti1Image(  # type: ignore[no-untyped-call]
        data if stack.volumes > 1 else data[..., 0], affine
    )
    unknown = any(image.geometry is None for image in stack.images)
    code = _ALIGNED if unknown else _SCANNER
    nifti.set_sform(affine, code)
    nifti.set_qform(affine, code)
    nifti.header.set_xyzt_units("unknown" if unknown else "mm", "sec")
    if unknown:
        nifti.header["descrip"] = NIFTI_WITHOUT_SIZES
    nifti.header["pixdim"][4] = stack.time_step
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=5) as stream:
        nifti.to_stream(stream)


def _pixels(image: FinishedImage, part: str) -> NDArray[np.float32]:
    """Return what is written of an image, (rows, columns)."""
    if part == "phase" and image.complex_pixels is not None:
        phase: NDArray[np.float32] = np.angle(image.complex_pixels)
        return phase
    return image.uncertainty if part == "uncertainty" and image.uncertainty is not None else image.pixels
