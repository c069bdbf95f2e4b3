"""An MRD header with every element of the schema, and a marker in each that can hold one."""

from __future__ import annotations

import dataclasses
import enum
import re
import types
import typing
from collections.abc import Callable
from typing import Any

import ismrmrd.xsd
from ismrmrd.xsd.ismrmrdschema import ismrmrd as schema
from xsdata.models.datatype import XmlDate, XmlTime

UIDS = {"studyInstanceUID", "seriesInstanceUIDRoot", "frameOfReferenceUID", "referencedSOPInstanceUID"}
NUMBERS_THAT_GO = {"patientWeight_kg", "patientHeight_m", "accessionNumber"}


class Markers:
    """Makes markers, and knows where each was planted."""

    def __init__(self, prefix: str = "MARKER") -> None:
        self.planted: dict[str, str] = {}
        self._prefix = prefix

    def text(self, place: str) -> str:
        name = place.rpartition(".")[2]
        number = len(self.planted) + 1
        marker = f"1.2.840.999{number:04d}.77" if name in UIDS else f"{self._prefix}{number:04d}"
        self.planted[marker] = place
        return marker

    def number(self, place: str) -> int:
        number = 770_000_001 + len(self.planted)
        self.planted[str(number)] = place
        return number

    def found_in(self, *texts: bytes | str) -> dict[str, str]:
        """Markers that are in some texts, as UTF-8, UTF-16 or base64, and where they were planted."""
        found = {}
        for text in texts:
            raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
            raw = raw.lower()
            for marker, place in self.planted.items():
                plain = marker.lower()
                if plain.encode() in raw or plain.encode("utf-16-le") in raw:
                    found[marker] = place
        return found


def maximal_header(markers: Markers) -> schema.ismrmrdHeader:
    """Return a header with every element; lists have two entries."""
    return _filled(schema.ismrmrdHeader, "", markers)


def maximal_xml(markers: Markers) -> str:
    return ismrmrd.xsd.ToXML(maximal_header(markers))


def leaves() -> set[str]:
    """Places of all elements that hold a value."""
    markers = Markers()
    places: set[str] = set()
    _filled(schema.ismrmrdHeader, "", markers, places)
    return places


def _filled(kind: type, place: str, markers: Markers, places: set[str] | None = None) -> Any:
    hints = typing.get_type_hints(kind, {**vars(schema), "XmlDate": XmlDate, "XmlTime": XmlTime})
    values = {}
    for field in dataclasses.fields(kind):
        inside = f"{place}.{field.name}".strip(".")
        hint = hints[field.name]
        if typing.get_origin(hint) is list:
            inner = typing.get_args(hint)[0]
            values[field.name] = [_value(inner, inside, markers, places, field) for _ in range(2)]
        else:
            values[field.name] = _value(_inner(hint), inside, markers, places, field)
    return kind(**values)


def _inner(hint: Any) -> Any:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return next(each for each in typing.get_args(hint) if each is not type(None))
    return hint


def _value(kind: Any, place: str, markers: Markers, places: set[str] | None, field: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        return _filled(kind, place, markers, places)
    if places is not None:
        places.add(place)
    makers: dict[Any, Callable[[], Any]] = {
        str: lambda: markers.text(place),
        bytes: lambda: markers.text(place).encode(),
        XmlDate: lambda: XmlDate(1961 + len(markers.planted) % 20, 7, 23),
        XmlTime: lambda: XmlTime(17, 43, 21),
        int: lambda: markers.number(place) if goes else 2,
        float: lambda: float(markers.number(place)) if goes else 2.5,
    }
    goes = place.rpartition(".")[2] in NUMBERS_THAT_GO or re.search(r"userParameter\w+\.value$", place)
    if issubclass(kind, enum.Enum):
        return next(iter(kind))
    return "F" if field.metadata.get("pattern") else makers[kind]()
