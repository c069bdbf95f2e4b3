"""What people see of a comparison of scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from recond_client.analysis import Comparison

_UNKNOWN = "-"


def comparison_object(comparison: Comparison, outputs: Sequence[Path]) -> dict[str, object]:
    """Return what ``recond compare --json`` prints: the report, and what goes with every answer."""
    return {
        **comparison.report,
        "request_id": comparison.request_id,
        "seconds": asdict(comparison.seconds),
        "findings": [asdict(finding) for finding in comparison.findings],
        "outputs": [str(path) for path in outputs],
    }


def print_comparison(comparison: Comparison, outputs: Sequence[Path]) -> None:
    """Print what changed from each scan to the next."""
    console = Console()
    visits = comparison.report["visits"]
    for visit in visits[1:] or visits:
        changed: Mapping[str, Any] = visit["comparison"]
        when = f", {visit['date']}" if visit["date"] else ""
        prior = changed["prior"]
        since = f" since {prior['name']}" if prior else ": there is no scan to compare it with"
        months = "" if changed["months"] is None else f" ({changed['months']:.1f} months)"
        console.print(Text(f"{visit['name']}{when}{since}{months}", style="bold"), soft_wrap=True)
        for head, lesions in changed["lesions"].items():
            console.print(_lesions(head, lesions))
        for head, structures in changed["structures"].items():
            console.print(_structures(head, structures))
    for finding in comparison.findings:
        style = "yellow" if finding.severity == "warning" else "dim"
        console.print(Text(f"{finding.severity}: {finding.message} [{finding.code}]", style=style))
    for path in outputs:
        console.print(Text(f"wrote {path}"), soft_wrap=True)


def _lesions(head: str, found: Mapping[str, Any]) -> Table:
    table = _table(head, "lesion", "mm")
    for each in found["lesions"] or ():
        volume, diameter = each["volume"], each["diameter"]
        place = f" in {each['location']}" if each["location"] else ""
        numbers = ", ".join(map(str, each["current"])) or ", ".join(f"{number} before" for number in each["prior"])
        table.add_row(f"{numbers}{place}", each["status"], *_change(volume, "ml"), _number(diameter.get("current_mm")))
    table.add_row("all", found["total"]["trend"] or "", *_change(found["total"], "ml"), "", style="bold")
    return table


def _structures(head: str, found: Mapping[str, Any]) -> Table:
    table = _table(head, "structure")
    for name, each in found.items():
        table.add_row(name, each["trend"] or "", *_change(each, "ml"))
    return table


def _table(head: str, what: str, *more: str) -> Table:
    numbers = ("before, ml", "now, ml", "change", "ml a month", *more)
    columns = [Column(title, justify="right", no_wrap=True) for title in numbers]
    return Table(what, "is", *columns, box=box.SIMPLE_HEAD, title=head, title_justify="left")


def _change(change: Mapping[str, Any], unit: str) -> tuple[str, str, str, str]:
    percent = change.get("change_percent")
    shown = _number(change.get(f"change_{unit}"), sign=True)
    if percent is not None:
        shown += f" ({percent:+.0f} %)"
    return (
        _number(change.get(f"prior_{unit}")),
        _number(change.get(f"current_{unit}")),
        shown,
        _number(change.get(f"{unit}_per_month"), sign=True),
    )


def _number(value: float | None, *, sign: bool = False) -> str:
    if value is None:
        return _UNKNOWN
    return f"{value:+.2f}" if sign else f"{value:.2f}"
