"""Raw ISMRMRD HDF5 files, read a block at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from recond_client.errors import InputError
from recond_gateway.mrd.layouts import ACQUISITION_HEADER, WAVEFORM_HEADER

_BLOCK_BYTES: Final = 4 << 20
_FIRST_ROWS: Final = 16
_MOST_ROWS: Final = 1024
_PARAMETERS: Final = "configAdditional"


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Consecutive acquisitions of a file.

    Parameters
    ----------
    headers
        (n,) of `ACQUISITION_HEADER`.
    samples
        complex64, those of one acquisition behind those of the other.
    trajectories
        float32, likewise.
    """

    headers: NDArray[np.void]
    samples: NDArray[np.complex64]
    trajectories: NDArray[np.float32]

    @property
    def sample_ends(self) -> NDArray[np.int64]:
        """(n + 1,) where the samples of each acquisition begin, and the end."""
        return _ends(self.headers, "active_channels")

    @property
    def trajectory_ends(self) -> NDArray[np.int64]:
        """(n + 1,) where the trajectory of each acquisition begins, and the end."""
        return _ends(self.headers, "trajectory_dimensions")


class RawFile:
    """An open file; a context manager.

    Parameters
    ----------
    path
        The file.
    group
        The group that holds ``data`` and ``xml``.

    Raises
    ------
    InputError
        It is not HDF5, or has no acquisitions or header there.
    """

    def __init__(self, path: Path, group: str = "dataset") -> None:
        self._path: Final = path
        try:
            self._file = h5py.File(path)
        except OSError as error:
            msg = f"{path} is not an HDF5 file that can be read: give a raw ISMRMRD .h5 file"
            raise InputError(msg, reason="NOT_HDF5", field=str(path)) from error
        try:
            self._data = self._table(group, "data", {"head", "data", "traj"})
            xml = self._string(f"{group}/xml")
            if xml is None:
                raise self._bad(f"has no {group}/xml")
            self.xml: Final = xml
            parameters = self._string(f"{group}/{_PARAMETERS}")
            self.parameters: Final = "" if parameters is None else parameters.decode(errors="replace")
            has_waveforms = isinstance(self._file.get(f"{group}/waveforms"), h5py.Dataset)
            self._waveforms = self._table(group, "waveforms", {"head", "data"}) if has_waveforms else None
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> RawFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def count(self) -> int:
        """Number of acquisitions."""
        return len(self._data)

    @property
    def waveform_count(self) -> int:
        """Number of waveforms."""
        return 0 if self._waveforms is None else len(self._waveforms)

    def stamps(self) -> NDArray[np.int64]:
        """Return the time stamps of all acquisitions (n,), in ticks."""
        return self._column(self._data, "acquisition_time_stamp")

    def waveform_stamps(self) -> NDArray[np.int64]:
        """Return the time stamps of all waveforms (n,), in ticks."""
        return np.zeros(0, np.int64) if self._waveforms is None else self._column(self._waveforms, "time_stamp")

    def blocks(self) -> Iterator[Block]:
        """Yield all acquisitions, some megabytes at a time.

        Raises
        ------
        InputError
            An acquisition has other samples than its header says.
        """
        first, count = 0, _FIRST_ROWS
        while first < self.count:
            rows = self._rows(self._data, first, first + count)
            headers = _packed(rows["head"], ACQUISITION_HEADER)
            samples = self._values(rows["data"], 2 * _products(headers, "active_channels"), "data", first, np.float32)
            trajectories = self._values(
                rows["traj"], _products(headers, "trajectory_dimensions"), "traj", first, np.float32
            )
            yield Block(headers, samples.view(np.complex64), trajectories)
            first += len(headers)
            each = (headers.nbytes + samples.nbytes + trajectories.nbytes) // len(headers)
            count = min(max(_BLOCK_BYTES // each, 1), _MOST_ROWS)

    def waveforms(self, first: int, last: int) -> tuple[NDArray[np.void], NDArray[np.uint32]]:
        """Return headers and samples of some waveforms.

        Raises
        ------
        InputError
            One has other samples than its header says.
        """
        if self._waveforms is None:
            return np.zeros(0, WAVEFORM_HEADER), np.zeros(0, np.uint32)
        table = self._rows(self._waveforms, first, last)
        headers = _packed(table["head"], WAVEFORM_HEADER)
        sizes = headers["number_of_samples"].astype(np.int64) * headers["channels"]
        return headers, self._values(table["data"], sizes, "waveforms", first, np.uint32)

    def _table(self, group: str, name: str, columns: set[str]) -> h5py.Dataset:
        table = self._file.get(f"{group}/{name}")
        if not isinstance(table, h5py.Dataset) or not columns <= set(table.dtype.names or ()) or table.ndim != 1:
            groups = ", ".join(key for key, value in self._file.items() if isinstance(value, h5py.Group))
            raise self._bad(f"has no table {group}/{name} of ISMRMRD (groups: {groups or 'none'})")
        if not len(table):
            raise self._bad(f"has an empty {group}/{name}")
        return table

    def _string(self, name: str) -> bytes | None:
        dataset = self._file.get(name)
        if not isinstance(dataset, h5py.Dataset):
            return None
        value = np.asarray(dataset[()]).reshape(-1)[:1].tolist()
        if not value or not isinstance(value[0], bytes | str):
            return None
        return value[0] if isinstance(value[0], bytes) else value[0].encode()

    def _column(self, table: h5py.Dataset, name: str) -> NDArray[np.int64]:
        return np.concatenate([head[name].astype(np.int64) for head in self._heads(table)])

    def _heads(self, table: h5py.Dataset) -> Iterator[NDArray[np.void]]:
        """Yield the headers alone, past the library where the table is stored in plain chunks.

        Asked for one column, HDF5 reads the samples too, and does not give back their memory.
        """
        stored = table.id.get_type()
        layout = table.dtype["head"]
        index = stored.get_member_index(b"head")
        plain = table.chunks is not None and table.id.get_create_plist().get_nfilters() == 0
        if plain and stored.get_member_type(index).get_size() == layout.itemsize:
            at, size = stored.get_member_offset(index), stored.get_size()
            rows = np.dtype({"names": ["head"], "formats": [layout], "offsets": [at], "itemsize": size})
            for start in range(0, len(table), table.chunks[0]):
                try:
                    _, chunk = table.id.read_direct_chunk((start,))
                except (OSError, RuntimeError, ValueError) as error:
                    raise self._damaged(start, error) from error
                yield np.frombuffer(chunk, rows)["head"][: len(table) - start]
            return
        for start in range(0, len(table), _FIRST_ROWS):
            yield self._rows(table, start, start + _FIRST_ROWS)["head"]

    def _rows(self, table: h5py.Dataset, first: int, last: int) -> NDArray[np.void]:
        try:
            rows: NDArray[np.void] = table[first:last]
        except OSError as error:
            raise self._damaged(first, error) from error
        return rows

    def _values(
        self, column: NDArray[np.object_], sizes: NDArray[np.int64], name: str, first: int, dtype: type[np.generic]
    ) -> NDArray[Any]:
        lengths = np.fromiter(map(len, column), np.int64, len(column))
        wrong = np.flatnonzero(lengths != sizes)
        if wrong.size:
            at = int(wrong[0])
            raise self._bad(f"has {lengths[at]} values in {name} {first + at}, and its header says {sizes[at]}")
        return np.concatenate(column).astype(dtype, copy=False) if len(column) else np.zeros(0, dtype)

    def _damaged(self, first: int, error: Exception) -> InputError:
        msg = f"{self._path} cannot be read at acquisition {first}: {error}"
        return InputError(msg, reason="DAMAGED_FILE", field=str(self._path))

    def _bad(self, what: str) -> InputError:
        return InputError(f"{self._path} {what}", reason="NOT_ISMRMRD", field=str(self._path))


def _products(headers: NDArray[np.void], name: str) -> NDArray[np.int64]:
    products: NDArray[np.int64] = headers["number_of_samples"].astype(np.int64) * headers[name]
    return products


def _ends(headers: NDArray[np.void], name: str) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(_products(headers, name))])


def _packed(table: NDArray[np.void], layout: np.dtype[np.void]) -> NDArray[np.void]:
    """Return headers as they go over the wire, however the file lays its fields out."""
    packed = np.zeros(len(table), layout)
    _copy_fields(table, packed)
    return packed


def _copy_fields(source: NDArray[np.void], target: NDArray[np.void]) -> None:
    for name in target.dtype.names or ():
        with contextlib.suppress(ValueError):  # fields that the file does not have stay 0
            if target.dtype[name].names:
                _copy_fields(source[name], target[name])
            else:
                target[name] = source[name]
