"""What people see: progress, tables of figures, stage times, findings and models."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column, Table
from rich.text import Text

from recond_client.commands.display_heads import print_heads
from recond_client.heads import heads_json
from recond_client.model import HeadContract, Model, ModelHistory, ModelVersion
from recond_client.progress import ProgressCallback
from recond_client.result import Evidence, Progress, Result

_FIGURES = {
    "ssim": ("SSIM", "{:.4f}"),
    "psnr": ("PSNR", "{:.2f} dB"),
    "nmse": ("NMSE", "{:.5f}"),
    "ssim_object": ("SSIM in the object", "{:.4f}"),
    "psnr_object": ("PSNR in the object", "{:.2f} dB"),
    "nmse_object": ("NMSE in the object", "{:.5f}"),
    "data_consistency_residual": ("data-consistency residual", "{:.4f}"),
    "noise_level": ("noise level", "{:.5f} of maximum"),
}

_WIDE_ENOUGH = 120  # columns of a terminal that the table of models needs, with some forty left for descriptions


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show a sign of life on standard error, on a terminal only.

    Parameters
    ----------
    text
        What takes its time.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(text):
        yield


@contextmanager
def progress_bars(*, wanted: bool) -> Iterator[ProgressCallback | None]:
    """Show how far a call has come, on a terminal only.

    Parameters
    ----------
    wanted
        Whether to show anything.
    """
    console = Console(stderr=True)
    if not (wanted and console.is_terminal):
        yield None
        return
    upload = Bars(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), console=console, transient=True)
    images = Bars(SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console)
    current: list[tuple[Bars, TaskID]] = []

    def start(bars: Bars, text: str, total: int) -> None:
        if current:
            current.pop()[0].stop()
        bars.start()
        current.append((bars, bars.add_task(text, total=total or None)))

    def show(progress: Progress) -> None:
        if progress.sent_bytes < progress.total_bytes:
            if not current:
                start(upload, "sending", progress.total_bytes)
            current[0][0].update(current[0][1], completed=progress.sent_bytes)
            return
        if not current or current[0][0] is upload:
            images.live.transient = True
            start(images, "reconstructing", progress.images_total)
        text = f"reconstructing ({progress.model})" if progress.model else "reconstructing"
        current[0][0].update(
            current[0][1], description=text, completed=progress.images_done, total=progress.images_total or None
        )

    try:
        yield show
    finally:
        if current:
            current.pop()[0].stop()


def result_object(result: Result, outputs: Sequence[Path]) -> dict[str, object]:
    """Return what ``--json`` prints."""
    return {
        "model": result.model,
        "version": result.version,
        "weights_sha256": result.weights_sha256,
        "reason": result.reason,
        "evidence": None if result.evidence is None else asdict(result.evidence),
        "request_id": result.request_id,
        "slices": result.shape[0] if result.shape else 0,
        "shape": list(result.shape),
        "stacks": [{"name": stack.name, "shape": list(stack.shape)} for stack in result.stacks],
        "reference": result.reference,
        "figures": result.figures.applicable(),
        "heads": heads_json(result.head_results),
        "seconds": asdict(result.seconds),
        "findings": [asdict(finding) for finding in result.findings],
        "outputs": [str(path) for path in outputs],
    }


def print_json(value: object) -> None:
    """Print one JSON object on standard output; what its encoding does not have is escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    click.echo(text)


def print_result(result: Result, outputs: Sequence[Path]) -> None:
    """Print figures, stage times and findings for people."""
    console = Console()
    shape = " x ".join(str(length) for length in result.shape)
    console.print(f"[bold]{result.model} {result.version}[/bold]: {shape}", highlight=False)
    if len(result.stacks) > 1:
        listed = ", ".join(f"{stack.name} ({' x '.join(map(str, stack.shape))})" for stack in result.stacks)
        console.print(Text(f"stacks: {listed}"), soft_wrap=True)
    if result.reason:
        console.print(Text(result.reason, style="dim"))
    if result.evidence is not None:
        console.print(Text(_evidence(result.evidence), style="dim"))
    figures = Table("figure", Column("value", justify="right"), box=box.SIMPLE_HEAD)
    values = result.figures.applicable()
    for name, (title, form) in _FIGURES.items():
        if name in values:
            figures.add_row(title, form.format(values[name]))
    if figures.row_count:
        if result.reference:
            figures.caption = f"reference: {result.reference}"
        console.print(figures)
    print_heads(console, result.head_results)
    seconds = Table("stage", Column("seconds", justify="right"), box=box.SIMPLE_HEAD)
    for stage, value in asdict(result.seconds).items():
        seconds.add_row(stage, f"{value:.3f}", style="bold" if stage == "total" else "")
    console.print(seconds)
    for finding in result.findings:
        style = "yellow" if finding.severity == "warning" else "dim"
        times = f" ({finding.count} times)" if finding.count > 1 else ""
        console.print(Text(f"{finding.severity}: {finding.message}{times} [{finding.code}]", style=style))
    for path in outputs:
        console.print(Text(f"wrote {path}"), soft_wrap=True)


def _evidence(evidence: Evidence) -> str:
    """Return a line about what a model was chosen by."""
    if evidence.not_tried:
        return f"no samples were held out: {evidence.not_tried}"
    errors = ", ".join(f"{each.model} {each.held_out_error:.3f}" for each in evidence.candidates)
    return f"held-out error on {evidence.slices} slices: {errors} ({evidence.seconds:.1f} s)"


def print_models(models: Sequence[Model]) -> None:
    """Print a table of models; where it is too wide, a line for each, with its description below."""
    console = Console()
    if console.width < _WIDE_ENOUGH:
        for model in models:
            facts = [model.kind, model.origin if model.origin != "built-in" else "", "" if model.ready else "not ready"]
            facts.append("needs calibration" if model.needs_calibration else "")
            line = Text.assemble((f"{model.name} {model.version}", "bold"), f" ({', '.join(filter(None, facts))})")
            console.print(line, soft_wrap=True)
            console.print(Padding(Text(model.description), (0, 0, 0, 4)))
        return
    narrow = [Column(title, no_wrap=True) for title in ("name", "version", "kind", "ready", "calibration")]
    table = Table(*narrow, "description", box=box.SIMPLE_HEAD)
    for model in models:
        table.add_row(
            Text(model.name, style="bold"),
            model.version,
            f"{model.kind}, {model.origin}" if model.origin not in {"", "built-in"} else model.kind,
            "yes" if model.ready else "no",
            "needed" if model.needs_calibration else "-",
            Text(model.description),
        )
    console.print(table)


def print_model(model: Model) -> None:
    """Print all about one model."""
    table = Table(Column(no_wrap=True), Column(overflow="fold"), show_header=False, box=None)
    facts = asdict(model)
    contract = facts.pop("contract")
    facts.pop("head")
    for name, value in facts.items():
        table.add_row(Text(name.replace("_", " "), style="dim"), Text(_shown(value)))
    if model.head is not None:
        for name, text in _head_facts(model.head):
            table.add_row(Text(name, style="dim"), Text(text))
    elif contract is not None:
        stated = {name: _shown(value) for name, value in contract.items() if _shown(value) not in {"-", "no"}}
        for name, value in (stated or {"data": "not stated"}).items():
            table.add_row(Text(f"made for: {name.replace('_', ' ')}", style="dim"), Text(value))
    Console().print(table)


def _head_facts(head: HeadContract) -> Iterator[tuple[str, str]]:
    """Yield what a head takes and returns, for people."""
    yield "task", head.task
    for group, classes in head.groups.items():
        yield f"tells: {group}", ", ".join(classes if head.task == "classification" else classes[1:])
    yield "takes: anatomy", head.anatomy or "any"
    yield "takes: contrasts", ", ".join(head.contrasts) or "any"
    if head.task != "classification":
        yield "takes: slices", f"{head.fewest_slices} or more, up to {head.coarsest_slice_mm:g} mm apart"
        yield "takes: pixels", f"up to {head.coarsest_pixel_mm:g} mm"


def print_history(history: ModelHistory) -> None:
    """Print the versions of a model and what became of them: a table of how they run, then how each came to be."""
    console = Console()
    titles = ("version", "runs", "added", "requests", "failed", "seconds", "residual")
    table = Table(*(Column(title, no_wrap=True) for title in titles), box=box.SIMPLE_HEAD)
    for version in history.versions:
        model, use = version.model, version.use
        table.add_row(
            Text(model.version, style="bold"),
            _runs(version),
            version.added[:10] or model.origin,
            str(use.requests),
            str(use.failures),
            f"{use.mean_seconds:.3g}" if use.requests > use.failures else "-",
            f"{use.mean_residual:.4f}" if use.residuals else "-",
        )
    console.print(table)
    for version in history.versions:
        lineage = version.lineage
        if lineage is None:
            continue
        figures = ", ".join(f"{name} {value:.4g}" for name, value in lineage.metrics.items())
        told = [
            f"began with {lineage.parent}" if lineage.parent else "",
            f"in its own evaluation {figures}" if figures else "",
        ]
        if not any(told):
            continue
        console.print(f"{version.model.version}: {'; '.join(part for part in told if part)}", highlight=False)
    for promotion in history.promotions:
        console.print(f"{promotion.at[:19].replace('T', ' ')}  {promotion.action} {promotion.version}", highlight=False)


def _runs(version: ModelVersion) -> str:
    """Return in words for which requests a version runs."""
    if version.model.promoted:
        return "yes"
    return f"{version.model.canary_share:.0%}, tried out" if version.model.canary_share else "when named"


def _shown(value: object) -> str:
    """Return a fact about a model for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple) and value and isinstance(value[0], float):
        return f"{value[0]:g} to {value[1]:g}"
    if isinstance(value, tuple):
        numbers = all(isinstance(part, int) for part in value)
        return ((" x " if numbers else ", ").join(str(part) for part in value) if any(value) else "") or "-"
    return "-" if value is None or value == "" else str(value)
