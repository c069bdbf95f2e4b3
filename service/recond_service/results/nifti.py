"""NIfTI-1, gzip-compressed: (rows, columns, slices), and volumes as the fourth axis."""

from __future__ import annotations

import gzip
from typing import Any, BinaryIO

import nibabel
import numpy as np

from recond_service.results.geometry import affine_of
from recond_service.results.volume import Volumes
from recond_service.types import FindingList

_SCANNER = 1  # NIFTI_XFORM_SCANNER_ANAT
_ALIGNED = 2  # NIFTI_XFORM_ALIGNED_ANAT: axes without a claim about the scanner


def write_nifti(volumes: Volumes, findings: FindingList, file: BinaryIO) -> None:
    """Write a NIfTI file. It holds no time, so that equal images give equal bytes.

    Where the volumes of a scan differ in their slices, all images are stacked into one volume and a finding says so.

    Parameters
    ----------
    volumes
        Sorted images.
    findings
        Gets what is odd about the geometry.
    file
        Open for writing.
    """
    _, rows, columns = volumes.shape
    slices = volumes.slices or len(volumes.images)
    if not volumes.slices:
        findings.warn(
            "volumes-differ", "Volumes of the scan have different slices: the NIfTI file stacks all images in one."
        )
    affine = affine_of(volumes.images[:slices], findings)
    data = np.empty((rows, columns, slices, volumes.count), np.float32, order="F")
    for number, image in enumerate(volumes.images):
        data[:, :, number % slices, number // slices] = image.pixels
    nifti: Any = nibabel.Nifti1Image(  # type: ignore[no-untyped-call]
        data if volumes.count > 1 else data[..., 0], affine
    )
    code = _ALIGNED if any(image.geometry is None for image in volumes.images) else _SCANNER
    nifti.set_sform(affine, code)
    nifti.set_qform(affine, code)
    nifti.header.set_xyzt_units("mm", "sec")
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=5) as stream:
        nifti.to_stream(stream)
