"""Pieces of HTML: the frame of a page, cards, tables. Text is escaped here and nowhere else."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Final

_CSS: Final = """
:root { --ink: #1f2933; --soft: #52606d; --line: #e1e6ec; --good: #00795a; --bad: #b03a2e; --card: #ffffff; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f7f9; color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 26px; margin: 0 0 2px; }
h2 { font-size: 18px; margin: 34px 0 10px; }
p { margin: 4px 0; }
.soft { color: var(--soft); }
.verdict { display: inline-block; padding: 1px 10px; border-radius: 12px; font-size: 13px; font-weight: 600; color: #fff;
  vertical-align: 4px; margin-left: 8px; }
.verdict.good { background: var(--good); } .verdict.bad { background: var(--bad); }
.reasons { color: var(--bad); margin: 6px 0; padding-left: 20px; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(158px, 1fr)); gap: 10px; margin: 18px 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }
.card .value { font-size: 21px; font-weight: 650; white-space: nowrap; }
.card .name { font-size: 12.5px; color: var(--soft); }
.card.bad .value { color: var(--bad); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(520px, 100%), 1fr)); gap: 14px; }
.plot { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px; }
.plot svg { width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 9px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; color: var(--soft); }
tr:last-child td { border-bottom: 0; }
th.text, td.text { text-align: left; } td.text { white-space: normal; }
td.text + td.text + td.text { min-width: 240px; }
details { margin-top: 12px; } summary { cursor: pointer; color: var(--soft); }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px;
  overflow-x: auto; font-size: 12.5px; }
@media print { body { background: #fff; } .plot, .card { break-inside: avoid; } }
"""


def page(title: str, body: Iterable[str]) -> str:
    """Return a whole page that needs nothing from elsewhere."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_CSS}</style></head>\n<body><main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def text(value: object) -> str:
    """Return text for HTML."""
    return html.escape(str(value))


def note(*sentences: str) -> str:
    """Return a paragraph of soft text."""
    return f'<p class="soft">{text(" ".join(filter(None, sentences)))}</p>'


def verdict(reasons: Sequence[str]) -> str:
    """Return a badge: valid, or void."""
    return f'<span class="verdict {"bad" if reasons else "good"}">{"void" if reasons else "valid"}</span>'


def bullets(reasons: Sequence[str]) -> str:
    """Return a list of reasons; empty if there are none."""
    if not reasons:
        return ""
    return '<ul class="reasons">' + "".join(f"<li>{text(reason)}</li>" for reason in reasons) + "</ul>"


def cards(values: Iterable[tuple[str, str, bool]]) -> str:
    """Return cards of (name, value, whether it is bad)."""
    return (
        '<div class="cards">'
        + "".join(
            f'<div class="card{" bad" if bad else ""}"><div class="value">{text(value)}</div>'
            f'<div class="name">{text(name)}</div></div>'
            for name, value, bad in values
        )
        + "</div>"
    )


def plots(svgs: Iterable[str]) -> str:
    """Return plots in a grid."""
    return '<div class="plots">' + "".join(f'<div class="plot">{svg}</div>' for svg in svgs) + "</div>"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], text_columns: int = 1) -> str:
    """Return a table whose first columns are text and the others numbers."""

    def row(cells: Sequence[object], tag: str) -> str:
        return (
            "<tr>"
            + "".join(
                f"<{tag}{' class=text' if number < text_columns else ''}>{text(cell)}</{tag}>"
                for number, cell in enumerate(cells)
            )
            + "</tr>"
        )

    lines = [row(head, "th") if any(head) else "", *(row(cells, "td") for cells in rows)]
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def details(summary: str, content: str) -> str:
    """Return something that is shown on demand."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"
