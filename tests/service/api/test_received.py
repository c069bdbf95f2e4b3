"""Messages are read as protobuf reads them, whichever way they were written."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recond.v1 import reconstruction_pb2 as pb
from recond_service.api.reconstruct.received import ReceivedChunk, kind_of, read_request

chunks = st.builds(
    pb.Chunk, part=st.integers(0, 2**32 - 1), offset=st.integers(0, 2**64 - 1), data=st.binary(max_size=300)
)


def same(received: object, message: pb.ReconstructRequest) -> bool:
    if isinstance(received, ReceivedChunk):
        found = pb.Chunk(part=received.part, offset=received.offset, data=bytes(received.data))
        return kind_of(received) == message.WhichOneof("message") == "chunk" and found == message.chunk
    return received == message and kind_of(received) == (message.WhichOneof("message") or "")


@given(chunk=chunks)
def test_chunks_are_read_without_protobuf(chunk: pb.Chunk) -> None:
    message = pb.ReconstructRequest(chunk=chunk)
    received = read_request(message.SerializeToString())
    assert isinstance(received, ReceivedChunk)
    assert same(received, message)


@pytest.mark.parametrize(
    "message",
    [
        pb.ReconstructRequest(),
        pb.ReconstructRequest(spec=pb.ReconstructSpec(model="rss")),
        pb.ReconstructRequest(mrd_header=pb.MrdHeader(xml=b"<x/>")),
        pb.ReconstructRequest(acquisitions=pb.AcquisitionBatch(count=1, samples=b"12345678")),
    ],
)
def test_other_messages_are_read_by_protobuf(message: pb.ReconstructRequest) -> None:
    assert same(read_request(message.SerializeToString()), message)


@given(
    pieces=st.lists(chunks.map(lambda chunk: pb.ReconstructRequest(chunk=chunk).SerializeToString()), max_size=3),
    change=st.tuples(st.integers(0, 400), st.binary(max_size=3)),
)
@example(pieces=[b"\x12\x02\x08\x01", b"\x12\x02\x08\x02"], change=(0, b""))  # chunks that come twice are merged
@example(pieces=[b"\x12\x04\x08\x01\x08\x02"], change=(0, b""))  # a field that comes twice: the last counts
@example(pieces=[b"\x12\x03\x08\x01\x20"], change=(0, b""))  # an unknown field without its value
@example(pieces=[b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"], change=(0, b""))
@settings(max_examples=300, deadline=None)
def test_damaged_and_odd_messages_are_read_as_protobuf_reads_them(
    pieces: list[bytes], change: tuple[int, bytes]
) -> None:
    place, values = change
    whole = b"".join(pieces)
    written = whole[:place] + values + whole[place + len(values) :]
    try:
        expected = pb.ReconstructRequest.FromString(written)
    except DecodeError:
        with pytest.raises(DecodeError):
            read_request(written)
        return
    assert same(read_request(written), expected)
