"""XML of strangers as a small tree: no document types, no entities, bounded depth and size."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from recond_client.errors import InputError

MOST_BYTES: Final = 16 << 20
_MOST_ELEMENTS: Final = 500_000
_DEEPEST: Final = 32
_DECLARATION: Final = re.compile(r"<\?xml\s[^>]*?\?>")
_WIDE: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_INSTANCE: Final = "http://www.w3.org/2001/XMLSchema-instance}"
_NOT_IN_XML: Final = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass(slots=True)
class Element:
    """An element without its namespace.

    Parameters
    ----------
    name
        Local name.
    children
        Elements inside, in order.
    pieces
        Text inside, as it came.
    attributes
        How many attributes there were, those of XML Schema itself aside.
    """

    name: str
    children: list[Element] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list, repr=False)
    attributes: int = 0

    @property
    def text(self) -> str:
        """Text inside, without white space around it."""
        return "".join(self.pieces).strip()

    @property
    def all_text(self) -> str:
        """Text inside and in what is inside."""
        return " ".join(filter(None, [self.text, *(child.all_text for child in self.children)]))

    def child(self, name: str) -> str:
        """Return the text of the first child of a name, empty if there is none."""
        return next((child.text for child in self.children if child.name == name), "")


@dataclass(slots=True)
class Document:
    """The root, and how many comments and processing instructions there were."""

    root: Element
    comments: int


def parse(xml: bytes, what: str) -> Document:
    """Parse XML.

    Parameters
    ----------
    xml
        UTF-8, or UTF-16 with a byte order mark, or else Windows-1252. White space before it, and everything from the first NUL
        on, is ignored.
    what
        What this is, for messages, such as "The MRD header".

    Raises
    ------
    InputError
        If it is not well-formed, declares a document type, or is too large. What is in it is never shown.
    """
    if len(xml) > MOST_BYTES:
        msg = f"{what} has {len(xml)} bytes; at most {MOST_BYTES} are taken: shorten it."
        raise InputError(msg, reason="HEADER_TOO_LARGE", field="xml")
    builder = _Builder(what)
    parser = expat.ParserCreate(encoding="utf-8", namespace_separator="}")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = builder.doctype
    parser.EntityDeclHandler = builder.doctype
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.characters
    parser.CommentHandler = builder.comment
    parser.ProcessingInstructionHandler = builder.comment
    try:
        parser.Parse(_text(xml, what).encode("utf-8", "replace"), True)
    except expat.ExpatError as error:
        msg = (
            f"{what} is not well-formed XML (line {error.lineno}, column {error.offset}: {expat.ErrorString(error.code)}): "
            "take it as the scanner wrote it."
        )
        raise InputError(msg, reason="HEADER_NOT_XML", field="xml") from None
    if builder.root is None:
        msg = f"{what} is empty."
        raise InputError(msg, reason="HEADER_NOT_XML", field="xml")
    return Document(builder.root, builder.comments)


def escaped(text: str) -> str:
    """Return text for XML; what XML cannot hold is left out."""
    return _NOT_IN_XML.sub("", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class _Builder:
    """Makes a tree of what expat finds."""

    def __init__(self, what: str) -> None:
        self.root: Element | None = None
        self.comments = 0
        self._what = what
        self._open: list[Element] = []
        self._count = 0

    def doctype(self, *_: object) -> None:
        msg = f"{self._what} declares a document type or entities, which are not expanded here: remove them."
        raise InputError(msg, reason="HEADER_ENTITIES", field="xml")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > _MOST_ELEMENTS or len(self._open) >= _DEEPEST:
            msg = f"{self._what} has more than {_MOST_ELEMENTS} elements, or more than {_DEEPEST} inside each other: shorten it."
            raise InputError(msg, reason="HEADER_TOO_LARGE", field="xml")
        known = sum(not attribute.startswith(_INSTANCE) for attribute in attributes)
        element = Element(name.rpartition("}")[2], attributes=known)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def end(self, _name: str) -> None:
        self._open.pop()

    def characters(self, text: str) -> None:
        if not text.isspace() or self._open[-1].pieces:
            self._open[-1].pieces.append(text)

    def comment(self, *_: object) -> None:
        self.comments += 1


def _text(xml: bytes, what: str) -> str:
    wide = xml.startswith(_WIDE)
    try:
        text = (xml + b"\0" * (len(xml) % 2)).decode("utf-16") if wide else xml.split(b"\0", 1)[0].decode("utf-8-sig")
    except UnicodeDecodeError:
        if wide:
            msg = f"{what} begins as UTF-16 and is none: write it as UTF-8."
            raise InputError(msg, reason="HEADER_NOT_XML", field="xml") from None
        text = xml.split(b"\0", 1)[0].decode("cp1252", "replace")
    text = text.split("\0", 1)[0].strip("\ufeff \t\r\n")
    return _DECLARATION.sub("", text, count=1) if text.startswith("<?xml") else text
