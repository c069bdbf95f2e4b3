"""A single frame that comes as arrays, conditioned as the service does with sorted k-space. For threads beside the event loop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recond_models.sampling import Sampling
from recond_service.backends import FrameInput
from recond_service.conditioning import condition
from recond_service.conditioning.scaling import bring_to_range, normalise, peak_of
from recond_service.ingest.planes import sampling_mask
from recond_service.processes import FrameLayout
from recond_service.types import FindingList, FrameIndex, InvalidInputError, KspaceScan, ScanRequest


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """A conditioned frame.

    Parameters
    ----------
    frame
        Its samples in shared memory.
    sampling
        How it was sampled.
    """

    frame: FrameInput
    sampling: Sampling


def receive_frame(
    kspace: NDArray[np.complex64],
    mask: NDArray[Any] | None,
    calibration: NDArray[np.complex64] | None,
    names: tuple[str, str, str],
    findings: FindingList,
) -> ReceivedFrame:
    """Condition a frame.

    Parameters
    ----------
    kspace
        complex64 (coils, rows, columns), which is changed.
    mask
        (rows, columns) or (columns,); None: then what is not zero was measured.
    calibration
        complex64 (coils, calibration rows, calibration columns), which is changed; None: then the fully sampled centre is.
    names
        What messages call these three.
    findings
        Gets what was noticed.

    Raises
    ------
    InvalidInputError
        A sample is not finite, or the mask leaves none.
    """
    kspace_name, mask_name, calibration_name = names
    coils, rows, columns = kspace.shape
    measured = None if mask is None else sampling_mask(mask, rows, columns, mask_name)
    if measured is not None and not measured.any():
        raise InvalidInputError(
            f"{mask_name} is 0 everywhere: nothing was measured", reason="MASK_EMPTY", field=mask_name
        )
    scan = KspaceScan((FrameIndex(),), (coils, rows, columns), lambda: iter((kspace,)), kspace_name, mask=measured)
    (frame,) = condition(scan, ScanRequest(), findings)
    if calibration is not None:
        peak = peak_of(calibration)
        if not math.isfinite(peak):
            raise InvalidInputError(
                f"{calibration_name} holds NaN or Inf, which cannot be reconstructed; find out where they came from",
                reason="NOT_FINITE",
                field=calibration_name,
            )
        bring_to_range(calibration, peak)
        normalise(calibration)
        frame.calibration = calibration
    layout = FrameLayout.of(frame)
    sampling = Sampling.of(frame.mask, (layout.calibration_rows, layout.calibration_columns), coils)
    return ReceivedFrame(FrameInput(layout, layout.store(frame)), sampling)
