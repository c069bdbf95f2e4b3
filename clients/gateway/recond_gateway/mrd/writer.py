"""Messages of MRD version 1 as bytes.

Senders disagree about NULs behind texts: some send one and count it, some do not. `NulConvention` names the habits that were
observed; what a server sends has none, which every reader takes.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from recond_gateway.mrd.layouts import ACQUISITION_HEADER, IMAGE_HEADER, WAVEFORM_HEADER, DataType
from recond_gateway.mrd.messages import MessageId

_CONFIG_FILE_BYTES = 1024
_ID = struct.Struct("<H")


class NulConvention(Enum):
    """Which texts a sender ends with a NUL that their length counts."""

    NONE = "none"
    FIRE = "fire"
    PULSERVER = "pulserver"

    def ends(self, message: MessageId) -> bool:
        """Tell whether a text of this message has the NUL."""
        if self is NulConvention.FIRE:
            return message in {MessageId.CONFIG_TEXT, MessageId.HEADER, MessageId.TEXT}
        return self is NulConvention.PULSERVER and message == MessageId.CONFIG_TEXT


def config_file(name: str) -> bytes:
    """Return a CONFIG_FILE.

    Raises
    ------
    ValueError
        The name has over 1023 bytes in UTF-8.
    """
    encoded = name.encode()
    if len(encoded) >= _CONFIG_FILE_BYTES:
        msg = f"the name of the configuration has {len(encoded)} bytes; it may have {_CONFIG_FILE_BYTES - 1}"
        raise ValueError(msg)
    return _ID.pack(MessageId.CONFIG_FILE) + encoded.ljust(_CONFIG_FILE_BYTES, b"\0")


def config_text(configuration: str, nul: NulConvention = NulConvention.NONE) -> bytes:
    """Return a CONFIG_TEXT."""
    return _counted(MessageId.CONFIG_TEXT, configuration.encode(), nul)


def header(xml: bytes, nul: NulConvention = NulConvention.NONE) -> bytes:
    """Return a HEADER: the MRD header as XML."""
    return _counted(MessageId.HEADER, xml, nul)


def text(message: str, nul: NulConvention = NulConvention.NONE) -> bytes:
    """Return a TEXT."""
    return _counted(MessageId.TEXT, message.encode(), nul)


def close() -> bytes:
    """Return a CLOSE."""
    return _ID.pack(MessageId.CLOSE)


def query(correlation: int, question: str) -> bytes:
    """Return a QUERY of Gadgetron's."""
    encoded = question.encode()
    return struct.pack("<HQQQ", MessageId.QUERY, 0, correlation, len(encoded)) + encoded


def response(correlation: int, answer: str) -> bytes:
    """Return the RESPONSE to a query."""
    encoded = answer.encode()
    return struct.pack("<HQQ", MessageId.RESPONSE, correlation, len(encoded)) + encoded


def gadgetron_error(message: str) -> bytes:
    """Return an ERROR of Gadgetron's."""
    encoded = message.encode()
    return struct.pack("<HQ", MessageId.ERROR, len(encoded)) + encoded


def image(header: np.void, attributes: str, pixels: bytes | NDArray[np.generic]) -> bytes:
    """Return an IMAGE.

    Parameters
    ----------
    header
        One item of `layouts.IMAGE_HEADER`; the length of the attributes is set in what is sent.
    attributes
        XML of the meta attributes.
    pixels
        (channels, z, y, x) of the header's data type, as an array or as bytes.

    Raises
    ------
    ValueError
        The pixels are not what the header says.
    """
    fields = np.array(header, IMAGE_HEADER)
    encoded = attributes.encode()
    fields["attribute_string_len"] = len(encoded)
    dtype = DataType(int(fields["data_type"])).dtype
    if isinstance(pixels, np.ndarray):
        if DataType.of(pixels.dtype) != fields["data_type"]:
            msg = f"the pixels are {pixels.dtype}, but the header says {dtype}"
            raise ValueError(msg)
        pixels = pixels.astype(dtype, copy=False).tobytes()
    expected = int(np.prod(fields["matrix_size"], dtype=np.int64)) * int(fields["channels"]) * dtype.itemsize
    if len(pixels) != expected:
        msg = f"the pixels have {len(pixels)} bytes, but the header announces {expected}"
        raise ValueError(msg)
    return b"".join((_ID.pack(MessageId.IMAGE), fields.tobytes(), struct.pack("<Q", len(encoded)), encoded, pixels))


def ndarray(array: NDArray[np.generic]) -> bytes:
    """Return an NDARRAY.

    Raises
    ------
    ValueError
        MRD has no such type.
    """
    code = DataType.of(array.dtype)
    head = struct.pack(f"<HHHH{array.ndim}Q", MessageId.NDARRAY, code, 0, array.ndim, *array.shape)
    return head + array.astype(code.dtype, copy=False).tobytes()


def acquisitions(
    headers: NDArray[np.void], samples: bytes | NDArray[np.complex64], trajectories: bytes | NDArray[np.float32] = b""
) -> bytes:
    """Return ACQUISITIONs, one behind the other; many of one size at once cost no more than a copy.

    Parameters
    ----------
    headers
        (n,) of `layouts.ACQUISITION_HEADER`.
    samples
        The samples one after another: complex64, (channels, samples) each.
    trajectories
        The trajectories one after another: float32, (samples, dimensions) each.

    Raises
    ------
    ValueError
        The data are not what the headers say.
    """
    counts = headers["number_of_samples"].astype(np.int64)
    return _interleaved(
        MessageId.ACQUISITION,
        np.ascontiguousarray(headers, ACQUISITION_HEADER),
        [
            (_octets(trajectories), 4 * counts * headers["trajectory_dimensions"]),
            (_octets(samples), 8 * counts * headers["active_channels"]),
        ],
    )


def waveforms(headers: NDArray[np.void], samples: bytes | NDArray[np.uint32]) -> bytes:
    """Return WAVEFORMs, one behind the other.

    Parameters
    ----------
    headers
        (n,) of `layouts.WAVEFORM_HEADER`.
    samples
        The samples one after another: uint32, (channels, samples) each.

    Raises
    ------
    ValueError
        The samples are not what the headers say.
    """
    counts = 4 * headers["number_of_samples"].astype(np.int64) * headers["channels"]
    packed = np.zeros(len(headers), WAVEFORM_HEADER)  # numpy leaves what was in memory between the fields
    for name in WAVEFORM_HEADER.names or ():
        packed[name] = headers[name]
    return _interleaved(MessageId.WAVEFORM, packed, [(_octets(samples), counts)])


def _counted(message: MessageId, string: bytes, nul: NulConvention) -> bytes:
    if nul.ends(message):
        string += b"\0"
    return struct.pack("<HI", message, len(string)) + string


def _octets(data: bytes | NDArray[np.generic]) -> NDArray[np.uint8]:
    if isinstance(data, np.ndarray):
        return np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    return np.frombuffer(data, np.uint8)


def _interleaved(
    message: MessageId, headers: NDArray[np.void], parts: list[tuple[NDArray[np.uint8], NDArray[np.int64]]]
) -> bytes:
    """Return id, header and parts of each message in turn; a part is its bytes for all messages, and how many each has."""
    for data, sizes in parts:
        if data.size != sizes.sum():
            msg = f"there are {data.size} bytes of data, but the headers announce {sizes.sum()}"
            raise ValueError(msg)
    width = headers.dtype.itemsize
    octets = headers.view(np.uint8).reshape(len(headers), width)
    pieces = []
    begins = [0] * len(parts)
    for first, last in _runs([sizes for _, sizes in parts]):
        count = last - first
        each = [int(sizes[first]) for _, sizes in parts]
        table = np.empty((count, _ID.size + width + sum(each)), np.uint8)
        table[:, : _ID.size] = np.frombuffer(_ID.pack(message), np.uint8)
        table[:, _ID.size : _ID.size + width] = octets[first:last]
        column = _ID.size + width
        for number, ((data, _), size) in enumerate(zip(parts, each, strict=True)):
            end = begins[number] + count * size
            table[:, column : column + size] = data[begins[number] : end].reshape(count, size)
            begins[number] = end
            column += size
        pieces.append(table.tobytes())
    return b"".join(pieces)


def _runs(sizes: list[NDArray[np.int64]]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last but one index of messages that follow one another and have the same sizes."""
    count = len(sizes[0])
    changes = np.zeros(max(count - 1, 0), bool)
    for column in sizes:
        changes |= column[1:] != column[:-1]
    edges = [0, *(np.flatnonzero(changes) + 1).tolist(), count]
    yield from ((first, last) for first, last in itertools.pairwise(edges) if first < last)
