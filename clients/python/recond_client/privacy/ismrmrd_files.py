"""The measurements of an ISMRMRD file, copied without what tells who was scanned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from recond_client.errors import InputError
from recond_client.privacy.acquisitions import HeaderState, deidentify_headers, deidentify_image_headers
from recond_client.privacy.hdf5 import member, members, plain, reading, text_of
from recond_client.privacy.header import treat_header
from recond_client.privacy.meta import deidentify_meta
from recond_client.privacy.profile import REMOVED_UNKNOWN, Action, Area
from recond_client.privacy.record import Treatment

_BLOCK_BYTES: Final = 8 << 20
_HEADS_AT_ONCE: Final = 1024
_FLOATS: Final = h5py.vlen_dtype(np.dtype("<f4"))
_TEXT: Final = h5py.string_dtype()
_NAMED: Final = ("waveforms", "configAdditional")


def measurements(file: h5py.File) -> list[str]:
    """Return the names of the groups that hold raw data, in their order."""
    return [
        name
        for name, group in members(file)
        if isinstance(group, h5py.Group)
        and isinstance(member(group, "xml"), h5py.Dataset)
        and isinstance(member(group, "data"), h5py.Dataset)
    ]


def copy_measurements(
    file: h5py.File, new: h5py.File, names: list[str], treatment: Treatment, *, samples: bool
) -> None:
    """Copy the measurements of a file.

    Parameters
    ----------
    file, new
        From where and to where.
    names
        Of the measurements.
    treatment
        What is done.
    samples
        Whether to copy readouts and pixels, too, and not only to see what there is.

    Raises
    ------
    InputError
        If the file is damaged or not ISMRMRD.
    """
    _note_others(file, set(names), treatment)
    if file.userblock_size:
        treatment.note(Area.FILE, REMOVED_UNKNOWN, Action.REMOVE)
    for number, name in enumerate(names, 1):
        new_name = "dataset" if len(names) == 1 else f"dataset_{number}"
        if new_name != name:
            treatment.note(Area.FILE, "(names of groups)", Action.CLEAN, name)
        with reading(new_name):
            group = file[name]
        _Measurement(group, new.create_group(new_name), new_name, treatment, samples=samples).copy()


def _note_others(group: h5py.Group, known: set[str], treatment: Treatment) -> None:
    """Note what of a group is not copied."""
    for name, _ in members(group):
        if name not in known:
            treatment.note(Area.FILE, name if name in _NAMED else REMOVED_UNKNOWN, Action.REMOVE)
    if len(group.attrs):
        treatment.note(Area.FILE, REMOVED_UNKNOWN, Action.REMOVE, count=len(group.attrs))


class _Measurement:
    """Copies one measurement; its readouts and images count their time from the same moment."""

    def __init__(self, group: h5py.Group, new: h5py.Group, place: str, treatment: Treatment, *, samples: bool) -> None:
        self._group = group
        self._new = new
        self._place = place
        self._treatment = treatment
        self._samples = samples
        self._state = HeaderState(treatment)

    def copy(self) -> None:
        xml = treat_header(text_of(self._group["xml"], f"{self._place}/xml"), self._treatment)
        self._new.create_dataset("xml", (1,), _TEXT)[0] = xml
        self._copy_readouts()
        with reading(self._place):
            images = [
                name
                for name, group in members(self._group)
                if isinstance(group, h5py.Group)
                and all(isinstance(member(group, part), h5py.Dataset) for part in ("header", "data"))
            ]
            _note_others(self._group, {"xml", "data", *images}, self._treatment)
        for number, name in enumerate(images):
            new_name = f"image_{number}"
            if name != new_name:
                self._treatment.note(Area.FILE, "(names of groups)", Action.CLEAN, name)
            self._copy_images(self._group[name], self._new.create_group(new_name), f"{self._place}/{new_name}")

    def _copy_readouts(self) -> None:
        place = f"{self._place}/data"
        with reading(place):
            data = plain(self._group["data"], place)
            head = _checked(data, place)
            count = len(data)
        new_head = np.dtype([(name, head[name]) for name in head.names or ()])
        record = np.dtype([("head", new_head), ("traj", _FLOATS), ("data", _FLOATS)])
        new = (
            self._new.create_dataset("data", (count,), record, chunks=(max(1, min(count, 256)),))
            if self._samples
            else None
        )
        start = 0
        while start < count:
            with reading(place):
                heads = data.fields("head")[start : start + _HEADS_AT_ONCE]
                step = len(heads) if new is None else _fitting(heads)
                rows = None if new is None else data[start : start + step]
            treated = deidentify_headers(_packed(heads[:step], new_head), self._state)
            if new is not None and rows is not None:
                table = np.empty(step, record)
                table["head"], table["traj"], table["data"] = treated, rows["traj"], rows["data"]
                new[start : start + step] = table
            start += step

    def _copy_images(self, group: h5py.Group, new: h5py.Group, place: str) -> None:
        with reading(place):
            headers = plain(group["header"], place)[()]
            data = plain(group["data"], place)
            attributes = member(group, "attributes")
            texts = _texts(attributes, place) if isinstance(attributes, h5py.Dataset) else None
            _note_others(group, {"header", "data", "attributes"}, self._treatment)
        treated = deidentify_image_headers(headers.reshape(-1), self._state)
        metas = None if texts is None else [deidentify_meta(text, self._treatment) for text in texts]
        if metas is not None and "attribute_string_len" in (treated.dtype.names or ()) and len(metas) == len(treated):
            treated["attribute_string_len"] = [len(meta) for meta in metas]
        new.create_dataset("header", data=treated)
        if metas is not None:
            new.create_dataset("attributes", data=metas, dtype=_TEXT)
        if self._samples:
            copy_blocks(data, new, "data", place)


def copy_blocks(data: h5py.Dataset, group: h5py.Group, name: str, place: str) -> None:
    """Copy an array of numbers along its first axis, a few MB at a time; its attributes stay behind.

    Raises
    ------
    InputError
        If it holds something else than numbers.
    """
    if _holds_objects(data.dtype):
        msg = f"{place} does not hold numbers: this is not a raw-data file."
        raise InputError(msg, reason="HDF5_TYPE", field=place)
    if not data.shape:
        group.create_dataset(name, data=data[()])
        return
    new = group.create_dataset(name, data.shape, data.dtype)
    step = max(1, _BLOCK_BYTES // max(1, data.dtype.itemsize * int(np.prod(data.shape[1:], dtype=np.int64))))
    for start in range(0, data.shape[0], step):
        with reading(place):
            block = data[start : start + step]
        new[start : start + step] = block


def _holds_objects(dtype: np.dtype[Any]) -> bool:
    if dtype.names is not None:
        return any(_holds_objects(dtype[name]) for name in dtype.names)
    return dtype.base.kind not in "biufc"


def _checked(data: h5py.Dataset, place: str) -> np.dtype[Any]:
    """Return the type of the headers of readouts."""
    stored: np.dtype[Any] = data.dtype
    fields: Mapping[str, Any] = stored.fields or {}
    if (
        data.ndim != 1
        or not {"head", "traj", "data"} <= set(fields)
        or any(h5py.check_vlen_dtype(fields[name][0]) != np.dtype("<f4") for name in ("traj", "data"))
        or _holds_objects(fields["head"][0])
        or "idx" not in (fields["head"][0].names or ())
    ):
        msg = (
            f"{place} is not a list of ISMRMRD acquisitions (head, traj, data): write the file with an ISMRMRD library."
        )
        raise InputError(msg, reason="ACQUISITION_LAYOUT", field=place)
    head: np.dtype[Any] = fields["head"][0]
    return head


def _packed(heads: NDArray[np.void], dtype: np.dtype[Any]) -> NDArray[np.void]:
    """Return headers without the bytes between their fields, which might hold anything."""
    packed = np.zeros(len(heads), dtype)
    packed[...] = heads
    return packed


def _fitting(heads: NDArray[np.void]) -> int:
    """Return how many readouts to take at once."""
    sizes = 8 * np.cumsum(heads["number_of_samples"].astype(np.int64) * heads["active_channels"])
    return max(1, int(np.searchsorted(sizes, _BLOCK_BYTES, side="right")))


def _texts(dataset: h5py.Dataset, place: str) -> list[bytes]:
    values = plain(dataset, place)[()].reshape(-1)
    return [value if isinstance(value, bytes) else str(value).encode() for value in values]
