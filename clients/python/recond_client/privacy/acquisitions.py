"""De-identification of the headers of readouts and images, many at once."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from recond_client.errors import InputError
from recond_client.privacy.profile import Action, Area
from recond_client.privacy.record import Treatment

ACQUISITION_BYTES: Final = 340
IMAGE_BYTES: Final = 198
_TICKS_PER_DAY: Final = 34_560_000  # of 2.5 ms, as most scanners count
_LARGEST: Final = 0xFFFFFFFF

#: The parts of the packed headers that change (see the ISMRMRD format).
_ACQUISITION: Final = np.dtype(
    {
        "names": [
            "measurement_uid",
            "acquisition_time_stamp",
            "physiology_time_stamp",
            "idx",
            "user_int",
            "user_float",
        ],
        "formats": [
            "<u4",
            "<u4",
            ("<u4", (3,)),
            np.dtype({"names": ["user"], "formats": [("<u2", (8,))], "offsets": [18], "itemsize": 34}),
            ("<i4", (8,)),
            ("<f4", (8,)),
        ],
        "offsets": [10, 18, 22, 242, 276, 308],
        "itemsize": ACQUISITION_BYTES,
    }
)
_IMAGE: Final = np.dtype(
    {
        "names": ["measurement_uid", "acquisition_time_stamp", "physiology_time_stamp", "user_int", "user_float"],
        "formats": ["<u4", "<u4", ("<u4", (3,)), ("<i4", (8,)), ("<f4", (8,))],
        "offsets": [12, 108, 112, 130, 162],
        "itemsize": IMAGE_BYTES,
    }
)
Headers = TypeVar("Headers", bound=np.generic)


class HeaderState:
    """What has to be the same over all readouts and images of a scan.

    Parameters
    ----------
    treatment
        Of the scan.
    """

    def __init__(self, treatment: Treatment) -> None:
        self.treatment = treatment
        self._first: int | None = None
        self._numbers: dict[int, int] = {}

    def since_first(self, stamps: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Return time stamps since the first one of the scan, which is that of the first readout that has one.

        Where midnight passed, the count goes on. What lies before the first otherwise becomes 0.
        """
        if self._first is None:
            known = stamps[stamps != 0]
            if not known.size:
                return stamps
            self._first = int(known[0])
            self.treatment.note_value(Area.ACQUISITION, "acquisition_time_stamp", str(self._first))
        since = stamps.astype(np.int64) - self._first
        since[since < -(_TICKS_PER_DAY // 2)] += _TICKS_PER_DAY
        return np.where(stamps == 0, 0, np.clip(since, 0, _LARGEST)).astype(np.uint32)

    def original_stamps(self, stamps: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Undo `since_first`, for a time stamp that is not 0; the first readout of a scan cannot be told from none."""
        first = self._first or 0
        return np.where(stamps == 0, 0, (stamps.astype(np.int64) + first) & _LARGEST).astype(np.uint32)

    def original_numbers(self, numbers: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Undo `replaced`; numbers that it never returned stay."""
        known = {new: old for old, new in self._numbers.items()}
        return np.array([known.get(int(number), int(number)) for number in numbers.flat], np.uint32).reshape(
            numbers.shape
        )

    def replaced(self, numbers: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Return other numbers, the same for the same; 0 stays 0."""
        distinct, place = np.unique(numbers, return_inverse=True)
        for number in map(int, distinct):
            if number not in self._numbers:
                self._numbers[number] = self.treatment.replaced_number(number) if number else 0
        return np.array([self._numbers[int(number)] for number in distinct], np.uint32)[place].reshape(numbers.shape)


def deidentify_headers(headers: NDArray[Headers], state: HeaderState) -> NDArray[Headers]:
    """De-identify headers of readouts.

    Parameters
    ----------
    headers
        uint8 (count, 340), or (count,) of the packed header as one item, or of its fields by their names.
    state
        Of the scan.

    Returns
    -------
    array
        A copy of the same type and shape.

    Raises
    ------
    InputError
        If the items are no such headers.
    """
    return _deidentified(headers, state, Area.ACQUISITION, _ACQUISITION)


def deidentify_image_headers(headers: NDArray[Headers], state: HeaderState) -> NDArray[Headers]:
    """De-identify headers of images: as `deidentify_headers`, with 198 bytes each."""
    return _deidentified(headers, state, Area.IMAGE, _IMAGE)


def restore_image_headers(headers: NDArray[Headers], state: HeaderState) -> NDArray[Headers]:
    """Put measurement and time stamps back into headers of images that return: a copy, as `deidentify_image_headers`.

    Raises
    ------
    InputError
        If the items are no such headers.
    """
    copied = np.array(headers, copy=True, order="C")
    fields = _fields(copied, _IMAGE)
    fields["measurement_uid"] = state.original_numbers(fields["measurement_uid"].copy())
    fields["acquisition_time_stamp"] = state.original_stamps(fields["acquisition_time_stamp"].copy())
    return copied


def _deidentified(headers: NDArray[Headers], state: HeaderState, area: Area, packed: np.dtype[Any]) -> NDArray[Headers]:
    copied = np.array(headers, copy=True, order="C")
    fields = _fields(copied, packed)
    if not fields.size:
        return copied
    for name, action, change in (
        ("measurement_uid", Action.DUMMY, state.replaced),
        ("acquisition_time_stamp", Action.CLEAN, state.since_first),
    ):
        old = fields[name].copy()
        fields[name] = change(old)
        _note(state, area, name, action, int((fields[name] != old).sum()))
    for name in ("physiology_time_stamp", "user_int", "user_float"):
        _note(state, area, name, Action.ZERO, _zeroed(fields, name))
    if area is Area.ACQUISITION:
        _note(state, area, "idx.user", Action.ZERO, _zeroed(fields["idx"], "user"))
    return copied


def _zeroed(fields: NDArray[np.void], name: str) -> int:
    """Set a field to zero; return in how many headers it was not, negative zeros and NaN included."""
    raw = np.ascontiguousarray(fields[name]).view(np.uint8).reshape(len(fields), -1)
    count = int(raw.any(axis=1).sum())
    fields[name] = 0
    return count


def _note(state: HeaderState, area: Area, name: str, action: Action, count: int) -> None:
    if count:
        state.treatment.note(area, name, action, count=count)


def _fields(headers: NDArray[Any], packed: np.dtype[Any]) -> NDArray[np.void]:
    """Return a view of the fields that change."""
    if headers.dtype.names is not None:
        names = headers.dtype.names
        if headers.ndim == 1 and set(packed.names or ()) <= set(names):
            return headers
    elif headers.dtype == np.uint8 and headers.ndim == 2 and headers.shape[1] == packed.itemsize:
        return headers.view(packed)[:, 0]
    elif headers.dtype.kind == "V" and headers.ndim == 1 and headers.dtype.itemsize == packed.itemsize:
        return headers.view(packed)
    msg = f"headers are {headers.dtype} {headers.shape}; give (count,) of {packed.itemsize} bytes each"
    raise InputError(msg, reason="BAD_ACQUISITIONS", field="headers")
