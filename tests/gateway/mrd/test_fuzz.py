"""Any bytes: messages or a typed error, the same however they are cut, and never more memory than the limits say."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from mrd_streams import fed, flat, scan, serialized

from recond_gateway.mrd import writer
from recond_gateway.mrd.errors import ProtocolError
from recond_gateway.mrd.layouts import ACQUISITION_HEADER
from recond_gateway.mrd.limits import WireLimits
from recond_gateway.mrd.messages import DEPRECATED_IDS, GADGETRON_IDS, Acquisitions, MessageId, Waveforms
from recond_gateway.mrd.parser import MrdParser

_LIMITS = WireLimits(batch_bytes=2048, text_bytes=4096, query_bytes=64, data_bytes=8192)
_REASONS = {
    "UNKNOWN_MESSAGE",
    "DEPRECATED_MESSAGE",
    "INTERNAL_GADGETRON_MESSAGE",
    "MESSAGE_TOO_LARGE",
    "BAD_QUERY",
    "BAD_HEADER_VERSION",
    "BAD_IMAGE",
    "BAD_ARRAY",
}
_VALID = (
    serialized(scan()) + writer.query(1, "gadgetron::info") + writer.response(1, "4.1") + writer.gadgetron_error("no")
)
_IDS = [*MessageId, *DEPRECATED_IDS, *GADGETRON_IDS, 0, 65535]

pieces = st.lists(st.integers(1, 700), max_size=12)
headed = st.builds(
    lambda number, rest: int(number).to_bytes(2, "little") + rest, st.sampled_from(_IDS), st.binary(max_size=600)
)
mutations = st.lists(st.tuples(st.integers(0, len(_VALID) - 1), st.integers(0, 255)), max_size=6)


def outcome(stream: bytes, sizes: list[int]) -> tuple[list[tuple[object, ...]], str, int, bool]:
    """Return the messages, the reason of the end, where it was, and whether bytes were left; checks the memory."""
    parser = MrdParser(_LIMITS)
    most = 1 << (_LIMITS.largest_message - 1).bit_length()
    values: list[tuple[object, ...]] = []
    try:
        for item in fed(parser, stream, sizes):
            assert parser.capacity <= min(most, max(4096, 4 * len(stream)))
            if isinstance(item, Acquisitions | Waveforms):
                assert item.count == 1 or item.size <= _LIMITS.batch_bytes + 8192
            values += flat([item])
    except ProtocolError as error:
        reason, message = error.reason, error.message
    else:
        return values, "", parser.at, parser.pending
    assert reason in _REASONS
    assert f"byte {parser.at}" in message
    return values, reason, parser.at, parser.pending


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=2000), pieces)
def test_any_bytes(stream: bytes, sizes: list[int]) -> None:
    assert outcome(stream, sizes) == outcome(stream, [])


@settings(max_examples=300, deadline=None)
@given(st.lists(headed, max_size=5), pieces)
def test_any_bytes_behind_known_ids(parts: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(parts)
    assert outcome(stream, sizes) == outcome(stream, [])


@settings(max_examples=300, deadline=None)
@given(mutations, st.integers(0, len(_VALID)), pieces)
def test_streams_with_errors(changes: list[tuple[int, int]], end: int, sizes: list[int]) -> None:
    stream = bytearray(_VALID)
    for at, value in changes:
        stream[at] = value
    cut = bytes(stream[:end])
    assert outcome(cut, sizes) == outcome(cut, [])


shapes = st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 2))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(shapes, st.integers(1, 6)), min_size=1, max_size=6), pieces)
def test_acquisitions_of_any_sizes(runs: list[tuple[tuple[int, int, int], int]], sizes: list[int]) -> None:
    made = [shape for shape, count in runs for _ in range(count)]
    headers = np.zeros(len(made), ACQUISITION_HEADER)
    headers["scan_counter"] = np.arange(len(made))
    headers["active_channels"], headers["number_of_samples"], headers["trajectory_dimensions"] = np.transpose(made)
    samples = np.arange(sum(channels * count for channels, count, _ in made)).astype(np.complex64)
    path = -np.arange(sum(count * dimensions for _, count, dimensions in made)).astype(np.float32)
    values, reason, _, pending = outcome(writer.acquisitions(headers, samples, path), sizes)
    assert (reason, pending) == ("", False)
    assert b"".join(value[1] for value in values) == headers.tobytes()
    assert b"".join(value[2] for value in values) == samples.tobytes()
    assert b"".join(value[3] for value in values) == path.tobytes()
