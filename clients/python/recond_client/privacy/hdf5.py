"""HDF5 files as they come, read without following anything out of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from recond_client.errors import InputError
from recond_client.privacy.safe_xml import MOST_BYTES


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Turn what h5py raises on damaged files into an error that shows nothing of them.

    Raises
    ------
    InputError
        Instead.
    """
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError):
        msg = f"{place} cannot be read: the file is truncated or damaged, or it is no HDF5 file."
        raise InputError(msg, reason="HDF5_DAMAGED", field=place) from None


def member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """Return what is in a group under a name, None if there is nothing; links out of the group are not followed."""
    if not group.id.links.exists(name.encode()):
        return None
    if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        return None
    return group[name]


def members(group: h5py.Group) -> Iterator[tuple[str, h5py.Group | h5py.Dataset | None]]:
    """Give what is in a group, scan_2 before scan_10."""
    for name in sorted(map(str, group), key=lambda name: (len(name), name)):
        yield name, member(group, name)


def plain(dataset: h5py.Dataset, place: str) -> h5py.Dataset:
    """Return a dataset whose values lie in its file.

    Raises
    ------
    InputError
        If they do not.
    """
    creation = dataset.id.get_create_plist()
    if creation.get_layout() == h5py.h5d.VIRTUAL or creation.get_external_count() > 0:
        msg = f"{place} takes its values from other files: write a plain copy of the file first."
        raise InputError(msg, reason="HDF5_LINK", field=place)
    return dataset


def text_of(dataset: h5py.Dataset, place: str) -> bytes:
    """Return the one text of a dataset.

    Raises
    ------
    InputError
        If it is no text, or not one.
    """
    with reading(place):
        plain(dataset, place)
        fits = dataset.size == 1 and dataset.dtype.kind in "OS" and dataset.dtype.itemsize <= MOST_BYTES
        value: Any = dataset[()] if fits else None
        value = value.reshape(-1)[0] if isinstance(value, np.ndarray) else value
    value = value.encode() if isinstance(value, str) else value
    if not isinstance(value, bytes):
        msg = f"{place} is no text: it must hold one XML header."
        raise InputError(msg, reason="HEADER_NOT_XML", field=place)
    return bytes(value)


@contextmanager
def open_source(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading.

    Raises
    ------
    InputError
        If there is none, or it is not HDF5.
    """
    if not path.is_file():
        msg = f"There is no file {path}."
        raise InputError(msg, status="NOT_FOUND", reason="NO_FILE", field=str(path))
    if not h5py.is_hdf5(path):
        msg = f"{path} is not an HDF5 file: ISMRMRD and fastMRI .h5 files are taken; convert others to ISMRMRD first."
        raise InputError(msg, reason="NOT_HDF5", field=str(path))
    with reading(str(path)):
        file = h5py.File(path, "r")
    try:
        yield file
    finally:
        file.close()
