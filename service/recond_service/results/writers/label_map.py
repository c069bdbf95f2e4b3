"""Label maps as NIfTI-1, gzip-compressed, in the geometry of the images."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from typing import Any, BinaryIO

import nibabel
import numpy as np
from nibabel.nifti1 import Nifti1Extension
from numpy.typing import NDArray

from recond_service.series import Stack, affine_of
from recond_service.types import FindingList, LabelDescription

_SCANNER, _ALIGNED = 1, 2
_LABEL = 1002  # NIFTI_INTENT_LABEL
_COMMENT = 6  # NIFTI_ECODE_COMMENT


def write_label_map(
    stack: Stack,
    labels: NDArray[Any],
    names: Sequence[LabelDescription],
    findings: FindingList,
    file: BinaryIO,
    *,
    voxel_order: tuple[int, int, int] | None = None,
) -> None:
    """Write the label map of one stack: integers (rows, columns, slices), and volumes as the fourth axis.

    A header extension of the kind "comment" holds the names of the labels as JSON: ``{"labels": {"white matter": 3, ...}}``.

    Parameters
    ----------
    stack
        The images that it belongs to.
    labels
        uint8 or uint16 (images, rows, columns), in the order of the stack.
    names
        What the labels stand for.
    findings
        Gets what is odd about the geometry.
    file
        Open for writing.
    voxel_order
        Axes that rows, columns and slices are to have in the file; None for this order.
    """
    slices = stack.slices or len(stack.images)
    count, rows, columns = labels.shape
    data = np.empty((rows, columns, slices, count // slices), labels.dtype, order="F")
    for number, plane in enumerate(labels):
        data[:, :, number % slices, number // slices] = plane
    affine = affine_of(stack.images[:slices], findings)
    if voxel_order is not None:
        place = [voxel_order.index(axis) for axis in range(3)]
        data, affine = data.transpose(*place, 3), affine[:, [*place, 3]]
    nifti: Any = nibabel.Nifti1Image(data if count > slices else data[..., 0], affine)  # type: ignore[no-untyped-call]
    code = _ALIGNED if any(image.geometry is None for image in stack.images) else _SCANNER
    nifti.set_sform(affine, code)
    nifti.set_qform(affine, code)
    nifti.header.set_xyzt_units("mm", "sec")
    nifti.header["intent_code"] = _LABEL
    text = json.dumps({"labels": {each.name: each.value for each in names}}, ensure_ascii=False)
    nifti.header.extensions.append(Nifti1Extension(_COMMENT, text.encode()))
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=5) as stream:
        nifti.to_stream(stream)
