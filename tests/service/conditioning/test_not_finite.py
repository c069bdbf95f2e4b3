"""NaN is refused in samples that are used, and does no harm elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from field_scans import FULL, RIGHT, error, flag, lines, picture, xml
from raw_builders import REVERSE, Readout

from recond_service.types import InvalidInputError

NAN = np.full_like(FULL, np.nan)


def discarded(flags: int) -> list[Readout]:
    turn = slice(None, None, -1 if flags else 1)
    padded = np.concatenate([NAN[:, :8], FULL[:, turn], NAN[:, :4]], axis=1)
    return lines(padded, discard=(8, 4), center=8 + FULL.shape[1] // 2 - bool(flags), flags=flags)


UNUSED = {
    "discarded": discarded(0),
    "discarded, reversed": discarded(REVERSE),
    "outside": [Readout(NAN[:, :, 0], 500), *lines(FULL)],
    "flagged": [*lines(NAN, flags=flag(29)), *lines(FULL)],
}


@pytest.mark.parametrize("where", UNUSED)
def test_samples_that_are_not_used_may_be_nan(read, where: str) -> None:
    assert error(read(xml(), UNUSED[where]).images, picture()[None]) < RIGHT


@pytest.mark.parametrize("flags", [0, flag(29)])
def test_samples_that_are_used_may_not(read, flags: int) -> None:
    data = FULL[:, :, 5].copy()
    data[1, 7] = np.nan
    readouts = lines(FULL)
    readouts[5] = replace(readouts[5], data=data, flags=flags)
    with pytest.raises(InvalidInputError, match=r"\[5\] holds .*nan.* at sample 7") as found:
        read(xml(), readouts)
    assert found.value.reason == "NOT_FINITE"
