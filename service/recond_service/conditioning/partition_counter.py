"""3-D scans whose partitions were counted as slices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recond_service.types import AcquisitionBlock, Encoding, Limit

_SAME_PLACE = 0.05  # mm


def are_slices_partitions(heads: NDArray[np.void], encoding: Encoding) -> bool:
    """Tell whether the slice counter of imaging readouts holds the partitions that the header announces.

    Their own counter stands still then, there are as many slices, all at one position, and the header does not announce slices.

    Parameters
    ----------
    heads
        With the fields position and idx.
    encoding
        The encoding of the header that they belong to.
    """
    z, limit = encoding.encoded.matrix[2], encoding.limits.step_2
    if z < 2 or limit is None or limit.maximum - limit.minimum + 1 != z or not _is_single(encoding.limits.slice):
        return False
    if len(np.unique(heads["idx"]["kspace_encode_step_2"])) != 1:
        return False
    if not np.array_equal(np.unique(heads["idx"]["slice"]), np.arange(limit.minimum, limit.maximum + 1)):
        return False
    positions = heads["position"]
    return bool((np.abs(positions - positions[0]) <= _SAME_PLACE).all())


def _is_single(limit: Limit | None) -> bool:
    return limit is None or limit.maximum == limit.minimum


def count_slices_as_partitions(heads: NDArray[np.void], encodings: set[int]) -> None:
    """Put the slice counter of the readouts of some encodings where that of the partition belongs, in place."""
    for number in encodings:
        here = heads["encoding_space_ref"] == number
        heads["idx"]["kspace_encode_step_2"][here] = heads["idx"]["slice"][here]
        heads["idx"]["slice"][here] = 0


def with_partitions(block: AcquisitionBlock, encodings: set[int]) -> AcquisitionBlock:
    """Return a block whose readouts of some encodings have the slice counter as that of the partition."""
    if not encodings:
        return block
    headers = block.headers.copy()
    count_slices_as_partitions(headers, encodings)
    return replace(block, headers=headers)
