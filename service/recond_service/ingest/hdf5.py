"""HDF5 files of strangers, opened so that they can show nothing but their own bytes.

An HDF5 file can point at other files of the machine that reads it: by external links, by virtual datasets, by external storage
of a dataset. Soft links may lead to either. None of them is followed here: an object is opened only through hard links, and
only after its link has been looked at. Sizes are checked against what the request may claim before anything is allocated.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import h5py

from recond_service.types import InvalidInputError, LimitExceededError, Limits

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_FILTERS = {
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_LZF,
}


def has_signature(file: BinaryIO | io.FileIO) -> bool:
    """Tell whether a file begins with an HDF5 superblock, at 0 or behind a user block of 512, 1024, ... bytes."""
    size = file.seek(0, 2)
    offset = 0
    while offset + len(SIGNATURE) <= size:
        file.seek(offset)
        if file.read(len(SIGNATURE)) == SIGNATURE:
            return True
        offset = max(512, 2 * offset)
    return False


@contextmanager
def h5py_errors(place: str) -> Iterator[None]:
    """Turn what h5py raises on damaged files into `InvalidInputError` at `place`.

    h5py maps the errors of the HDF5 library to OSError, KeyError, RuntimeError, ValueError and TypeError, by their class. A want of
    memory in the library comes out as `MemoryError`.
    """
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, OverflowError) as error:
        if "memory alloc" in str(error).lower():
            raise MemoryError(str(error)) from error
        detail = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InvalidInputError(
            f"{place} cannot be read: {detail}. The file is truncated or damaged: write it again.",
            reason="HDF5_DAMAGED",
            field=place,
        ) from error


@contextmanager
def open_file(path: str, name: str) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading and close it at the end.

    Raises
    ------
    InvalidInputError
        If the file is not HDF5, truncated or damaged.
    """
    label = name or "the file"
    # Through a Python file: HDF5 itself cannot open an upload, which is anonymous memory without a real path.
    with Path(path).open("rb", buffering=0) as file:
        if not has_signature(file):
            raise InvalidInputError(
                f"{label} is not an HDF5 file: send an ISMRMRD or fastMRI .h5 file, an MRD 2 stream, a BART .cfl with its .hdr, "
                "or an array.",
                reason="NOT_HDF5",
                field=name,
            )
        with h5py_errors(label):
            handle = h5py.File(file, "r")
        try:
            yield handle
        finally:
            handle.close()


def has_child(group: h5py.Group, name: str) -> bool:
    """Tell whether a group has a link of that name, of whatever kind."""
    with h5py_errors(group.name or "/"):
        return bool(group.id.links.exists(name.encode()))


def child_names(group: h5py.Group) -> list[str]:
    """Return the names of a group's links, in the order in which a person would count them (scan_2 before scan_10)."""
    with h5py_errors(group.name or "/"):
        names = [str(name) for name in group]
    return sorted(names, key=lambda name: (len(name), name))


def is_group(group: h5py.Group, name: str) -> bool:
    """Tell whether a link is a hard link to a group; other links are not followed to find out."""
    place = _place(group, name)
    with h5py_errors(place):
        if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            return False
        return isinstance(group[name], h5py.Group)


def child_group(group: h5py.Group, name: str) -> h5py.Group:
    """Open a group inside a group, through a hard link only.

    Raises
    ------
    InvalidInputError
        If there is none of that name, if it is reached by a link that is not followed, or if it is not a group.
    """
    child = _child(group, name)
    if not isinstance(child, h5py.Group):
        raise _not_a(_place(group, name), "group")
    return child


def child_dataset(group: h5py.Group, name: str, limits: Limits) -> h5py.Dataset:
    """Open a dataset inside a group, through a hard link only, whose values lie in this file and fit the limits.

    Raises
    ------
    InvalidInputError
        If there is none of that name; if it is reached by a link that is not followed; if it is virtual, stored in other files
        or compressed by a filter that is not known; if it is not a dataset.
    LimitExceededError
        If it claims more than `max_scan_bytes`, or chunks of more than `max_frame_bytes`.
    """
    dataset = _child(group, name)
    place = _place(group, name)
    if not isinstance(dataset, h5py.Dataset):
        raise _not_a(place, "dataset")
    with h5py_errors(place):
        creation = dataset.id.get_create_plist()
        if creation.get_layout() == h5py.h5d.VIRTUAL:
            raise _refused(place, "a virtual dataset, which takes its values from elsewhere", "HDF5_VIRTUAL_DATASET")
        if creation.get_external_count() > 0:
            raise _refused(place, "stored in other files", "HDF5_EXTERNAL_STORAGE")
        for number in range(creation.get_nfilters()):
            code = creation.get_filter(number)[0]
            if code not in _FILTERS:
                raise _refused(place, f"compressed by filter {code}; gzip, lzf and shuffle are known", "HDF5_FILTER")
        claimed = math.prod(dataset.shape or (0,)) * dataset.dtype.itemsize
        chunk = math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize
    if claimed > limits.max_scan_bytes:
        raise LimitExceededError(
            f"{place} claims {claimed} bytes (shape {dataset.shape}); this service takes {limits.max_scan_bytes}.",
            reason="SCAN_TOO_LARGE",
            field=place,
        )
    if chunk > limits.max_frame_bytes:
        raise LimitExceededError(
            f"{place} is stored in chunks of {chunk} bytes; this service takes {limits.max_frame_bytes}: write smaller chunks.",
            reason="CHUNK_TOO_LARGE",
            field=place,
        )
    return dataset


def read_text(group: h5py.Group, name: str, limits: Limits) -> bytes:
    """Return the one text of a dataset, such as an XML header.

    Raises
    ------
    InvalidInputError
        As `child_dataset`; also if there is not exactly one entry, or it is not text.
    LimitExceededError
        If it is longer than `max_xml_bytes`.
    """
    place = _place(group, name)
    dataset = child_dataset(group, name, limits)
    if dataset.size != 1:
        raise InvalidInputError(
            f"{place} has {dataset.size} entries; it must hold one XML header.", reason="HEADER_COUNT", field=place
        )
    if dataset.dtype.kind not in "OS" or dataset.dtype.names is not None:
        raise InvalidInputError(
            f"{place} is not text: it must hold the XML header.", reason="HEADER_NOT_XML", field=place
        )
    if dataset.dtype.itemsize > limits.max_xml_bytes:
        raise LimitExceededError(
            f"{place} has {dataset.dtype.itemsize} bytes; this service takes {limits.max_xml_bytes}: shorten it.",
            reason="HEADER_TOO_LARGE",
            field=place,
        )
    with h5py_errors(place):
        value = dataset[()]
        if not isinstance(value, bytes | str):
            value = value.reshape(-1)[0]
    if isinstance(value, str):
        value = value.encode()
    if not isinstance(value, bytes):
        raise InvalidInputError(
            f"{place} is not text: it must hold the XML header.", reason="HEADER_NOT_XML", field=place
        )
    return value


def _child(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    place = _place(group, name)
    if not has_child(group, name):
        raise InvalidInputError(
            f"The file has no {place}: it is not the kind of file that it was taken for, or it is incomplete.",
            reason="HDF5_MISSING",
            field=place,
        )
    with h5py_errors(place):
        kind = group.id.links.get_info(name.encode()).type
        if kind != h5py.h5l.TYPE_HARD:
            names = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "an external link"}
            raise _refused(place, names.get(kind, "a user-defined link"), "HDF5_LINK")
        return group[name]


def _place(group: h5py.Group, name: str) -> str:
    return f"{group.name or ''}/{name}".strip("/")


def _refused(place: str, what: str, reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"{place} is {what}; this service reads only what the file itself holds: write a plain copy of the file.",
        reason=reason,
        field=place,
    )


def _not_a(place: str, kind: str) -> InvalidInputError:
    return InvalidInputError(
        f"{place} is not a {kind}: this is not a raw-data file.", reason="HDF5_MISSING", field=place
    )
