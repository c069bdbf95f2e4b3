"""What is going to be sent: files, bytes and arrays as parts that can be cut into chunks. No network here."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recond.v1 import reconstruction_pb2 as pb
from recond_client.acquisitions import AcquisitionBatch, EncodedRequest
from recond_client.errors import InputError

CHUNK_BYTES: Final = 1 << 20

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO


class Content(Protocol):
    """Bytes of known size that can be read from the start any number of times."""

    @property
    def size(self) -> int:
        """Size in bytes."""

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Return the bytes from the start."""


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file on disk; only a chunk of it is ever in memory."""

    path: Path
    size: int

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Open the file."""
        return self.path.open("rb")


@dataclass(frozen=True, slots=True)
class MemoryContent:
    """Bytes in memory, not copied."""

    data: memoryview

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.data.nbytes

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Return a reader over the bytes."""
        return nullcontext(_MemoryReader(self.data))


class _MemoryReader(io.RawIOBase, BinaryIO):
    """Reads from a memoryview without copying all of it first, as `io.BytesIO` would."""

    def __init__(self, data: memoryview) -> None:
        super().__init__()
        self._data = data
        self._position = 0

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes."""
        end = self._data.nbytes if size is None or size < 0 else min(self._position + size, self._data.nbytes)
        piece = bytes(self._data[self._position : end])
        self._position = end
        return piece


@dataclass(frozen=True, slots=True)
class StreamContent:
    """A seekable file object that belongs to the caller; read from where it stood, and never closed."""

    file: BinaryIO
    start: int
    size: int

    def open(self) -> AbstractContextManager[BinaryIO]:
        """Go back to the start."""
        self.file.seek(self.start)
        return nullcontext(self.file)


@dataclass(frozen=True, slots=True)
class UploadPart:
    """A part of the upload.

    Parameters
    ----------
    content
        Bytes in memory or of a file, sent in pieces.
    role, format
        As on the wire.
    name
        Base name of the file, or empty.
    shape
        Axis lengths of an array, empty otherwise.
    """

    content: Content
    role: pb.PartRole
    format: pb.PartFormat = pb.PART_FORMAT_UNSPECIFIED
    name: str = ""
    shape: tuple[int, ...] = ()

    def to_wire(self) -> pb.Part:
        """Return the announcement of this part."""
        return pb.Part(
            role=self.role,
            format=self.format,
            # File names need not be UTF-8, the names on the wire do.
            name=os.fsencode(self.name).decode(errors="replace"),
            size_bytes=self.content.size,
            shape=self.shape,
        )


@dataclass(frozen=True, slots=True)
class Upload:
    """All parts of a request, in the order in which they are sent."""

    parts: tuple[UploadPart, ...]

    @property
    def size(self) -> int:
        """Size of all parts in bytes."""
        return sum(part.content.size for part in self.parts)

    def chunks(self, chunk_bytes: int = CHUNK_BYTES) -> Iterator[pb.ReconstructRequest]:
        """Yield the chunks of all parts, read from the start.

        Parameters
        ----------
        chunk_bytes
            Size of a chunk; the last of a part may be smaller.

        Raises
        ------
        InputError
            If a file cannot be read any more, or became shorter while it was sent.
        """
        for number, part in enumerate(self.parts):
            offset = 0
            try:
                with part.content.open() as file:
                    while offset < part.content.size:
                        data = file.read(min(chunk_bytes, part.content.size - offset))
                        if not data:
                            break
                        yield pb.ReconstructRequest(chunk=pb.Chunk(part=number, offset=offset, data=data))
                        offset += len(data)
            except OSError as error:
                raise _unreadable(part.name, error) from error
            if offset != part.content.size:
                msg = f"{part.name or 'the source'} became shorter while it was sent: {offset} of {part.content.size} bytes"
                raise InputError(msg, reason="SOURCE_CHANGED", field=f"parts[{number}]")


def stream_data(
    header_xml: str | bytes, batches: Iterable[AcquisitionBatch]
) -> Iterator[pb.ReconstructRequest | EncodedRequest]:
    """Yield the messages of an acquisition stream behind its spec.

    Parameters
    ----------
    header_xml
        The ISMRMRD XML header.
    batches
        Acquisitions, sent as soon as they come.
    """
    xml = header_xml.encode() if isinstance(header_xml, str) else header_xml
    yield pb.ReconstructRequest(mrd_header=pb.MrdHeader(xml=xml))
    for batch in batches:
        yield batch.encoded()


def upload_of(
    source: Source | None,
    kspace: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    reference: Source | ArrayLike | None = None,
) -> Upload:
    """Return the upload of a scan, from a file or from arrays, whichever is given.

    Parameters
    ----------
    source
        As for `upload_of_source`; None if `kspace` is given.
    kspace, mask
        As for `upload_of_arrays`.
    reference
        As for `upload_of_source`.

    Raises
    ------
    InputError
        If both or neither are given, or one does not fit.
    """
    if (source is None) == (kspace is None):
        msg = "give either a source or kspace"
        raise InputError(msg, reason="BAD_ARGUMENTS", field="source")
    if source is None:
        return upload_of_arrays(kspace, mask, reference)  # type: ignore[arg-type]
    if mask is not None:
        msg = "mask goes with kspace; a file brings its own"
        raise InputError(msg, reason="BAD_ARGUMENTS", field="mask")
    return upload_of_source(source, reference)


def upload_of_source(source: Source, reference: Source | ArrayLike | None = None) -> Upload:
    """Return the upload of a scan file.

    Parameters
    ----------
    source
        Path of an ISMRMRD, MRD version 2 or fastMRI file, or of either file of a BART pair; or the bytes of a file; or a
        seekable binary file object, which is read from where it stands.
    reference
        Images to score against: a file, bytes or file object as above, or an array, real (slices, rows, columns).

    Raises
    ------
    InputError
        If a file is missing, empty or cannot be read.
    """
    return Upload((*_scan_parts(source), *_reference_parts(reference)))


def upload_of_arrays(
    kspace: ArrayLike, mask: ArrayLike | None = None, reference: Source | ArrayLike | None = None
) -> Upload:
    """Return the upload of k-space in memory.

    Parameters
    ----------
    kspace
        Complex (slices, coils, rows, columns), or (coils, rows, columns) for one slice; centred, rows = readout. Sent as
        complex64.
    mask
        (columns) or (rows, columns), nonzero where measured; None lets the service take what is not zero.
    reference
        As for `upload_of_source`.

    Raises
    ------
    InputError
        If a shape or type does not fit.
    """
    samples = _kspace_array(kspace)
    shape = samples.shape
    parts = [UploadPart(_content_of(samples), pb.PART_ROLE_KSPACE, pb.PART_FORMAT_ARRAY, shape=shape)]
    if mask is not None:
        lines = _mask_array(mask, shape)
        parts.append(UploadPart(_content_of(lines), pb.PART_ROLE_MASK, pb.PART_FORMAT_ARRAY, shape=lines.shape))
    return Upload((*parts, *_reference_parts(reference)))


def _kspace_array(kspace: ArrayLike) -> NDArray[np.complex64]:
    """Return k-space as little-endian complex64 (slices, coils, rows, columns)."""
    array = _array(kspace, "kspace")
    if array.dtype.kind != "c":
        msg = f"kspace has type {array.dtype}, but k-space is complex: join real and imaginary parts first"
        raise InputError(msg, reason="WRONG_TYPE", field="kspace")
    if array.ndim == 3:
        array = array[np.newaxis]
    if array.ndim != 4 or 0 in array.shape:
        msg = f"kspace has shape {array.shape}; give (slices, coils, rows, columns), or (coils, rows, columns) for one slice"
        raise InputError(msg, reason="WRONG_SHAPE", field="kspace")
    return _converted(array, "<c8", "kspace")


def _mask_array(mask: ArrayLike, kspace_shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return a mask as bytes of 0 and 1."""
    array = _array(mask, "mask")
    if array.dtype.kind not in "biuf":
        msg = f"mask has type {array.dtype}; give booleans, or numbers that are 0 where nothing was measured"
        raise InputError(msg, reason="WRONG_TYPE", field="mask")
    rows, columns = kspace_shape[-2:]
    if array.shape not in ((columns,), (rows, columns)):
        msg = f"mask has shape {array.shape}; for this k-space it is ({columns},) or ({rows}, {columns})"
        raise InputError(msg, reason="WRONG_SHAPE", field="mask")
    return np.ascontiguousarray(array != 0).view(np.uint8)


def _reference_parts(reference: Source | ArrayLike | None) -> tuple[UploadPart, ...]:
    """Return the part of a reference, if there is one."""
    if reference is None:
        return ()
    if isinstance(reference, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(reference, "read"):
        content, name = content_and_name(reference, "reference")  # type: ignore[arg-type]
        return (UploadPart(content, pb.PART_ROLE_REFERENCE, name=name),)
    array = _array(reference, "reference")
    if array.dtype.kind not in "iuf":
        msg = f"reference has type {array.dtype}; references are real: take the magnitude first"
        raise InputError(msg, reason="WRONG_TYPE", field="reference")
    if array.ndim == 2:
        array = array[np.newaxis]
    if array.ndim != 3 or 0 in array.shape:
        msg = f"reference has shape {array.shape}; give (slices, rows, columns), or (rows, columns) for one slice"
        raise InputError(msg, reason="WRONG_SHAPE", field="reference")
    images = _converted(array, "<f4", "reference")
    return (UploadPart(_content_of(images), pb.PART_ROLE_REFERENCE, pb.PART_FORMAT_ARRAY, shape=images.shape),)


def _scan_parts(source: Source) -> tuple[UploadPart, ...]:
    """Return the part of a scan file, or both parts of a BART pair."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if path.suffix.lower() in {".cfl", ".hdr"}:
            samples, samples_name = content_and_name(beside(path, ".cfl"), "source")
            header, header_name = content_and_name(beside(path, ".hdr"), "source")
            return (
                UploadPart(samples, pb.PART_ROLE_KSPACE, pb.PART_FORMAT_BART_CFL, samples_name),
                UploadPart(header, pb.PART_ROLE_KSPACE_HEADER, pb.PART_FORMAT_BART_HDR, header_name),
            )
    content, name = content_and_name(source, "source")
    return (UploadPart(content, pb.PART_ROLE_KSPACE, name=name),)


def beside(path: Path, ending: str) -> Path:
    """Return the file of a pair that has this ending in place of that of `path`, in capitals if only that exists.

    Parameters
    ----------
    path
        Either file of the pair.
    ending
        In lower case, such as ``".hdr"``.
    """
    if path.suffix.lower() == ending:
        return path
    named = [path.with_suffix(ending.upper()), path.with_suffix(ending)]
    if path.suffix.islower():
        named.reverse()
    return next((candidate for candidate in named if candidate.is_file()), named[0])


def content_and_name(source: Source, field: str) -> tuple[Content, str]:
    """Return the bytes behind a path, buffer or file object, and the base name of the file if it has one."""
    content: Content
    name = ""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        name = path.name
        content = _file_content(path, field)
    elif isinstance(source, bytes | bytearray | memoryview):
        content = MemoryContent(memoryview(source).cast("B"))
    else:
        name = Path(source.name).name if isinstance(getattr(source, "name", None), str) else ""
        content = _stream_content(source, field)
    if content.size == 0:
        msg = f"{name or 'the ' + field} is empty"
        raise InputError(msg, reason="EMPTY", field=field)
    return content, name


def _file_content(path: Path, field: str) -> FileContent:
    """Return a file's content after a look whether it can be read."""
    try:
        if not path.is_file():
            reason = "is not a file" if path.exists() else "does not exist"
            msg = f"{path} {reason}" + (
                ": a BART scan is a .cfl and a .hdr" if path.suffix.lower() in {".cfl", ".hdr"} else ""
            )
            raise InputError(msg, reason="FILE_NOT_FOUND", field=field)
        with path.open("rb"):
            return FileContent(path, path.stat().st_size)
    except OSError as error:
        raise _unreadable(str(path), error) from error


def _stream_content(file: BinaryIO, field: str) -> StreamContent:
    """Return a file object's content."""
    if not hasattr(file, "read"):
        msg = f"{field} is {type(file).__name__}; give a path, bytes or a binary file object"
        raise InputError(msg, reason="WRONG_TYPE", field=field)
    try:
        start = file.tell()
        size = file.seek(0, io.SEEK_END) - start
        file.seek(start)
        binary = isinstance(file.read(0), bytes)
    except (OSError, AttributeError) as error:
        msg = f"{field} cannot seek, so its size is not known: read it into memory and give the bytes"
        raise InputError(msg, reason="NOT_SEEKABLE", field=field) from error
    if not binary:
        msg = f"{field} is open for text: open it with 'rb'"
        raise InputError(msg, reason="WRONG_TYPE", field=field)
    return StreamContent(file, start, size)


def _array(values: ArrayLike, field: str) -> NDArray[Any]:
    """Return values as an array of numbers."""
    try:
        return np.asarray(values)
    except ValueError as error:
        msg = f"{field} is not an array: {error}"
        raise InputError(msg, reason="WRONG_TYPE", field=field) from error


def _converted(array: NDArray[Any], dtype: str, field: str) -> NDArray[Any]:
    """Return an array in C order and another precision; what does not fit is an error, not infinity."""
    with np.errstate(over="raise"):
        try:
            return np.ascontiguousarray(array, dtype=dtype)
        except FloatingPointError as error:
            msg = f"{field} has values beyond single precision: scale them down"
            raise InputError(msg, reason="OUT_OF_RANGE", field=field) from error


def _content_of(array: NDArray[Any]) -> MemoryContent:
    """Return the bytes of a contiguous array without copying them."""
    return MemoryContent(array.reshape(-1).view(np.uint8).data)


def _unreadable(name: str, error: OSError) -> InputError:
    return InputError(f"{name or 'the source'} cannot be read: {error.strerror or error}", reason="UNREADABLE")
