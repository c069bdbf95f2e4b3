"""Reads messages of a client. Chunks, which are nearly all of an upload, are read here without the copies that protobuf makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from recond.v1 import analysis_pb2
from recond.v1 import reconstruction_pb2 as pb

_VARINT, _LENGTH_DELIMITED = 0, 2  # wire types
_CHUNK_TAG: Final = pb.ReconstructRequest.CHUNK_FIELD_NUMBER << 3 | _LENGTH_DELIMITED
_PART_TAG: Final = pb.Chunk.PART_FIELD_NUMBER << 3 | _VARINT
_OFFSET_TAG: Final = pb.Chunk.OFFSET_FIELD_NUMBER << 3 | _VARINT
_DATA_TAG: Final = pb.Chunk.DATA_FIELD_NUMBER << 3 | _LENGTH_DELIMITED
_LONGEST_VARINT = 10


@dataclass(frozen=True, slots=True)
class ReceivedChunk:
    """A `recond.v1.Chunk`.

    Parameters
    ----------
    part, offset
        Where it belongs.
    data
        Its bytes, in the message as it came.
    """

    part: int
    offset: int
    data: memoryview


Request = pb.ReconstructRequest | analysis_pb2.AnalyzeRequest | analysis_pb2.CompareRequest
"""Messages of clients; their chunks have one tag."""

Received = ReceivedChunk | Request


def read_request(message: bytes) -> ReceivedChunk | pb.ReconstructRequest:
    """Return a message of a client of `Reconstruct`.

    Parameters
    ----------
    message
        As it came.

    Raises
    ------
    google.protobuf.message.DecodeError
        It is none.
    """
    chunk = _read_chunk(memoryview(message)) if message[:1] == bytes([_CHUNK_TAG]) else None
    return pb.ReconstructRequest.FromString(message) if chunk is None else chunk


def read_analyze_request(message: bytes) -> ReceivedChunk | analysis_pb2.AnalyzeRequest:
    """Return a message of a client of `Analyze`; as `read_request`."""
    chunk = _read_chunk(memoryview(message)) if message[:1] == bytes([_CHUNK_TAG]) else None
    return analysis_pb2.AnalyzeRequest.FromString(message) if chunk is None else chunk


def read_compare_request(message: bytes) -> ReceivedChunk | analysis_pb2.CompareRequest:
    """Return a message of a client of `Compare`; as `read_request`."""
    chunk = _read_chunk(memoryview(message)) if message[:1] == bytes([_CHUNK_TAG]) else None
    return analysis_pb2.CompareRequest.FromString(message) if chunk is None else chunk


def kind_of(received: Received) -> str:
    """Return the name of the field of a request that is set; empty for none."""
    return "chunk" if isinstance(received, ReceivedChunk) else received.WhichOneof("message") or ""


def _read_chunk(message: memoryview) -> ReceivedChunk | None:
    """Return the chunk that a message consists of; None for one that only protobuf can tell.

    That is every message with fields that come twice, are unknown, or follow the chunk.
    """
    try:
        length, place = _varint(message, 1)
        if place + length != len(message):
            return None
        part = offset = 0
        data = message[:0]
        seen: set[int] = set()
        while place < len(message):
            tag = message[place]
            if tag in seen:
                return None
            seen.add(tag)
            value, place = _varint(message, place + 1)
            if tag == _PART_TAG:
                part = value & 0xFFFFFFFF
            elif tag == _OFFSET_TAG:
                offset = value & 0xFFFFFFFFFFFFFFFF
            elif tag == _DATA_TAG:
                data, place = message[place : place + value], place + value
                if len(data) != value:
                    return None
            else:
                return None
    except IndexError:
        return None
    return ReceivedChunk(part, offset, data)


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """Return the number at a place, and the place behind it; raise IndexError where it does not end."""
    value = 0
    for count in range(_LONGEST_VARINT):
        byte = message[place + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, place + count + 1
    raise IndexError(place)
