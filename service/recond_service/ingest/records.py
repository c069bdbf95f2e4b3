"""Acquisitions straight from the bytes of an HDF5 file, past the library, which makes an object of every readout.

The table of acquisitions is stored in chunks of records; the samples of a readout lie elsewhere in the file, in a global heap
collection, and the record refers to them by its address and their number in it (HDF5 file format specification, version 3.0,
III.E and IV.A.2.d). The library tells where the chunks are; the rest is plain reading into the place where the samples are wanted.
Whatever is stored in another way is left to the library.
"""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass

import h5py
import numpy as np
from numpy.typing import NDArray

from recond_service.types import ACQUISITION_HEADER, InvalidInputError

_REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("number", "<u4")])
_COLLECTION = np.dtype([("signature", "S4"), ("version", "u1"), ("reserved", "u1", (3,)), ("size", "<u8")])
_OBJECT = np.dtype([("number", "<u2"), ("references", "<u2"), ("reserved", "<u4"), ("size", "<u8")])
_BOTH = _COLLECTION.itemsize + _OBJECT.itemsize


@dataclass(frozen=True, slots=True)
class RecordTable:
    """Where the records of a table of acquisitions are, and how they are laid out.

    Parameters
    ----------
    addresses
        int64 (count,): where each record begins; -1 where it was never written.
    size
        Bytes of a record.
    head
        Type of the acquisition header as it is stored.
    head_at, data_at
        Where in a record the header and the reference to the samples are.
    place
        How messages name the table.
    """

    addresses: NDArray[np.int64]
    size: int
    head: np.dtype[np.void]
    head_at: int
    data_at: int
    place: str

    @classmethod
    def of(cls, dataset: h5py.Dataset, place: str) -> RecordTable | None:
        """Return the layout of a table whose types were checked, or None if it is not stored in plain chunks.

        Parameters
        ----------
        dataset
            Compound of `head`, `traj` and `data`, one axis.
        place
            How messages name it.
        """
        creation, stored = dataset.id.get_create_plist(), dataset.id.get_type()
        file = dataset.file
        plain = (
            dataset.chunks is not None
            and creation.get_nfilters() == 0
            and file.userblock_size == 0
            and file.id.get_create_plist().get_sizes() == (8, 8)
            and hasattr(dataset.id, "chunk_iter")
        )
        if not plain:
            return None
        head, data = (stored.get_member_index(name) for name in (b"head", b"data"))
        layout = dataset.dtype.fields["head"][0]
        if stored.get_member_type(head).get_size() != layout.itemsize:
            return None
        size, length = stored.get_size(), dataset.chunks[0]
        found = array("q")
        dataset.id.chunk_iter(lambda chunk: found.extend((chunk.chunk_offset[0], chunk.byte_offset)))
        chunks = np.array(found, np.int64).reshape(-1, 2)
        addresses = np.full(-(-len(dataset) // length) * length, -1, np.int64)
        inside = (chunks[:, 0] >= 0) & (chunks[:, 0] < len(addresses)) & (chunks[:, 0] % length == 0)
        first, start = chunks[inside].T
        steps = np.arange(length)
        addresses[first[:, None] + steps] = start[:, None] + steps * size
        return cls(
            addresses[: len(dataset)],
            size,
            layout,
            stored.get_member_offset(head),
            stored.get_member_offset(data),
            place,
        )


class RecordReader:
    """Reads headers and samples of acquisitions.

    Parameters
    ----------
    descriptor
        Of the file, open for reading.
    table
        Where the records are.
    """

    def __init__(self, descriptor: int, table: RecordTable) -> None:
        self._descriptor = descriptor
        self._table = table
        self._size = os.fstat(descriptor).st_size

    def heads(self, start: int, stop: int) -> tuple[NDArray[np.void], NDArray[np.void]]:
        """Return the headers of records ``[start, stop)``, and the references to their samples (length, address, number).

        Raises
        ------
        InvalidInputError
            If a record lies outside the file.
        """
        table = self._table
        addresses = table.addresses[start:stop]
        raw = np.zeros((len(addresses), table.size), np.uint8)
        # Records that lie one after another are read at once.
        cuts = np.flatnonzero(np.diff(addresses) != table.size) + 1
        for first, last in zip([0, *cuts.tolist()], [*cuts.tolist(), len(addresses)], strict=True):
            if addresses[first] >= 0:
                self._read([raw[first:last].data], int(addresses[first]), start + first)
        headers = np.empty(len(raw), ACQUISITION_HEADER)
        end = table.head_at + table.head.itemsize
        headers[...] = np.ascontiguousarray(raw[:, table.head_at : end]).view(table.head)[:, 0]
        end = table.data_at + _REFERENCE.itemsize
        references: NDArray[np.void] = np.ascontiguousarray(raw[:, table.data_at : end]).view(_REFERENCE)[:, 0]
        return headers, references

    def samples(self, references: NDArray[np.void], first: int) -> NDArray[np.complex64]:
        """Return the samples that some records refer to, one after another.

        Parameters
        ----------
        references
            From `heads`, their lengths checked against the headers.
        first
            Number of the first of those records, for messages.

        Raises
        ------
        InvalidInputError
            If the file does not hold them.
        """
        lengths = references["length"].astype(np.int64) * 4
        if int(lengths.max(initial=0)) > self._size:
            raise self._damaged(first + int(np.argmax(lengths)))
        samples = np.empty(int(lengths.sum()), np.uint8)
        ends = np.cumsum(lengths)
        start = np.empty(_BOTH, np.uint8)
        collection, entry = start[: _COLLECTION.itemsize].view(_COLLECTION), start[_COLLECTION.itemsize :].view(_OBJECT)
        shared: tuple[int, dict[int, memoryview]] = (-1, {})
        wanted = zip(
            references["address"].tolist(), references["number"].tolist(), lengths.tolist(), ends.tolist(), strict=True
        )
        for place, (address, number, length, end) in enumerate(wanted, start=first):
            if length == 0:
                continue
            target = samples[end - length : end]
            if address != shared[0]:
                # Most collections hold one readout: it is read to where it is wanted, with the headers before it.
                self._read([start.data, target.data], address, place)
                if collection["signature"][0] != b"GCOL" or collection["version"][0] != 1:
                    raise self._damaged(place)
                if entry["number"][0] == number:
                    if entry["size"][0] < length:
                        raise self._damaged(place)
                    continue
                shared = address, self._objects(address, int(collection["size"][0]), place)
            found = shared[1].get(number)
            if found is None or len(found) < length:
                raise self._damaged(place)
            target[:] = np.frombuffer(found, np.uint8, length)
        return samples.view(np.complex64)

    def _objects(self, address: int, size: int, place: int) -> dict[int, memoryview]:
        """Return the objects of a collection by their numbers."""
        if not _BOTH <= size <= self._size:
            raise self._damaged(place)
        whole = np.empty(size, np.uint8)
        self._read([whole.data], address, place)
        found: dict[int, memoryview] = {}
        position = _COLLECTION.itemsize
        while position + _OBJECT.itemsize <= size:
            entry = whole[position : position + _OBJECT.itemsize].view(_OBJECT)
            number, length = int(entry["number"][0]), int(entry["size"][0])
            position += _OBJECT.itemsize
            if number == 0:  # the free space at the end
                break
            if length > size - position:
                raise self._damaged(place)
            found[number] = whole[position : position + length].data
            position += -(-length // 8) * 8
        return found

    def _read(self, targets: list[memoryview], address: int, place: int) -> None:
        wanted = sum(target.nbytes for target in targets)
        if address < 0 or address + wanted > self._size:
            raise self._damaged(place)
        got = os.preadv(self._descriptor, targets, address)
        while got < wanted:
            rest, done = [], got
            for target in targets:
                flat = target.cast("B")
                rest.append(flat[min(done, len(flat)) :])
                done = max(0, done - len(flat))
            more = os.preadv(self._descriptor, rest, address + got)
            if more == 0:
                raise self._damaged(place)
            got += more

    def _damaged(self, number: int) -> InvalidInputError:
        place = f"{self._table.place}[{number}]"
        return InvalidInputError(
            f"{place} cannot be read: its samples are not where the file says. The file is truncated or damaged: write it again.",
            reason="HDF5_DAMAGED",
            field=place,
        )
