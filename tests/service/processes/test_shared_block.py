import os

import numpy as np
import pytest

from recond_service.processes import SharedBlock


def test_array_sees_what_was_written_and_outlives_the_block():
    values = np.arange(5000, dtype=np.float32)
    block = SharedBlock.create("test", 64 + values.nbytes)
    block.write(values.tobytes(), 64)
    array = block.array(np.float32, values.shape, 64)
    block.close()
    np.testing.assert_array_equal(array, values)
    assert not array.flags.writeable


def test_size_cannot_be_changed_by_whoever_holds_the_descriptor():
    with SharedBlock.create("test", 8192) as block:
        for size in (0, 4096, 16384):
            with pytest.raises(PermissionError):
                os.ftruncate(block.fd, size)


@pytest.mark.parametrize("size", [99, 101])
def test_received_block_of_another_size_is_refused_and_closed(size):
    with SharedBlock.create("test", 100) as block:
        fd = os.dup(block.fd)
        with pytest.raises(ValueError, match="expected"):
            SharedBlock.received(fd, size)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_received_descriptor_that_could_shrink_is_refused(tmp_path):
    unsealed = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(unsealed, 100)
    with pytest.raises(ValueError, match="seal"):
        SharedBlock.received(unsealed, 100)
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    with pytest.raises(ValueError, match="not shared memory"):
        SharedBlock.received(os.open(path, os.O_RDONLY), 100)


def test_nothing_is_written_or_mapped_outside_the_block():
    with SharedBlock.create("test", 100) as block:
        with pytest.raises(ValueError, match="do not fit"):
            block.write(bytes(10), 95)
        with pytest.raises(ValueError, match="does not fit"):
            block.array(np.float64, (13,))
    with pytest.raises(ValueError, match="closed"):
        block.write(b"x", 0)
