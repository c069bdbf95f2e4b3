"""The front door for images: which format they are in, and who reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from recond_service.ingest.hdf5 import has_signature
from recond_service.ingest.images.dicom import is_dicom, read_dicom
from recond_service.ingest.images.hdf5 import read_hdf5_images
from recond_service.ingest.images.nifti import is_nifti, read_nifti
from recond_service.types import (
    FindingList,
    FinishedImage,
    Geometry,
    ImageVolume,
    InvalidInputError,
    Limits,
    Part,
)

_SMALLEST_MM, _LARGEST_MM = 0.01, 100.0


def read_images(
    parts: Sequence[Part], spacing: tuple[float, ...], limits: Limits, findings: FindingList
) -> ImageVolume:
    """Read the images of one series.

    Parameters
    ----------
    parts
        One NIfTI, MRD or HDF5 file, or the DICOM files of one series.
    spacing
        Distances of slices, rows and columns in mm, for images that do not tell where they lie; empty if that is not known.
    limits
        What they may claim.
    findings
        Gets what is odd.

    Raises
    ------
    InvalidInputError
        A file is damaged or of another kind, they do not belong together, or the spacing cannot be.
    LimitExceededError
        They claim more than the limits allow.
    """
    if spacing and (len(spacing) != 3 or not all(_SMALLEST_MM <= step <= _LARGEST_MM for step in spacing)):
        raise InvalidInputError(
            f"the spacing {spacing} cannot be: give the distances of slices, rows and columns, {_SMALLEST_MM} to "
            f"{_LARGEST_MM:g} mm each",
            reason="SPACING",
            field="spec.spacing",
        )
    first = parts[0]
    if is_dicom(first):
        found = read_dicom(parts, limits, findings)
    elif len(parts) > 1:
        raise InvalidInputError(
            f"{len(parts)} files, and {first.name or 'the first one'} is no DICOM file: of other formats send one file a call",
            reason="SEVERAL_FILES",
            field="spec.parts",
        )
    elif is_nifti(first):
        found = read_nifti(first, limits, findings)
    else:
        with Path(first.path).open("rb") as file:
            if not has_signature(file):
                raise InvalidInputError(
                    f"{first.name or 'the file'} holds no images that are read here: send NIfTI, DICOM, MRD images or HDF5 with a "
                    "dataset reconstruction",
                    reason="NOT_IMAGES",
                    field=first.name,
                )
        found = read_hdf5_images(first, limits, findings)
    return _placed(found, spacing, findings)


def _placed(found: ImageVolume, spacing: tuple[float, ...], findings: FindingList) -> ImageVolume:
    """Give images without geometry the spacing that was sent with them, as axial slices from the feet to the head."""
    if not spacing:
        return found
    if any(image.geometry is not None for image in found.images):
        findings.info("spacing-ignored", "The images tell their own spacing; the one that was sent along is not used.")
        return found
    slices, rows, columns = spacing
    count = max(image.index.slice for image in found.images) + 1

    def place(image: FinishedImage) -> Geometry:
        along = (image.index.slice - count // 2) * slices
        return Geometry((0.0, 0.0, along), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (rows, columns, slices))

    return replace(found, images=tuple(replace(image, geometry=place(image)) for image in found.images))
