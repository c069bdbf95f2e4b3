"""A fastMRI file, copied without what tells who was scanned."""

from __future__ import annotations

from typing import Final

import h5py

from recond_client.privacy.hdf5 import member, members, plain, reading, text_of
from recond_client.privacy.header import treat_header
from recond_client.privacy.ismrmrd_files import copy_blocks
from recond_client.privacy.profile import REMOVED_UNKNOWN, Action, Area
from recond_client.privacy.record import Treatment

_ARRAYS: Final = ("kspace", "mask", "reconstruction_rss", "reconstruction_esc")
_HEADER: Final = "ismrmrd_header"


def copy_fastmri(file: h5py.File, new: h5py.File, treatment: Treatment, *, samples: bool) -> None:
    """Copy a fastMRI file.

    Parameters
    ----------
    file, new
        From where and to where.
    treatment
        What is done.
    samples
        Whether to copy k-space and images, too, and not only to see what there is.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    with reading("the file"):
        others = [
            name
            for name, held in members(file)
            if name not in (*_ARRAYS, _HEADER) or not isinstance(held, h5py.Dataset)
        ]
        attributes = {str(name): _text(file.attrs[name]) for name in file.attrs}
        header = member(file, _HEADER)
    if others:
        treatment.note(Area.FASTMRI, REMOVED_UNKNOWN, Action.REMOVE, count=len(others))
    for name, value in attributes.items():
        kept = _attribute(name, value, treatment)
        if kept is not None:
            new.attrs[name] = kept
    if isinstance(header, h5py.Dataset):
        xml = treat_header(text_of(header, _HEADER), treatment)
        new.create_dataset(_HEADER, (), h5py.string_dtype())[()] = xml
    for name in _ARRAYS if samples else ():
        with reading(name):
            held = member(file, name)
            dataset = plain(held, name) if isinstance(held, h5py.Dataset) else None
        if dataset is not None:
            copy_blocks(dataset, new, name, name)


def _attribute(name: str, value: str, treatment: Treatment) -> str | float | None:
    """Return what stays of an attribute."""
    rule = treatment.profile.rule(Area.FASTMRI, name) if name != REMOVED_UNKNOWN else None
    if rule is None:
        treatment.note(Area.FASTMRI, REMOVED_UNKNOWN, Action.REMOVE, f"{name}={value}")
        return None
    if rule.action is Action.DUMMY:
        treatment.note(Area.FASTMRI, rule.place, rule.action, value)
        return treatment.replaced(rule.action, value, "patient")
    kept = rule.keep(value)
    if kept != value:
        treatment.note(Area.FASTMRI, rule.place, Action.REMOVE if kept is None else Action.CLEAN, value)
    return float(kept) if kept is not None and rule.action is Action.KEEP else kept


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
