"""One frame of a KServe v2 request before the scheduler, and its image after. For threads beside the event loop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recond_models.sampling import Sampling
from recond_service.api.kserve_tensors import CALIBRATION, KSPACE, MASK
from recond_service.conditioning import condition
from recond_service.conditioning.scaling import bring_to_range, normalise, peak_of
from recond_service.ingest.planes import sampling_mask
from recond_service.transport import FrameLayout, SharedBlock
from recond_service.types import FindingList, FrameIndex, InvalidInputError, KspaceScan, ScanRequest


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """A conditioned frame.

    Parameters
    ----------
    layout, block
        The frame in shared memory.
    sampling
        How it was sampled.
    exponent
        Its samples were multiplied by two to the power of this.
    """

    layout: FrameLayout
    block: SharedBlock
    sampling: Sampling
    exponent: int

    def image(self, block: SharedBlock) -> NDArray[np.float32]:
        """Return the image (1, rows, columns) that a model made, in the units of the samples that came."""
        pixels = np.frombuffer(block.read(0, block.size), np.float32)
        image: NDArray[np.float32] = np.ldexp(pixels, -self.exponent)
        return image.reshape(1, self.layout.rows, self.layout.columns)


def receive_frame(tensors: Mapping[str, NDArray[Any]], findings: FindingList) -> ReceivedFrame:
    """Condition a frame as the service does with sorted k-space.

    Parameters
    ----------
    tensors
        ``KSPACE``, complex64 (coils, rows, columns), which is changed; ``MASK``, (rows, columns) or (columns,), or none: then what
        is not zero was measured; ``CALIBRATION``, complex64 (coils, calibration rows, calibration columns), or none: then the
        fully sampled centre is.
    findings
        Gets what was noticed.

    Raises
    ------
    InvalidInputError
        If a sample is not finite, or the mask leaves none.
    """
    kspace = tensors[KSPACE]
    coils, rows, columns = kspace.shape
    mask = None if MASK not in tensors else sampling_mask(tensors[MASK], rows, columns, MASK)
    if mask is not None and not mask.any():
        raise InvalidInputError(f"{MASK} is 0 everywhere: nothing was measured", reason="MASK_EMPTY", field=MASK)
    scan = KspaceScan(
        (FrameIndex(),),
        (coils, rows, columns),
        lambda: iter((kspace,)),
        KSPACE,
        mask=mask,
    )
    (frame,) = condition(scan, ScanRequest(), findings)
    calibration = tensors.get(CALIBRATION)
    if calibration is not None:
        peak = peak_of(calibration)
        if not math.isfinite(peak):
            raise InvalidInputError(
                f"{CALIBRATION} holds NaN or Inf, which cannot be reconstructed; find out where they came from",
                reason="NOT_FINITE",
                field=CALIBRATION,
            )
        bring_to_range(calibration, peak)
        normalise(calibration)
        frame.calibration = calibration
    layout = FrameLayout.of(frame)
    extent = (layout.calibration_rows, layout.calibration_columns)
    return ReceivedFrame(
        layout, layout.store(frame), Sampling.of(frame.mask, extent, coils), math.frexp(frame.scale)[1] - 1
    )
