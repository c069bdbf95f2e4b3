"""The table of `make compare`, in docs/performance.md between two marks."""

from __future__ import annotations

import platform
import statistics
from pathlib import Path
from typing import Any

import numpy as np

BEGIN, END = "<!-- compare: begin -->", "<!-- compare: end -->"
_RESAMPLES = 10000
_FIGURES = ("single", "mixed", "errors", "wrong", "p50", "p90", "p99", "cpu", "rss_bytes", "start_to_ready", "busy")


def ratio(rounds: list[dict[str, Any]], name: str, rival: str, figure: str) -> str:
    """Return the median of ratios within rounds, with a bootstrap interval of 95 %."""
    ratios = np.array(
        [
            one[name][figure] / one[rival][figure]
            for one in rounds
            if name in one and rival in one and one[name][figure] and one[rival][figure]
        ]
    )
    if not ratios.size:
        return "-"
    draws = np.random.default_rng(0).choice(ratios, (_RESAMPLES, ratios.size))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return f"{np.median(ratios):.2f} ({low:.2f} to {high:.2f})"


def _median(rounds: list[dict[str, Any]], name: str, figure: str) -> float | None:
    values = [one[name][figure] for one in rounds if name in one and one[name].get(figure) is not None]
    return statistics.median(values) if values else None


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.0f}"


def render(record: dict[str, Any]) -> str:
    """Return the tables as Markdown."""
    rounds, settings = record["rounds"], record["settings"]
    names = list(rounds[0])
    names.sort(key=lambda name: (not name.startswith("recond"), name))
    first = names[0]
    lines = [
        (
            f"Model `{settings['model']}`, {settings['workers']} process(es) of one thread to compute with, {len(rounds)} rounds, "
            f"{platform.machine()}, Python {platform.python_version()}. Open phase: {settings['rate']:.1f} requests/s of four "
            "matrices."
        ),
        "",
        (
            "| Server | one shape, frames/s | four matrices, frames/s | errors | wrong | p50 ms | p90 ms | p99 ms | CPU ms/frame | "
            "memory MB | start s |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        get = {figure: _median(rounds, name, figure) for figure in _FIGURES}
        lines.append(
            f"| {name} | {get['single']:.1f} | {get['mixed']:.1f} | {get['errors']:.1%} | {get['wrong']:.0f} | {_ms(get['p50'])} | "
            f"{_ms(get['p90'])} | {_ms(get['p99'])} | {_ms(get['cpu'])} | {get['rss_bytes'] / 1e6:.0f} | "
            f"{get['start_to_ready']:.1f} |"
        )
    lines += [
        "",
        f"Ratios of {first} to each, median of the rounds (bootstrap interval, 95 %):",
        "",
        "| Rival | one shape | four matrices | p50 | p90 | CPU per frame |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | "
        + " | ".join(ratio(rounds, first, name, figure) for figure in ("single", "mixed", "p50", "p90", "cpu"))
        + " |"
        for name in names[1:]
    ]
    efficiency = [one[first]["single"] / bare for one, bare in zip(rounds, record["bare"], strict=True) if first in one]
    lines += [
        "",
        (
            f"Efficiency at saturation, one shape: {statistics.median(efficiency):.3f} of the "
            f"{statistics.median(record['bare']):.1f} frames/s of the batch core alone (rounds: "
            f"{', '.join(f'{each:.3f}' for each in efficiency)})."
        ),
    ]
    busy = _median(rounds, first, "busy")
    if busy is not None:
        lines[-1] += f" The model servers computed {busy:.1%} of that time."
    if record["tuning"]:
        lines += [
            "",
            "Triton was tuned first; the best variant was compared:",
            "",
            "| Variant | four matrices, frames/s |",
            "|---|---|",
        ]
        lines += [
            f"| {name} | {value:.1f} |" for name, value in sorted(record["tuning"].items(), key=lambda item: -item[1])
        ]
    return "\n".join(lines)


def write(record: dict[str, Any], report: Path) -> None:
    """Put the tables into the report, between the marks."""
    text = report.read_text() if report.exists() else f"# Performance\n\n{BEGIN}\n{END}\n"
    before, rest = text.split(BEGIN)
    report.write_text(f"{before}{BEGIN}\n\n{render(record)}\n\n{END}{rest.split(END)[1]}")
