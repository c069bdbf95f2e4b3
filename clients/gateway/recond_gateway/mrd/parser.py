"""Bytes of an MRD version 1 stream in, messages out."""

from __future__ import annotations

import codecs
import math
import struct
from collections.abc import Callable, Iterator
from typing import ClassVar, Final

import numpy as np

from recond_gateway.mrd.errors import ProtocolError
from recond_gateway.mrd.layouts import HEADER_VERSION, IMAGE_HEADER, WAVEFORM_HEADER, DataType
from recond_gateway.mrd.limits import LARGEST_BATCH, WireLimits
from recond_gateway.mrd.messages import (
    DEPRECATED_IDS,
    GADGETRON_IDS,
    Acquisitions,
    Close,
    ConfigFile,
    ConfigText,
    GadgetronError,
    Header,
    ImageMessage,
    Message,
    MessageId,
    NdArray,
    Query,
    Response,
    Text,
    Waveforms,
)
from recond_gateway.mrd.receive_buffer import ReceiveBuffer
from recond_gateway.mrd.runs import SHAPE_BYTES, Gathering, Shape, run_length, shape_at

CONFIG_FILE_BYTES: Final = 1024
_ID: Final = struct.Struct("<H")
_LENGTH: Final = struct.Struct("<I")
_LONG_LENGTH: Final = struct.Struct("<Q")
_QUERY: Final = struct.Struct("<QQQ")
_RESPONSE: Final = struct.Struct("<QQ")
_ARRAY: Final = struct.Struct("<HHH")
_WAVEFORM_SIZES: Final = struct.Struct("<28xHH")
_IMAGE_SIZES: Final = struct.Struct("<HH12xHHH12xH")
_WIDE: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""How a header begins that is full of NULs."""
_MOST_DIMENSIONS: Final = 32

_FOREIGN: Final = {
    b"ya": "this is MRD version 2: send it to a gateway started with --mrd2",
    b"\x16\x03": "this is TLS, which the protocol of scanners does not have: connect without it",
    b"GE": "this is HTTP: scanners connect here with MRD version 1",
    b"PO": "this is HTTP: scanners connect here with MRD version 1",
    b"PR": "this is HTTP or gRPC: scanners connect here with MRD version 1",
    b"\x89H": "this is an HDF5 file and no stream: play it with recond gateway replay",
}
"""What other streams begin with."""


class MrdParser:
    """Reads a stream; whoever owns the socket receives into `buffer`, says how much with `received`, and takes `messages`.

    Memory stays flat: one buffer, which grows only with bytes that came, up to the largest message allowed, and goes back.

    Parameters
    ----------
    limits
        How large messages may be.
    """

    def __init__(self, limits: WireLimits | None = None) -> None:
        self._limits: Final = limits or WireLimits()
        self._buffer: Final = ReceiveBuffer(
            _power_of_two(2 * self._limits.batch_bytes), _power_of_two(self._limits.largest_message)
        )
        self._at = 0
        self._error: ProtocolError | None = None

    @property
    def pending(self) -> bool:
        """Whether bytes of an unfinished message, or of messages not taken yet, are there."""
        return self._buffer.held > 0

    @property
    def at(self) -> int:
        """Position in the stream of the first byte that is not part of a message taken."""
        return self._at

    @property
    def capacity(self) -> int:
        """Bytes of memory that the buffer holds."""
        return self._buffer.capacity

    def buffer(self) -> memoryview:
        """Return where to receive next: writable, never empty, valid until the next call of it.

        Raises
        ------
        RuntimeError
            Whole messages fill the memory: take `messages` to their end first.
        """
        return self._buffer.free()

    def received(self, count: int) -> None:
        """Take over `count` bytes that were received into `buffer`.

        Raises
        ------
        ValueError
            There was no room for so many.
        """
        self._buffer.append(count)

    def messages(self) -> Iterator[Message]:
        """Yield all whole messages so far; acquisitions, and waveforms, that follow one another come as one message.

        Raises
        ------
        ProtocolError
            The stream cannot be read on. What came before it was yielded; every later call raises it again.
        """
        if self._error is not None:
            raise self._error
        try:
            while (message := self._next()) is not None:
                yield message
        except ProtocolError as error:
            self._error = error
            raise

    def _next(self) -> Message | None:
        number = self._peek_id()
        if number is None:
            return None
        reader = self._READERS.get(number)
        if reader is None:
            raise self._refused(number)
        return reader(self)

    def _refused(self, number: int) -> ProtocolError:
        if number in DEPRECATED_IDS:
            return ProtocolError(
                "DEPRECATED_MESSAGE",
                f"message {number} at byte {self._at} is a form of images that MRD has given up: send them as 1022 (IMAGE)",
            )
        if number in GADGETRON_IDS:
            return ProtocolError(
                "INTERNAL_GADGETRON_MESSAGE",
                f"message {number} ({GADGETRON_IDS[number]}) at byte {self._at} is what parts of Gadgetron send one another: "
                "send acquisitions (1008)",
            )
        remedy = "the stream is out of step, or the sender does not speak MRD version 1: check what it sends here"
        if self._at == 0:
            remedy = _FOREIGN.get(_ID.pack(number), remedy)
        return ProtocolError("UNKNOWN_MESSAGE", f"message {number} at byte {self._at} is not known: {remedy}")

    # Fields of the message at the front; None where they have not all come.

    def _peek_id(self) -> int | None:
        fields = self._peek(_ID, 0)
        return None if fields is None else int(fields[0])

    def _peek(self, layout: struct.Struct, offset: int) -> tuple[int, ...] | None:
        if self._buffer.held < offset + layout.size:
            return None
        return layout.unpack_from(self._buffer.view, self._buffer.start + offset)

    def _bytes(self, offset: int, count: int) -> bytes:
        start = self._buffer.start + offset
        return bytes(self._buffer.view[start : start + count])

    def _take(self, count: int) -> None:
        self._buffer.take(count)
        self._at += count

    def _check_size(self, name: str, size: int, most: int) -> None:
        if size > most:
            raise ProtocolError(
                "MESSAGE_TOO_LARGE",
                f"{name} at byte {self._at} announces {size} bytes, and at most {most} are taken: send less at once, or check "
                "that the stream is in step",
            )

    def _check_version(self, name: str, version: int) -> None:
        if version > HEADER_VERSION:
            raise ProtocolError(
                "BAD_HEADER_VERSION",
                f"{name} at byte {self._at} has a header of version {version}, and only version {HEADER_VERSION} is known: "
                "send MRD version 1, or check that the stream is in step",
            )

    # One message each; None where it has not all come.

    def _config_file(self) -> ConfigFile | None:
        whole = _ID.size + CONFIG_FILE_BYTES
        if self._buffer.held < whole:
            return None
        name = _text(self._bytes(_ID.size, CONFIG_FILE_BYTES))
        self._take(whole)
        return ConfigFile(name)

    def _close(self) -> Close:
        self._take(_ID.size)
        return Close()

    def _string(self, name: str, layout: struct.Struct, offset: int, most: int) -> bytes | None:
        """Take the message whose last part, behind its length at `offset`, is a string."""
        fields = self._peek(layout, offset)
        if fields is None:
            return None
        (length,) = fields
        self._check_size(name, length, most)
        begin = offset + layout.size
        if self._buffer.held < begin + length:
            return None
        string = self._bytes(begin, length)
        self._take(begin + length)
        return string

    def _config_text(self) -> ConfigText | None:
        string = self._string("CONFIG_TEXT", _LENGTH, _ID.size, self._limits.text_bytes)
        return None if string is None else ConfigText(_text(string))

    def _log_text(self) -> Text | None:
        string = self._string("TEXT", _LENGTH, _ID.size, self._limits.text_bytes)
        return None if string is None else Text(_text(string))

    def _header(self) -> Header | None:
        string = self._string("HEADER", _LENGTH, _ID.size, self._limits.text_bytes)
        if string is None:
            return None
        return Header(string if string.startswith(_WIDE) else _cut(string))

    def _query(self) -> Query | None:
        fields = self._peek(_QUERY, _ID.size)
        if fields is None:
            return None
        reserved, correlation, _ = fields
        if reserved:
            raise ProtocolError(
                "BAD_QUERY",
                f"QUERY at byte {self._at} has {reserved} in the field that must be 0: correct the query, or check that the "
                "stream is in step",
            )
        string = self._string("QUERY", _LONG_LENGTH, _ID.size + 16, self._limits.query_bytes)
        return None if string is None else Query(correlation, _text(string))

    def _response(self) -> Response | None:
        fields = self._peek(_RESPONSE, _ID.size)
        if fields is None:
            return None
        string = self._string("RESPONSE", _LONG_LENGTH, _ID.size + 8, self._limits.text_bytes)
        return None if string is None else Response(fields[0], _text(string))

    def _gadgetron_error(self) -> GadgetronError | None:
        string = self._string("ERROR", _LONG_LENGTH, _ID.size, self._limits.text_bytes)
        return None if string is None else GadgetronError(_text(string))

    def _acquisitions(self) -> Acquisitions | None:
        """Gather acquisitions until a batch is full, or none that is whole and sound follows."""
        gathering = Gathering()
        buffer = self._buffer
        room = self._limits.batch_bytes
        while buffer.held >= SHAPE_BYTES:
            shape = shape_at(buffer.view, buffer.start)
            if gathering.size and not self._fits(shape, room - gathering.size):
                break
            self._check_version("ACQUISITION", shape.version)
            if shape.compressed:
                raise ProtocolError(
                    "COMPRESSED_ACQUISITION",
                    f"ACQUISITION at byte {self._at} is compressed (flags 53 to 56), which is no part of MRD: send samples as "
                    "they are (gadgetron_ismrmrd_client: without -P and -T), or check that the stream is in step",
                )
            self._check_size(
                f"ACQUISITION of {shape.channels} channels x {shape.samples} samples", shape.size, LARGEST_BATCH
            )
            whole = shape.size + _ID.size
            most = min(buffer.held // whole, max(1, (room - gathering.size) // shape.size))
            count = run_length(buffer.array, buffer.start, shape, most)
            if not count:
                break
            gathering.add(buffer.array, buffer.start, shape, count)
            self._take(count * whole)
        return gathering.message() if gathering.size else None

    @staticmethod
    def _fits(shape: Shape, room: int) -> bool:
        """Tell whether a message is an acquisition that can be read and added; anything else waits for its own turn."""
        sound = shape.version <= HEADER_VERSION and not shape.compressed
        return shape.id == MessageId.ACQUISITION and sound and shape.size <= room

    def _waveforms(self) -> Waveforms | None:
        headers: list[bytes] = []
        samples: list[bytes] = []
        gathered = 0
        begin = _ID.size + WAVEFORM_HEADER.itemsize
        while self._peek_id() == MessageId.WAVEFORM and gathered < self._limits.batch_bytes:
            version = self._peek(_ID, _ID.size)
            sizes = self._peek(_WAVEFORM_SIZES, _ID.size)
            if version is None or sizes is None:
                break
            size = 4 * sizes[0] * sizes[1]
            if headers and (version[0] > HEADER_VERSION or size > self._limits.data_bytes):
                break
            self._check_version("WAVEFORM", version[0])
            self._check_size("WAVEFORM", size, self._limits.data_bytes)
            if self._buffer.held < begin + size:
                break
            headers.append(self._bytes(_ID.size, WAVEFORM_HEADER.itemsize))
            samples.append(self._bytes(begin, size))
            self._take(begin + size)
            gathered += begin + size
        return Waveforms(np.frombuffer(b"".join(headers), WAVEFORM_HEADER), b"".join(samples)) if headers else None

    def _image(self) -> ImageMessage | None:
        sizes = self._peek(_IMAGE_SIZES, _ID.size)
        if sizes is None:
            return None
        version, data_type, *matrix, channels = sizes
        self._check_version("IMAGE", version)
        pixel = self._dtype("BAD_IMAGE", "IMAGE", data_type).itemsize
        size = math.prod(matrix) * channels * pixel
        self._check_size("IMAGE", size, self._limits.data_bytes)
        attributes_at = _ID.size + IMAGE_HEADER.itemsize
        length = self._peek(_LONG_LENGTH, attributes_at)
        if length is None:
            return None
        self._check_size("the attributes of IMAGE", length[0], self._limits.text_bytes)
        attributes_at += _LONG_LENGTH.size
        whole = attributes_at + length[0] + size
        if self._buffer.held < whole:
            return None
        message = ImageMessage(
            np.frombuffer(self._bytes(_ID.size, IMAGE_HEADER.itemsize), IMAGE_HEADER)[0],
            _text(self._bytes(attributes_at, length[0])),
            self._bytes(attributes_at + length[0], size),
        )
        self._take(whole)
        return message

    def _array(self) -> NdArray | None:
        fields = self._peek(_ARRAY, _ID.size)
        if fields is None:
            return None
        data_type, _, dimensions = fields
        dtype = self._dtype("BAD_ARRAY", "NDARRAY", data_type)
        if dimensions > _MOST_DIMENSIONS:
            raise ProtocolError(
                "BAD_ARRAY",
                f"NDARRAY at byte {self._at} has {dimensions} dimensions; at most {_MOST_DIMENSIONS} are taken",
            )
        extent = self._peek(struct.Struct(f"<{dimensions}Q"), _ID.size + _ARRAY.size)
        if extent is None:
            return None
        # An array without items may not have sides that numpy cannot hold either.
        self._check_size(
            "NDARRAY", math.prod(max(side, 1) for side in extent) * dtype.itemsize, self._limits.data_bytes
        )
        begin = _ID.size + _ARRAY.size + 8 * dimensions
        size = math.prod(extent) * dtype.itemsize
        if self._buffer.held < begin + size:
            return None
        array = np.frombuffer(self._bytes(begin, size), dtype).reshape(extent)
        self._take(begin + size)
        return NdArray(array)

    def _dtype(self, reason: str, name: str, data_type: int) -> np.dtype[np.generic]:
        try:
            return DataType(data_type).dtype
        except ValueError:
            raise ProtocolError(
                reason,
                f"{name} at byte {self._at} has data type {data_type}, and only 1 to 8 are defined: correct its header, or "
                "check that the stream is in step",
            ) from None

    _READERS: ClassVar[dict[int, Callable[[MrdParser], Message | None]]] = {
        MessageId.CONFIG_FILE: _config_file,
        MessageId.CONFIG_TEXT: _config_text,
        MessageId.HEADER: _header,
        MessageId.CLOSE: _close,
        MessageId.TEXT: _log_text,
        MessageId.QUERY: _query,
        MessageId.RESPONSE: _response,
        MessageId.ERROR: _gadgetron_error,
        MessageId.ACQUISITION: _acquisitions,
        MessageId.IMAGE: _image,
        MessageId.WAVEFORM: _waveforms,
        MessageId.NDARRAY: _array,
    }


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()


def _cut(string: bytes) -> bytes:
    """Return a string up to its first NUL, which some senders count and others do not send."""
    return string.partition(b"\0")[0]


def _text(string: bytes) -> str:
    """Return text; a byte that is no UTF-8, from a scanner that writes Latin-1, does not end a scan."""
    return _cut(string).decode("utf-8", errors="replace")
