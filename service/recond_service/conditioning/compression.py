"""Coil compression: fewer virtual coils that hold nearly all of the signal.

A frame is compressed by the leading eigenvectors of its coil covariance (Huang et al. 2008, doi:10.1016/j.mri.2007.04.010). A 3-D
scan is compressed at each readout position by itself, and the virtual coils of neighbouring positions are turned to agree with
each other (Zhang et al. 2013, doi:10.1002/mrm.24267). Compression matrices have orthonormal rows: white noise stays white.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recond_models.sampling import centre_block
from recond_service.types import ConditioningOptions, FindingList, Frame

_ENOUGH = 4  # rows and columns of a calibration block from which the coils are told apart


def coil_covariance(samples: NDArray[np.complex64]) -> NDArray[np.complex128]:
    """Return the covariance (coils, coils) of samples (coils, ...), not divided by their number."""
    flat = samples.reshape(len(samples), -1)
    return np.asarray(flat @ flat.conj().T, np.complex128)


def calibration_samples(frame: Frame) -> NDArray[np.complex64]:
    """Return the samples that tell the coils of a frame apart: its calibration, or all of it where there is too little of that."""
    if frame.calibration is not None:
        return frame.calibration
    if min(frame.calibration_extent) >= _ENOUGH:
        return centre_block(frame.kspace, frame.calibration_extent).copy()
    return frame.kspace


def compressions(
    covariances: Sequence[NDArray[np.complex128]], options: ConditioningOptions, findings: FindingList
) -> list[NDArray[np.complex64]]:
    """Return compression matrices for positions next to each other, one for each.

    Parameters
    ----------
    covariances
        (coils, coils) each.
    options
        How many virtual coils, or how much of the energy.
    findings
        Gets ``"coils-compressed"``.

    Returns
    -------
    list of ndarray
        complex64 (virtual coils, coils), the same number of virtual coils at all positions; empty if nothing is to be compressed.
    """
    coils = len(covariances[0])
    pairs = [np.linalg.eigh(covariance) for covariance in covariances]
    energies = np.stack([np.maximum(values[::-1], 0) for values, _ in pairs]).sum(axis=0)
    kept = np.cumsum(energies) / max(float(energies.sum()), np.finfo(np.float64).tiny)
    wanted = coils
    if options.virtual_coils:
        wanted = min(wanted, options.virtual_coils)
    if 0 < options.coil_energy < 1 and energies.any():
        wanted = min(wanted, int(np.searchsorted(kept, options.coil_energy * (1 - 1e-12))) + 1)
    if wanted >= coils:
        return []
    findings.info(
        "coils-compressed",
        f"{coils} coils were compressed to {wanted} virtual coils, which hold {kept[wanted - 1]:.2%} of the signal energy.",
    )
    matrices: list[NDArray[np.complex128]] = []
    for _, vectors in pairs:
        matrix = vectors[:, ::-1][:, :wanted].conj().T
        if matrices:
            # The unitary matrix that brings this position's virtual coils nearest to those of the one before.
            left, _, right = np.linalg.svd(matrices[-1] @ matrix.conj().T)
            matrix = left @ right @ matrix
        matrices.append(matrix)
    return [matrix.astype(np.complex64) for matrix in matrices]


def compress(frame: Frame, matrix: NDArray[np.complex64]) -> None:
    """Replace the coils of a frame, and of its calibration, by virtual coils."""
    frame.kspace = _apply(matrix, frame.kspace)
    if frame.calibration is not None:
        frame.calibration = _apply(matrix, frame.calibration)


def _apply(matrix: NDArray[np.complex64], samples: NDArray[np.complex64]) -> NDArray[np.complex64]:
    product: NDArray[np.complex64] = matrix @ samples.reshape(len(samples), -1)
    return product.reshape(len(matrix), *samples.shape[1:])
