"""What people see of heads: structures and their volumes, lesions, what a series shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from recond_client.analysis import Analysis
from recond_client.heads import HeadResult, heads_json


def analysis_object(analysis: Analysis, outputs: Sequence[Path]) -> dict[str, object]:
    """Return what ``recond analyze --json`` prints."""
    return {
        "heads": heads_json(analysis.head_results),
        "request_id": analysis.request_id,
        "shape": list(analysis.shape),
        "stacks": [asdict(stack) for stack in analysis.stacks],
        "seconds": asdict(analysis.seconds),
        "findings": [asdict(finding) for finding in analysis.findings],
        "outputs": [str(path) for path in outputs],
    }


def print_analysis(analysis: Analysis, outputs: Sequence[Path]) -> None:
    """Print what heads say of images."""
    console = Console()
    console.print(f"{' x '.join(map(str, analysis.shape))}, {analysis.seconds.total:.1f} s", highlight=False)
    print_heads(console, analysis.head_results)
    for finding in analysis.findings:
        style = "yellow" if finding.severity == "warning" else "dim"
        console.print(Text(f"{finding.severity}: {finding.message} [{finding.code}]", style=style))
    for path in outputs:
        console.print(Text(f"wrote {path}"), soft_wrap=True)


def print_heads(console: Console, results: Sequence[HeadResult]) -> None:
    """Print what heads say of volumes; of single slices only where there is nothing else."""
    whole = {result.head for result in results if result.stack}
    several = len({(result.stack, result.volume) for result in results if result.stack}) > 1
    shown_slices: set[str] = set()
    for result in results:
        if not result.stack and (result.head in whole or result.head in shown_slices):
            continue
        shown_slices |= set() if result.stack else {result.head}
        place = f" of {result.stack}, volume {result.volume}" if several and result.stack else ""
        title = f"{result.head} {result.version}{place}"
        if result.refusal:
            console.print(Text(f"{title}: {result.problem} [{result.refusal}]", style="yellow"))
        elif result.task == "classification":
            told = ", ".join(f"{group} {name}" for group, name in result.answers.items())
            console.print(Text(f"{title}: {told}"))
        elif result.task == "lesions":
            console.print(_lesions(result, title))
        else:
            console.print(_structures(result, title))


def _structures(result: HeadResult, title: str) -> Table:
    table = Table("structure", Column("ml", justify="right"), box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for name, label in result.labels.items():
        volume = result.measured("volume", label)
        deviation = next((each.deviation for each in result.measurements if each.label == label), None)
        spread = "" if deviation is None else f" ± {deviation:.1f}"
        table.add_row(name, "-" if volume is None else f"{volume:.1f}{spread}")
    total = result.measured("volume")
    if total is not None:
        table.add_row("together", f"{total:.1f}", style="bold")
    return table


def _lesions(result: HeadResult, title: str) -> Table | Text:
    if not result.instances:
        return Text(f"{title}: no lesion found")
    columns = ("ml", "mm", "mm in plane", "confidence")
    table = Table(
        "lesion",
        *(Column(name, justify="right") for name in columns),
        "in",
        box=box.SIMPLE_HEAD,
        title=title,
        title_justify="left",
    )
    for each in result.instances:
        measured = [result.measured(name, each.label) for name in ("volume", "diameter", "in_plane_diameter")]
        shown = ["-" if value is None else f"{value:.1f}" for value in measured[1:]]
        volume = "-" if measured[0] is None else f"{measured[0]:.2f}"
        table.add_row(str(each.label), volume, *shown, f"{each.confidence:.2f}", each.structure or "-")
    total = result.measured("volume")
    table.add_row(
        f"all {len(result.instances)}", "-" if total is None else f"{total:.2f}", "", "", "", "", style="bold"
    )
    return table
