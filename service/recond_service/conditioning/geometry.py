"""Position and orientation of an image from the header of one of its readouts."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from recond_service.types import FindingList, Geometry

_TOLERANCE = 1e-3


def geometry_of(header: np.void, spacing: tuple[float, float, float], findings: FindingList) -> Geometry | None:
    """Return the geometry that a readout header tells, or None (and a finding) where it tells none.

    MRD directions are unit vectors in LPS; `position` is the centre of the excited slice, on which the DFT puts pixel
    ``(rows // 2, columns // 2)``. The position of the patient table is not added: converters disagree about what it means.

    Parameters
    ----------
    header
        One `ACQUISITION_HEADER`.
    spacing
        Pixel size along readout and phase encode, and slice thickness, or pixel size along the partitions, mm.
    findings
        Gets ``"geometry-missing"``.
    """
    vectors: NDArray[np.float64] = np.array([header["read_dir"], header["phase_dir"], header["slice_dir"]], np.float64)
    position = np.asarray(header["position"], np.float64)
    finite = np.isfinite(vectors).all() and np.isfinite(position).all()
    if not finite or not np.allclose(vectors @ vectors.T, np.eye(3), atol=_TOLERANCE):
        findings.warn(
            "geometry-missing",
            "The direction vectors of the readouts are zero or not perpendicular: images carry no position and orientation.",
        )
        return None
    if min(spacing[:2]) <= 0 or not all(math.isfinite(size) for size in spacing):
        findings.warn("geometry-missing", "The header has no field of view: images carry no position and orientation.")
        return None
    read, phase, normal = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return Geometry(_triple(position), _triple(read), _triple(phase), _triple(normal), spacing)


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
