"""The page that shows two runs beside each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from recond_loadtest.ledger import RequestRecord
from recond_loadtest.report.blocks import Block, Heading, Note, Paragraph, Plots, Reasons, Table, Title, page
from recond_loadtest.report.plots import latency_percentiles
from recond_loadtest.report.style import COLOURS, legend_below, new_plot, svg_of
from recond_loadtest.result import RunResult
from recond_loadtest.statistics import Statistic, latencies, ratio_interval, samples_needed
from recond_loadtest.text import NONE, number_text, seconds_text

_TICKS: Final = (0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.4, 2, 3, 5, 7, 10)
_WIDE: Final = 1.0  # powers of two

_SAME: Final = ("name", "mode", "seed", "duration", "warm_up", "classes", "arrivals", "faults", "events", "model")


@dataclass(frozen=True, slots=True)
class ComparedFigure:
    """A figure of both runs.

    Parameters
    ----------
    name
        What it is.
    first, second
        Its values; None if a run does not have it.
    interval
        95 % bootstrap interval of the ratio second / first; None where there are no independent samples enough.
    seconds
        It is a time.
    """

    name: str
    first: float | None
    second: float | None
    interval: tuple[float, float] | None = None
    seconds: bool = False

    @property
    def ratio(self) -> float | None:
        """Second by first."""
        if self.first is None or self.second is None or self.first == 0:
            return None
        return self.second / self.first

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "name": self.name,
            "first": self.first,
            "second": self.second,
            "ratio": self.ratio,
            "interval": None if self.interval is None else list(self.interval),
        }


def compare(first: RunResult, second: RunResult) -> list[ComparedFigure]:
    """Return the figures of two runs, with ratios and their intervals."""
    windows = (first.window, second.window)
    paired = first.window == second.window and _same_schedule(first, second)

    def figure(name: str, statistic: Statistic, *, seconds: bool = False) -> ComparedFigure:
        values = [statistic(run.measured, run.seconds) for run in (first, second)]
        interval = None
        if all(values):
            interval = ratio_interval(first.measured, second.measured, windows, statistic, paired=paired)
        return ComparedFigure(name, values[0], values[1], interval, seconds)

    def plain(name: str, value: Callable[[RunResult], float | None], *, seconds: bool = False) -> ComparedFigure:
        return ComparedFigure(name, value(first), value(second), seconds=seconds)

    return [
        figure("throughput, requests/s", _throughput),
        figure("goodput, requests/s", _goodput),
        figure("images/s", _frames),
        *(figure(f"latency p{100 * quantile:g}", _quantile(quantile), seconds=True) for quantile in (0.5, 0.9, 0.99)),
        plain("processor time per request", lambda run: run.cpu_per_request, seconds=True),
        plain("mean batch", lambda run: run.server.mean_batch),
        plain("peak memory, MiB", lambda run: run.usage.rss_peak_bytes / 2**20 or None),
        plain("start to ready", lambda run: run.usage.start_to_ready, seconds=True),
        plain("errors", lambda run: float(run.outcomes().error)),
        plain("failed without a fault", lambda run: float(run.outcomes().innocent_failures)),
        plain("wrong images", lambda run: float(run.outcomes().wrong)),
        plain("lost", lambda run: float(run.outcomes().lost)),
    ]


def _same_schedule(first: RunResult, second: RunResult) -> bool:
    plans = [[(record.intended, record.kind, record.fault) for record in run.records] for run in (first, second)]
    return plans[0] == plans[1]


def _throughput(records: Sequence[RequestRecord], seconds: float) -> float | None:
    return sum(record.outcome == "ok" for record in records) / seconds


def _goodput(records: Sequence[RequestRecord], seconds: float) -> float | None:
    return sum(record.good for record in records) / seconds


def _frames(records: Sequence[RequestRecord], seconds: float) -> float | None:
    return sum(record.frames for record in records if record.outcome == "ok") / seconds


def _quantile(quantile: float) -> Statistic:
    def statistic(records: Sequence[RequestRecord], seconds: float) -> float | None:  # noqa: ARG001 - as all of them
        times = latencies(records)
        return float(np.quantile(times, quantile)) if len(times) >= samples_needed(quantile) else None

    return statistic


def comparison_page(first: RunResult, second: RunResult, names: tuple[str, str]) -> str:
    """Return the page of two runs: HTML that needs nothing from elsewhere.

    Parameters
    ----------
    first, second
        The runs.
    names
        What to call them.
    """
    different = [key for key in _SAME if first.scenario.get(key) != second.scenario.get(key)]
    notes = [f"{name}: {reason}" for run, name in ((first, names[0]), (second, names[1])) for reason in run.void]
    if different:
        notes.append(f"the scenarios differ in {', '.join(different)}")
    elif not _same_schedule(first, second) and first.scenario["mode"] == "open":
        notes.append("the runs had different schedules: their loads are relative to different peaks")
    figures = compare(first, second)
    rows = [
        [
            figure.name,
            *(_shown(value, seconds=figure.seconds) for value in (figure.first, figure.second)),
            NONE if figure.ratio is None else f"{figure.ratio:.3f}",
            NONE if figure.interval is None else f"{figure.interval[0]:.3f} to {figure.interval[1]:.3f}",
        ]
        for figure in figures
    ]
    plot = latency_percentiles({name: run.latency() for name, run in zip(names, (first, second), strict=True)})
    svgs = [svg_of(plot)] if plot else []
    ratios = _ratio_plot(figures, names)
    svgs += [ratios] if ratios else []
    body: list[Block] = [
        Title(f"{names[0]} and {names[1]}"),
        Paragraph(f"{first.scenario['name']}: {first.scenario['description']}"),
        *(
            Note.of(
                f"{name}: {run.target['kind']} at {run.target['address']}, {run.started}, {len(run.measured)} requests in "
                f"{run.seconds:.1f} s"
            )
            for name, run in zip(names, (first, second), strict=True)
        ),
        Reasons(notes),
        Heading("Figures"),
        Table(["", *names, "ratio", "95 % interval"], rows),
        Note.of(
            "Ratio: second by first. Interval: bootstrap over whole seconds of the runs; missing where the samples are too few.",
            "It speaks of these two runs: differences from one start of a target to the next need several runs of each.",
        ),
        Heading("Plots"),
        Plots(svgs),
    ]
    return page(f"recond load test: {names[0]} and {names[1]}", body)


def _shown(value: float | None, *, seconds: bool) -> str:
    return seconds_text(value) if seconds else number_text(value)


def _ratio_plot(figures: list[ComparedFigure], names: tuple[str, str]) -> str | None:
    """Plot the ratios that have intervals."""
    shown = [figure for figure in figures if figure.interval is not None and figure.ratio is not None]
    if not shown:
        return None
    plot, axes = new_plot(f"{names[1]} by {names[0]}", "ratio, with its 95 % interval", "")
    axes.set_xscale("log")
    reach = 0.1
    for number, figure in enumerate(shown):
        if figure.interval is None or figure.ratio is None:
            continue
        low, high = figure.interval
        axes.plot([low, high], [number, number], color=COLOURS[0], lw=2)
        axes.plot(figure.ratio, number, "o", color=COLOURS[0], ms=6)
        reach = max(reach, *(abs(math.log2(value)) for value in (low, high)))
    axes.axvline(1, color="#8A93A0", lw=1, ls="--", label="equal")
    axes.set_yticks(range(len(shown)), [figure.name for figure in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    reach *= 1.15
    axes.set_xlim(2**-reach, 2**reach)
    every = _TICKS if reach < _WIDE else _TICKS[::2]
    ticks = [tick for tick in every if 2**-reach <= tick <= 2**reach]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(visible=False, axis="y")
    legend_below(plot, axes)
    return svg_of(plot)
