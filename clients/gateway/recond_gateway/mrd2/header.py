"""The header of MRD version 2 as the XML of version 1."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import types
import typing
from datetime import date, time
from enum import Enum
from typing import Any

import mrd
import numpy as np
from ismrmrd import xsd
from xsdata.models.datatype import XmlDate, XmlTime


def header_xml(header: mrd.Header) -> bytes:
    """Return the header as XML of version 1; both versions have the same fields, under names that differ in their spelling.

    Raises
    ------
    ValueError
        A value cannot be in version 1.
    """
    converted: xsd.ismrmrdHeader = _converted(header, xsd.ismrmrdHeader)
    xml: str = xsd.ToXML(converted, encoding="utf-8")
    return xml.encode()


def _converted(value: Any, kind: Any) -> Any:  # noqa: ANN401, PLR0911 - values of all types, one case for each
    """Return a value as the type that version 1 has for it."""
    if value is None:
        return None
    if typing.get_origin(kind) in {types.UnionType, typing.Union}:
        (kind,) = (choice for choice in typing.get_args(kind) if choice is not types.NoneType)
    if typing.get_origin(kind) is list:
        (item,) = typing.get_args(kind)
        return [_converted(each, item) for each in value]
    if dataclasses.is_dataclass(kind):
        return _record(value, typing.cast("type[Any]", kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(member for member in kind if _plain(member.value) == _plain(value.name))
    if kind is XmlDate:
        return XmlDate.from_date(typing.cast("date", value))
    if kind is XmlTime:
        return _time(value)
    if kind is bytes:
        return _decoded(value)
    if kind is str and isinstance(value, Enum):
        return value.name
    return kind(value)


def _record(value: Any, kind: type[Any]) -> Any:  # noqa: ANN401
    theirs = {_plain(name): name for name in vars(value)}
    hints = typing.get_type_hints(kind)
    fields = {
        field.name: _converted(getattr(value, theirs[plain]), hints[field.name])
        for field in dataclasses.fields(kind)
        if (plain := _plain(field.name)) in theirs
    }
    return kind(**fields)


def _plain(name: str) -> str:
    """Return a name without what differs between the versions: ``fieldOfView_mm`` and ``field_of_view_mm``."""
    return name.replace("_", "").lower()


def _time(value: Any) -> XmlTime:  # noqa: ANN401
    """Return a time of day, which is numpy's or a number of nanoseconds since midnight."""
    if isinstance(value, time):
        return XmlTime.from_time(value)
    nanoseconds = int(np.timedelta64(getattr(value, "numpy_value", value)).astype("timedelta64[ns]").astype(np.int64))
    seconds, fraction = divmod(nanoseconds, 10**9)
    return XmlTime(seconds // 3600, seconds // 60 % 60, seconds % 60, fraction)


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        return value.encode()
