"""Attributes of MRD images: the XML that ismrmrd calls a MetaContainer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from xml.sax.saxutils import escape

Value = str | float | int
Attributes = Mapping[str, Value | Iterable[Value]]


def attributes_xml(attributes: Attributes) -> str:
    """Return attributes as XML, each with one value or several.

    Parameters
    ----------
    attributes
        Value or values by name; names without a value are left out.
    """
    pieces = ['<?xml version="1.0" encoding="UTF-8"?>\n<ismrmrdMeta>']
    for name, value in attributes.items():
        values = [value] if isinstance(value, str | int | float) else list(value)
        if not values:
            continue
        pieces.append(f"<meta><name>{escape(name)}</name>")
        pieces.extend(f"<value>{escape(_text(each))}</value>" for each in values)
        pieces.append("</meta>")
    pieces.append("</ismrmrdMeta>")
    return "".join(pieces)


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:.9g}"
    # Control characters are no XML, not even escaped.
    return "".join(each for each in str(value) if each.isprintable() or each in "\t\n")
