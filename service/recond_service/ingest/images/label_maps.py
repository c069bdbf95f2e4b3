"""Label maps in NIfTI that belong to images."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recond_service.ingest.images.nifti import affine_in_mm, is_oriented, load_nifti
from recond_service.types import FindingList, InvalidInputError, Limits, Part

_LARGEST_LABEL = 65535
_SAME_PLACE = 0.25  # of a voxel; by so much may a label map lie beside its images


def read_label_map(
    part: Part,
    voxel_order: tuple[int, int, int] | None,
    shape: tuple[int, int, int],
    affine: NDArray[np.float64],
    limits: Limits,
) -> tuple[NDArray[Any], dict[str, int]]:
    """Read a label map that belongs to images.

    Parameters
    ----------
    part
        A NIfTI file of integers on the grid of the images; its axes may be stored in another order or direction.
    voxel_order
        Axes of the file that are rows, columns and slices of the images, if it does not say how it lies; None for this order.
    shape
        (slices, rows, columns) of the images.
    affine
        (row, column, slice) of the images to RAS mm.
    limits
        What it may claim.

    Returns
    -------
    labels
        uint16 (slices, rows, columns).
    names
        Of the labels, where its header extension tells them as recond writes it.

    Raises
    ------
    InvalidInputError
        It is damaged, of another shape, lies elsewhere, or holds other than whole numbers from 0 to 65535.
    LimitExceededError
        It claims more than the limits allow.
    """
    label = part.name or "the label map"
    image, values, _ = load_nifti(part, limits, label)
    if values.ndim != 3 or values.dtype.kind not in "fiu":
        raise InvalidInputError(
            f"{label} has the shape {values.shape} and the type {values.dtype}; a label map is one volume of whole numbers",
            reason="LABEL_MAP",
            field=label,
        )
    order = voxel_order or (0, 1, 2)
    if is_oriented(image):
        labels = _on_grid(values, affine_in_mm(image, label, FindingList()), affine, shape)
    else:
        labels = values.transpose(order[2], order[0], order[1])
    if labels is None or labels.shape != shape:
        raise InvalidInputError(
            f"{label} has the shape {values.shape} and does not lie on the voxels of the images, (slices, rows, columns) {shape}: "
            "give the label map of these images",
            reason="LABEL_MAP",
            field=label,
        )
    if not (np.isfinite(labels).all() and labels.min() >= 0 and labels.max() <= _LARGEST_LABEL) or (labels % 1).any():
        raise InvalidInputError(
            f"{label} holds other values than whole numbers from 0 to {_LARGEST_LABEL}: give a label map",
            reason="LABEL_MAP",
            field=label,
        )
    return labels.astype(np.uint16), _names(image)


def _names(image: Any) -> dict[str, int]:  # noqa: ANN401 - nibabel has no types
    """Return the names of labels that a header extension tells; none where there is none that recond wrote."""
    for extension in image.header.extensions:
        try:
            labels = json.loads(extension.get_content())["labels"]
            return {str(name): int(value) for name, value in labels.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return {}


def _on_grid(
    values: NDArray[Any], own: NDArray[np.float64], affine: NDArray[np.float64], shape: tuple[int, int, int]
) -> NDArray[Any] | None:
    """Return values (slices, rows, columns) of the voxels of images; None where they lie on others.

    Parameters
    ----------
    values
        Three axes in any order and direction.
    own
        Their indices to RAS mm.
    affine
        (row, column, slice) of the images to RAS mm.
    shape
        (slices, rows, columns) of the images.
    """
    try:
        there = np.linalg.solve(affine, own)  # indices of the values to those of the images
    except np.linalg.LinAlgError:
        return None
    axes = np.argmax(np.abs(there[:3, :3]), axis=0)  # axis of the images along which each axis of the values goes
    if sorted(axes.tolist()) != [0, 1, 2]:
        return None
    order = [int(np.flatnonzero(axes == axis)[0]) for axis in range(3)]
    moved = values.transpose(order)
    exact = np.eye(4)
    for axis, source in enumerate(order):
        exact[axis, :3] = 0
        exact[axis, source] = 1.0
        if there[axis, source] < 0:
            moved = np.flip(moved, axis)
            exact[axis, [source, 3]] = -1.0, moved.shape[axis] - 1
    far = (np.abs(there - exact) * [*values.shape, 1]).sum(axis=1).max()
    placed: NDArray[Any] = moved.transpose(2, 0, 1)
    return placed if far < _SAME_PLACE and placed.shape == shape else None
