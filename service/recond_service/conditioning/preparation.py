"""The last steps of conditioning, the same for readouts and for sorted k-space: what the request asks for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recond_service.conditioning.compression import calibration_samples, coil_covariance, compress, compressions
from recond_service.conditioning.partial_fourier import complete
from recond_service.conditioning.undersampling import undersample
from recond_service.types import FindingList, Frame, ScanRequest


def prepare(
    frame: Frame,
    request: ScanRequest,
    findings: FindingList,
    name: str,
    matrix: NDArray[np.complex64] | None = None,
) -> Frame:
    """Undersample a frame, compress its coils and complete its partial Fourier data, each where the request says so.

    Parameters
    ----------
    frame
        May be changed in place.
    request
        What is wanted.
    findings
        Gets what was done.
    name
        File name, which seeds the undersampling.
    matrix
        complex64 (virtual coils, coils) to compress by; None to work it out from the frame.

    Raises
    ------
    InvalidInputError
        If the wanted undersampling cannot be.
    """
    options = request.conditioning
    if request.undersampling is not None:
        frame = undersample(frame, request.undersampling, name)
    if matrix is not None:
        compress(frame, matrix)
    elif options.virtual_coils or options.coil_energy:
        for found in compressions([coil_covariance(calibration_samples(frame))], options, findings):
            compress(frame, found)
    if options.partial_fourier == "pocs":
        complete(frame, findings)
    return frame
