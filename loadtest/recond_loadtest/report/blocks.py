"""What pages are made of. `templates/page.html` turns blocks into HTML, and escapes their text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import jinja2


@dataclass(frozen=True, slots=True)
class Title:
    """The title of a page, with a badge: valid (True) or void (False), or none."""

    kind: ClassVar = "title"
    text: str
    verdict: bool | None = None


@dataclass(frozen=True, slots=True)
class Heading:
    """The heading of a section."""

    kind: ClassVar = "heading"
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph."""

    kind: ClassVar = "paragraph"
    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """A paragraph of soft text."""

    kind: ClassVar = "note"
    text: str

    @classmethod
    def of(cls, *sentences: str) -> Note:
        """Return a note of those sentences that are not empty."""
        return cls(" ".join(filter(None, sentences)))


@dataclass(frozen=True, slots=True)
class Reasons:
    """A list of reasons; nothing if there are none."""

    kind: ClassVar = "reasons"
    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Card:
    """A figure."""

    name: str
    value: str
    bad: bool = False


@dataclass(frozen=True, slots=True)
class Cards:
    """Figures in a grid."""

    kind: ClassVar = "cards"
    cards: Sequence[Card]


@dataclass(frozen=True, slots=True)
class Plots:
    """Plots in a grid, as SVG."""

    kind: ClassVar = "plots"
    svgs: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first columns are text and the others numbers; an empty head is left out."""

    kind: ClassVar = "table"
    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    text_columns: int = 1


@dataclass(frozen=True, slots=True)
class Preformatted:
    """Text as it is."""

    kind: ClassVar = "preformatted"
    text: str


@dataclass(frozen=True, slots=True)
class Details:
    """What is shown on demand."""

    kind: ClassVar = "details"
    summary: str
    blocks: Sequence[Table | Preformatted]


Block = Title | Heading | Paragraph | Note | Reasons | Cards | Plots | Table | Preformatted | Details


def page(title: str, blocks: Iterable[Block]) -> str:
    """Return a whole page of HTML that needs nothing from elsewhere."""
    return _templates().get_template("page.html").render(title=title, blocks=list(blocks))


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("recond_loadtest.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
