"""What version a stream of MRD version 2 is in: told before it is read, since its reader knows one schema only."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import BinaryIO, Final

from mrd.protocols import MrdReaderBase

from recond_gateway.mrd.errors import ProtocolError

MAGIC: Final = b"yardl"
_FORMAT_VERSION: Final = 1
_LARGEST_SCHEMA: Final = 1 << 20

_VERSIONS: Final = {
    "d0d88a50b44c79000ef1f7ab4e9990986c74ee5ffdb8938dade689000d0089c8": "2.0",
    "35728e5556269a758e1f25926979e7c56041cb01d3d75e69b46e38b5f5a12901": "2.1",
    "20500d6722fda540af31e4456e851a4a4d8bce7eb933387d4fb2aad054afae67": "2.2.0",
    "ed0d873b34159caeceb2e7d0b786b36d7ca8c59e499f390d46fc11f673a217e8": "2.2.1",
}
"""Published versions, by the SHA-256 of their schema."""


def read_preamble(stream: BinaryIO) -> bytes:
    """Read what a stream begins with, up to its schema, and check that the installed package reads that.

    Parameters
    ----------
    stream
        A buffered stream, whose `read` waits for all bytes.

    Returns
    -------
    bytes
        All that was read.

    Raises
    ------
    ProtocolError
        ``NOT_MRD2``: something else; ``MRD2_VERSION``: of another version, and the message names both; ``TRUNCATED``.
    """
    magic = stream.read(len(MAGIC))
    if magic != MAGIC:
        hint = "it has no bytes" if not magic else "version 1 goes to a gateway without --mrd2"
        raise ProtocolError("NOT_MRD2", f"the stream does not begin with 'yardl' as MRD version 2 does: {hint}")
    number = _exactly(stream, 4)
    if int.from_bytes(number, "little") != _FORMAT_VERSION:
        found = int.from_bytes(number, "little")
        raise ProtocolError(
            "MRD2_VERSION",
            f"the stream is in version {found} of yardl's binary format; version {_FORMAT_VERSION} is read",
        )
    length = b""
    while not length or length[-1] & 0x80:
        length += _exactly(stream, 1)
        if len(length) > 4:
            break
    size = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(length))
    if size > _LARGEST_SCHEMA:
        raise ProtocolError(
            "MESSAGE_TOO_LARGE", f"the schema announces {size} bytes; at most {_LARGEST_SCHEMA} are taken"
        )
    schema = _exactly(stream, size)
    if schema != MrdReaderBase.schema.encode():
        ours = _VERSIONS.get(hashlib.sha256(MrdReaderBase.schema.encode()).hexdigest(), "another")
        digest = hashlib.sha256(schema).hexdigest()
        theirs = (
            f"MRD {_VERSIONS[digest]}" if digest in _VERSIONS else f"an unknown version of MRD (schema {digest[:12]})"
        )
        raise ProtocolError(
            "MRD2_VERSION",
            f"the stream is in the schema of {theirs}; mrd-python {version('mrd-python')} here reads MRD {ours} only: send that "
            "version, or MRD version 1",
        )
    return magic + number + length + schema


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise ProtocolError("TRUNCATED", "the stream ends within its schema: send it whole")
    return data
