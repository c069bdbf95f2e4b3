"""The gateway's own account of what belongs to which image."""

from __future__ import annotations

import numpy as np
import pytest

from recond_client.result import ImageIndex
from recond_gateway.mrd.layouts import ACQUISITION_HEADER
from recond_gateway.mrd.layouts import AcquisitionFlag as Flag
from recond_gateway.scan.groups import GroupLedger
from recond_gateway.scan.header import EncodingFacts, HeaderFacts


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def ledger(clock: Clock | None = None, **facts: object) -> GroupLedger:
    return GroupLedger(HeaderFacts((EncodingFacts(**facts),)), clock or Clock())


def readouts(count: int, **fields: object) -> np.ndarray:
    headers = np.zeros(count, ACQUISITION_HEADER)
    headers["idx"]["kspace_encode_step_1"] = np.arange(count)
    for name, value in fields.items():
        if name in headers.dtype.names:
            headers[name] = value
        else:
            headers["idx"][name] = value
    return headers


def test_billions_of_missing_lines_are_counted_and_not_listed():
    """A header may announce 65536 x 65536 lines, of which one came."""
    groups = ledger(lines=(0, 65535), partitions=(0, 65535), volume=True)
    groups.take(readouts(1))
    groups.end()
    (found,) = groups.incomplete()
    assert (found.has, found.wanted) == (1, 65536**2)
    assert str(found).endswith(f"12 of partition 0 and {65536**2 - 1 - 12} more")


def test_missing_lines_are_named():
    groups = ledger(lines=(0, 9))
    groups.take(readouts(10)[[0, 1, 2, 4, 5, 6, 8]])
    groups.end()
    assert [str(each) for each in groups.incomplete()] == ["slice 0 has 7 of 10 lines: missing 3, 7, 9"]


@pytest.mark.parametrize("flags", [0, Flag.LAST_IN_SLICE])
def test_an_image_of_several_averages_is_whole_with_the_last_one(flags):
    clock = Clock()
    groups = ledger(clock, lines=(0, 7), averages=2)
    for average in range(2):
        assert groups.waited(ImageIndex(0), 0.0) is None
        headers = readouts(8, average=average)
        headers["flags"][-1] = flags
        groups.take(headers)
    clock.now += 3.0
    assert groups.waited(ImageIndex(0), 0.0) == 3.0
    assert groups.overdue(2.0, 0.0)


def test_where_averages_are_the_inner_loop_only_the_last_one_is_flagged():
    groups = ledger(averages=3)
    headers = readouts(8, average=2)
    headers["flags"][-1] = int(Flag.LAST_IN_SLICE)
    groups.take(readouts(8, average=0))
    groups.take(headers)
    assert groups.waited(ImageIndex(0), 0.0) is not None


def test_partitions_of_a_second_slab_belong_to_it():
    clock = Clock()
    groups = ledger(clock, volume=True, depth=4)
    headers = readouts(8, slice=0)
    headers["flags"][-1] = int(Flag.LAST_IN_REPETITION)
    groups.take(headers)
    groups.take(readouts(8, slice=1))
    assert groups.waited(ImageIndex(0, slice=3), 0.0) is not None
    assert groups.waited(ImageIndex(4, slice=4), 0.0) is None
    groups.delivered(ImageIndex(0, slice=3))
    assert not groups.overdue(0.0, 0.0)


def test_an_image_whose_readouts_are_not_known_waits_from_the_end_of_the_scan():
    clock = Clock()
    groups = ledger(clock)
    groups.take(readouts(8))
    stranger = ImageIndex(0, contrast=9)
    assert groups.waited(stranger, 0.0) is None
    groups.end()
    clock.now += 2.0
    assert groups.waited(stranger, 0.0) == 2.0
