"""How a recording lies on the disk.

A file begins with a magic number and a salt, from which and from the key of the spool the key of the file is derived. Frames
follow, each ``length u32, sequence u64, nonce 12 bytes, CRC-32 of these u32, ciphertext with tag``. Frame 0 says what the scan is,
frames 1 to N are its records, frame N + 1 is the end. The tag binds a frame to its scan, its part and its sequence number, so that
nothing is exchanged, reordered or left out unnoticed. The CRC is there to tell a frame that was cut off by a crash from one whose
length was damaged.
"""

from __future__ import annotations

import enum
import json
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

Buffer: TypeAlias = "bytes | bytearray | memoryview"
Part = Literal["scan", "images"]

MAGIC: Final = b"recond spool 1\r\n"
SALT_BYTES: Final = 16
PREAMBLE_BYTES: Final = len(MAGIC) + SALT_BYTES
MOST_RECORD_BYTES: Final = 1 << 28
_HEAD: Final = struct.Struct("<IQ12s")
_CRC: Final = struct.Struct("<I")
HEAD_BYTES: Final = _HEAD.size + _CRC.size
_TAG_BYTES: Final = 16
_PLAIN: Final = struct.Struct("<BqI")  # what it is, kind, number of buffers
_LONGEST: Final = MOST_RECORD_BYTES + (1 << 20)
END_BYTES: Final = HEAD_BYTES + _PLAIN.size + _TAG_BYTES


class Holds(enum.IntEnum):
    """What a frame is."""

    ABOUT = 0
    RECORD = 1
    END = 2


class Head(NamedTuple):
    """The clear part of a frame: bytes of its ciphertext, its number, its nonce."""

    length: int
    sequence: int
    nonce: bytes


class Contents(NamedTuple):
    """The decrypted part of a frame."""

    holds: Holds
    kind: int
    buffers: tuple[memoryview, ...]


class BrokenFrameError(Exception):
    """A frame is not what was written."""


class FrameCipher:
    """Seals and opens the frames of one file.

    Parameters
    ----------
    key
        Of the spool, 32 bytes.
    salt
        Of the file, 16 random bytes.
    scan_id, part
        What the file holds.
    """

    def __init__(self, key: bytes, salt: bytes, scan_id: str, part: Part) -> None:
        derived = HKDF(SHA256(), 32, salt, b"recond spool: file").derive(key)
        self._cipher = AESGCM(derived)
        self._about = f"{part}:{scan_id}:".encode()

    def seal(self, sequence: int, plain: bytes) -> tuple[bytes, bytes]:
        """Return the head and the ciphertext of a frame."""
        nonce = os.urandom(12)
        sealed = self._cipher.encrypt(nonce, plain, self._bound(sequence))
        head = _HEAD.pack(len(sealed), sequence, nonce)
        return head + _CRC.pack(zlib.crc32(head)), sealed

    def open(self, head: Head, sealed: bytes) -> Contents:
        """Decrypt a frame.

        Raises
        ------
        BrokenFrameError
            If it is not what was written there.
        """
        try:
            plain = self._cipher.decrypt(head.nonce, sealed, self._bound(head.sequence))
        except InvalidTag:
            msg = "its checksum is wrong"
            raise BrokenFrameError(msg) from None
        return unpack(plain)

    def _bound(self, sequence: int) -> bytes:
        return self._about + sequence.to_bytes(8, "little")


def pack(holds: Holds, kind: int = 0, buffers: Sequence[Buffer] = ()) -> bytes:
    """Return the plain contents of a frame as one piece.

    Raises
    ------
    ValueError
        If they are too large for one record.
    """
    sizes = [memoryview(buffer).nbytes for buffer in buffers]
    if sum(sizes) > MOST_RECORD_BYTES or len(sizes) > 1 << 16:
        msg = f"a record of {len(sizes)} buffers with {sum(sizes)} bytes is too large: at most 65536 and {MOST_RECORD_BYTES}"
        raise ValueError(msg)
    return b"".join((_PLAIN.pack(holds, kind, len(sizes)), struct.pack(f"<{len(sizes)}Q", *sizes), *buffers))


def unpack(plain: bytes) -> Contents:
    """Undo `pack`; the buffers are views."""
    holds, kind, count = _PLAIN.unpack_from(plain)
    sizes = struct.unpack_from(f"<{count}Q", plain, _PLAIN.size)
    view = memoryview(plain)
    start = _PLAIN.size + 8 * count
    buffers = []
    for size in sizes:
        buffers.append(view[start : start + size])
        start += size
    return Contents(Holds(holds), kind, tuple(buffers))


def pack_about(about: Mapping[str, object]) -> bytes:
    """Return the contents of the first frame."""
    return pack(Holds.ABOUT, 0, (json.dumps(dict(about)).encode(),))


def read_preamble(file: int) -> bytes | None:
    """Return the salt of a file; None if it was cut off before there was one.

    Raises
    ------
    BrokenFrameError
        If this is no recording.
    """
    begin = os.pread(file, PREAMBLE_BYTES, 0)
    if begin[: len(MAGIC)] != MAGIC[: len(begin)]:
        msg = "this is no recording"
        raise BrokenFrameError(msg)
    return begin[len(MAGIC) :] if len(begin) == PREAMBLE_BYTES else None


def read_head(file: int, offset: int) -> Head | None:
    """Read the head of the frame at an offset; None where the file ends before the frame does.

    Raises
    ------
    BrokenFrameError
        If the head is damaged.
    """
    raw = os.pread(file, HEAD_BYTES, offset)
    if len(raw) < HEAD_BYTES:
        return None
    length, sequence, nonce = _HEAD.unpack_from(raw)
    if _CRC.unpack_from(raw, _HEAD.size)[0] != zlib.crc32(raw[: _HEAD.size]) or length > _LONGEST:
        msg = "the head of the frame is damaged"
        raise BrokenFrameError(msg)
    return Head(length, sequence, nonce) if offset + HEAD_BYTES + length <= os.fstat(file).st_size else None


def read_sealed(file: int, offset: int, length: int) -> bytes:
    """Read the ciphertext of a frame whose head stands at `offset`."""
    place = offset + HEAD_BYTES
    sealed = os.pread(file, length, place)
    while len(sealed) < length:
        more = os.pread(file, length - len(sealed), place + len(sealed))
        if not more:
            msg = "the file is shorter than it was"
            raise BrokenFrameError(msg)
        sealed += more
    return sealed


def write_all(file: int, offset: int, pieces: Sequence[bytes]) -> None:
    """Write pieces one after another at an offset."""
    done = os.pwritev(file, pieces, offset)
    total = sum(map(len, pieces))
    while done < total:
        rest = b"".join(pieces)[done:]
        done += os.pwrite(file, rest, offset + done)
