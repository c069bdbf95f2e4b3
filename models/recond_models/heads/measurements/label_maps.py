"""Checks that all measurements share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recond_models.heads.measurements.errors import LabelMapError


def label_map(labels: NDArray[Any]) -> NDArray[Any]:
    """Return a label map as integers.

    Parameters
    ----------
    labels
        (slices, rows, columns), integers or bool; floating point as some files have it, if all values are whole.

    Raises
    ------
    LabelMapError
        It has another number of axes, no voxel, or values that are negative or not whole.
    """
    values = np.asarray(labels)
    if values.ndim != 3 or values.size == 0:
        raise LabelMapError(f"a label map has slices, rows and columns, got the shape {values.shape}")
    if values.dtype == np.bool_:
        return values.view(np.uint8)
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.round(values)).any():
            raise LabelMapError("a label map holds whole numbers: give labels, not probabilities")
        values = values.astype(np.int64)
    if values.dtype.kind not in "ui":
        raise LabelMapError(f"a label map holds whole numbers, got {values.dtype}")
    if values.dtype.kind == "i" and values.min() < 0:
        raise LabelMapError(f"labels are not negative, got {values.min()}")
    return values


def check_shape(values: NDArray[Any], labels: NDArray[Any], name: str) -> None:
    """Raise `LabelMapError` unless an array has the shape of the label map."""
    if values.shape != labels.shape:
        raise LabelMapError(f"{name} has the shape {values.shape}, the label map {labels.shape}: give both on one grid")
