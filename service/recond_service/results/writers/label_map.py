"""Label maps and attention maps as NIfTI-1, gzip-compressed, in the geometry of the images."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import nibabel
import numpy as np
from nibabel.nifti1 import Nifti1Extension
from numpy.typing import NDArray

from recond_service.results.head_maps import AttentionMap
from recond_service.series import Stack, affine_of
from recond_service.types import FindingList, LabelDescription

ATTENTION_UNIT = "contribution to the logit"

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
    text = {"labels": {each.name: each.value for each in names}}
    _write(stack, labels, text, findings, file, voxel_order, intent=_LABEL)


def write_attention_map(
    stack: Stack,
    attention: AttentionMap,
    findings: FindingList,
    file: BinaryIO,
    *,
    voxel_order: tuple[int, int, int] | None = None,
) -> None:
    """Write an attention map of one stack: float32, with axes as in `write_label_map`, zeros in slices that were not looked at.

    A header extension of the kind "comment" holds as JSON what it is about: ``{"attention": {"head": "series", "group": "contrast",
    "classes": ["T1"], "unit": "contribution to the logit"}}``.

    Parameters
    ----------
    stack
        The images that it belongs to.
    attention
        The map.
    findings
        Gets what is odd about the geometry.
    file
        Open for writing.
    voxel_order
        As in `write_label_map`.
    """
    about = {
        "head": attention.head,
        "group": attention.group,
        "classes": list(dict.fromkeys(name for name in attention.classes(stack) if name)),
        "unit": ATTENTION_UNIT,
    }
    _write(stack, attention.of(stack), {"attention": about}, findings, file, voxel_order)


def _write(
    stack: Stack,
    values: NDArray[Any],
    comment: Mapping[str, Any],
    findings: FindingList,
    file: BinaryIO,
    voxel_order: tuple[int, int, int] | None,
    intent: int = 0,
) -> None:
    """Write (images, rows, columns) of a stack."""
    slices = stack.slices or len(stack.images)
    count, rows, columns = values.shape
    data = np.empty((rows, columns, slices, count // slices), values.dtype, order="F")
    for number, plane in enumerate(values):
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
    nifti.header["intent_code"] = intent
    nifti.header.extensions.append(Nifti1Extension(_COMMENT, json.dumps(comment, ensure_ascii=False).encode()))
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=5) as stream:
        nifti.to_stream(stream)
