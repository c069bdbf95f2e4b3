"""MRD version 2: a header and readouts in one binary stream of yardl.

The stream tells its own schema. Only schemas of published versions are read, recognised by their SHA-256, and then the schema in
the stream itself says how its values lie. What comes out is what ISMRMRD (MRD version 1) files give: the same header, and
readouts with packed headers, in which counters that the stream leaves out are 0 and an unsaid centre of the echo is the middle.

Of the header, only the fields that `types.header` has room for are decoded. Whatever tells about a person, a place or a date is
passed over without being read.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recond_service.ingest.acquisitions import check_encodings, offsets_of
from recond_service.ingest.mrd2_header import WANTED, header_of
from recond_service.ingest.yardl import MAGIC, Plan, Reader, Schema, stream_of
from recond_service.types import (
    ACQUISITION_HEADER,
    AcquisitionBlock,
    AcquisitionSource,
    FindingList,
    InvalidInputError,
    LimitExceededError,
    Limits,
    MrdHeader,
    Part,
    RawScan,
    UnsupportedDataError,
)

_FORMAT_VERSION = 1
_LARGEST_SCHEMA = 1 << 20
_BLOCK_BYTES = 8 << 20
_LARGEST_BLOCK = 256
_HEADS_AT_ONCE = 1024
_LARGEST_COUNTER = 65535

_VERSIONS = {
    "d0d88a50b44c79000ef1f7ab4e9990986c74ee5ffdb8938dade689000d0089c8": "2.0",
    "35728e5556269a758e1f25926979e7c56041cb01d3d75e69b46e38b5f5a12901": "2.1",
    "20500d6722fda540af31e4456e851a4a4d8bce7eb933387d4fb2aad054afae67": "2.2.0",
    "ed0d873b34159caeceb2e7d0b786b36d7ca8c59e499f390d46fc11f673a217e8": "2.2.1",
}
"""Published versions, by the SHA-256 of their schema."""

_READ = ("2.0", "2.1")

_VECTORS = ("position", "readDir", "phaseDir", "sliceDir", "patientTablePosition")
_COUNTERS = (
    "kspaceEncodeStep1",
    "kspaceEncodeStep2",
    "average",
    "slice",
    "contrast",
    "phase",
    "repetition",
    "set",
    "segment",
)
_USER = 8
# `ACQUISITION_HEADER` without the time stamps of the patient's physiology and without the user's numbers, which nothing reads.
_PACKED = struct.Struct("<HQIII12xHHH16QHHHHHf3f3f3f3f3f9H8H32x32x")

# What is decoded of a readout: a record of its own since version 2.1, part of the acquisition before.
_HEAD = {
    "flags": None,
    "idx": None,
    "measurementUid": None,
    "scanCounter": None,
    "acquisitionTimeStamp": None,
    "channelOrder": None,
    "discardPre": None,
    "discardPost": None,
    "centerSample": None,
    "encodingSpaceRef": None,
    "sampleTimeUs": None,
    **dict.fromkeys(_VECTORS),
}


class _Opened(NamedTuple):
    """A stream behind its schema."""

    reader: Reader
    header: Plan
    readouts: Plan
    heads: Plan
    tags: Plan


def is_mrd2(part: Part) -> bool:
    """Tell whether a part begins as a yardl stream does."""
    with Path(part.path).open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_mrd2(part: Part, limits: Limits, findings: FindingList) -> RawScan:
    """Look through an MRD version 2 stream: its header is read, and its items are counted. Readouts are read later.

    Noise readouts are among the others, as in ISMRMRD files.

    Raises
    ------
    InvalidInputError
        If the stream is damaged, ends too early, or has no header.
    LimitExceededError
        If it claims more than the limits allow.
    UnsupportedDataError
        If its schema is of a version that is not read.
    """
    place = part.name or "stream"
    with _open(part, place) as opened:
        header = _header(opened, limits, findings)
        tags = Counter(tag for tag, _ in stream_of(opened.reader, opened.tags))
        trailing = opened.reader.remaining
    count = tags.pop("Acquisition", 0)
    if tags:
        listed = ", ".join(f"{number} {tag}" for tag, number in sorted(tags.items()))
        add = findings.warn if tags.keys() & {"AcquisitionBucket", "ReconData"} else findings.info
        add("mrd2-items-ignored", f"Only acquisitions are read; the stream also has {listed}.", tags.total())
    if trailing:
        findings.warn("mrd2-trailing-bytes", f"{trailing} bytes follow the end of the stream; they are left out.")

    def blocks() -> Iterator[AcquisitionBlock]:
        with _open(part, place) as again:
            again.header.skip(again.reader)
            yield from _blocks(again, header, limits, place)

    def heads() -> Iterator[NDArray[np.void]]:
        with _open(part, place) as again:
            again.header.skip(again.reader)
            packed = (
                _packed(values.get("head", values), values["data"], values["trajectory"], again.reader)
                for tag, values in stream_of(again.reader, again.heads)
                if tag == "Acquisition"
            )
            while some := b"".join(itertools.islice(packed, _HEADS_AT_ONCE)):
                yield np.frombuffer(some, ACQUISITION_HEADER)

    return RawScan(AcquisitionSource(header, count, blocks, place, heads), None, part.name)


@contextmanager
def _open(part: Part, place: str) -> Iterator[_Opened]:
    with Path(part.path).open("rb") as file:
        reader = Reader(file, place)
        if reader.remaining < len(MAGIC) or reader.take(len(MAGIC)) != MAGIC:
            raise InvalidInputError(
                f"{place} is not an MRD version 2 stream: it does not begin with 'yardl'. Leave the format open, or send such a "
                "stream.",
                reason="FORMAT_MISMATCH",
                field="parts.format",
            )
        version = int.from_bytes(reader.take(4), "little")
        if version != _FORMAT_VERSION:
            raise UnsupportedDataError(
                f"{place} is in version {version} of yardl's binary format; this service reads version {_FORMAT_VERSION}.",
                reason="MRD2_VERSION",
                field=place,
            )
        schema = _schema(reader, place)
        sequence = {step["name"]: step["type"] for step in schema["protocol"]["sequence"]}
        types = Schema(schema["types"])
        items = sequence["data"]["stream"]["items"]
        readout = {**_HEAD, "head": _HEAD, "trajectory": {}}
        yield _Opened(
            reader,
            types.plan(sequence["header"], WANTED),
            types.plan(items, {"Acquisition": {**readout, "data": None}}),
            types.plan(items, {"Acquisition": {**readout, "data": {}}}),
            types.plan(items, {}),
        )


def _schema(reader: Reader, place: str) -> dict[str, Any]:
    size = reader.unsigned()
    if size > _LARGEST_SCHEMA:
        raise reader.damaged(f"its schema has {size} bytes")
    text = reader.take(size)
    digest = hashlib.sha256(text).hexdigest()
    version = _VERSIONS.get(digest)
    if version not in _READ:
        found = f"version {version}" if version else f"a version that is not known (schema {digest[:12]})"
        raise UnsupportedDataError(
            f"{place} has the schema of MRD {found}; this service reads versions {' and '.join(_READ)}: write the stream with "
            "one of these, or convert it to ISMRMRD HDF5.",
            reason="MRD2_VERSION",
            field=place,
        )
    schema: dict[str, Any] = json.loads(text)
    return schema


def _header(opened: _Opened, limits: Limits, findings: FindingList) -> MrdHeader:
    opened.reader.limit(limits.max_xml_bytes)
    values = opened.header.read(opened.reader)
    opened.reader.limit(None)
    if values is None:
        raise InvalidInputError(
            "The stream has no header, which tells the matrix: write it with one.",
            reason="HEADER_MISSING",
            field="header",
        )
    return header_of(values, findings)


def _blocks(opened: _Opened, header: MrdHeader, limits: Limits, place: str) -> Iterator[AcquisitionBlock]:
    """Gather readouts into blocks of about 8 MiB."""
    reader = opened.reader
    heads: list[bytes] = []
    samples: list[NDArray[np.complex64]] = []
    held = first = 0

    def block() -> AcquisitionBlock:
        table = np.frombuffer(b"".join(heads), ACQUISITION_HEADER)
        check_encodings(table, header, f"{place}/data", first)
        lengths = np.fromiter((values.size for values in samples), np.int64, len(samples))
        return AcquisitionBlock(table, np.concatenate(samples), offsets_of(lengths), f"{place}/data")

    for tag, values in stream_of(reader, opened.readouts):
        if tag != "Acquisition":
            continue
        data = values["data"]
        if data.nbytes > limits.max_frame_bytes:
            raise LimitExceededError(
                f"{reader.place} has {data.nbytes} bytes of samples; this service takes {limits.max_frame_bytes} for an image.",
                reason="FRAME_TOO_LARGE",
                field=reader.place,
            )
        heads.append(_packed(values.get("head", values), data.shape, values["trajectory"], reader))
        samples.append(data.reshape(-1))
        held += data.nbytes
        if held >= _BLOCK_BYTES or len(heads) >= _LARGEST_BLOCK:
            yield block()
            first += len(heads)
            heads, samples, held = [], [], 0
    if heads:
        yield block()


def _packed(head: dict[str, Any], shape: tuple[int, ...], trajectory: tuple[int, ...], reader: Reader) -> bytes:
    """Return the packed ISMRMRD header of a readout of `shape` (channels, samples), and trajectory (dimensions, samples)."""

    def small(name: str, value: int | None, unsaid: int = 0) -> int:
        if value is None:
            return unsaid
        if value > _LARGEST_COUNTER:
            raise InvalidInputError(
                f"{reader.place}.{name} is {value}; it must be at most {_LARGEST_COUNTER}.",
                reason="ACQUISITION_SIZE",
                field=f"{reader.place}.{name}",
            )
        return value

    channels, count = small("channels", shape[0]), small("samples", shape[1])
    counters = head["idx"]
    user = [min(value, _LARGEST_COUNTER) for value in counters["user"][:_USER]]
    return _PACKED.pack(
        1,
        head["flags"],
        head["measurementUid"],
        head["scanCounter"] or 0,
        head["acquisitionTimeStamp"] or 0,
        count,
        channels,
        channels,
        *_channel_mask(head["channelOrder"]),
        small("discardPre", head["discardPre"]),
        small("discardPost", head["discardPost"]),
        small("centerSample", head["centerSample"], count // 2),
        small("encodingSpaceRef", head["encodingSpaceRef"]),
        small("trajectory", trajectory[0] if math.prod(trajectory) else 0),
        head["sampleTimeUs"] or 0.0,
        *(component for name in _VECTORS for component in head[name].tolist()),
        *(small(f"idx.{name}", counters[name]) for name in _COUNTERS),
        *user,
        *[0] * (_USER - len(user)),
    )


def _channel_mask(order: list[int]) -> list[int]:
    mask = [0] * 16
    for channel in order:
        if channel < 1024:
            mask[channel // 64] |= 1 << channel % 64
    return mask
