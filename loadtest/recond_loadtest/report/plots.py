"""The plots of one run. Each returns a figure, or None if there is nothing to show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from recond_loadtest.report.style import BAD, COLOURS, GOOD, INK, MUTED, legend_below, new_plot
from recond_loadtest.result import RunResult
from recond_loadtest.statistics import Latency, samples_needed
from recond_loadtest.text import seconds_text

_TICKS: Final = (0.5, 0.9, 0.99, 0.999, 0.9999)
_MOST_POINTS: Final = 8000
_MOST_VECTORS: Final = 1500
_STAGES: Final = ("admission", "upload", "ingest", "conditioning", "queue", "batch", "compute", "heads", "encode")
_FEWEST_FOR_A_LINE: Final = 20


def latency_percentiles(latencies: Mapping[str, Latency], title: str = "Latency by percentile") -> Figure | None:
    """Plot latency over ``1 / (1 - q)``, as HdrHistogram does; dotted where fewer than ten samples lie beyond."""
    curves = {name: latency for name, latency in latencies.items() if latency.count >= _FEWEST_FOR_A_LINE}
    if not curves:
        return None
    figure, axes = new_plot(title, "percentile", "latency from the intended time")
    axes.set_xscale("log")
    axes.set_yscale("log")
    reach = max(2 * latency.count for latency in curves.values())
    for number, (name, latency) in enumerate(curves.items()):
        quantiles, values = (np.array(column) for column in zip(*latency.curve, strict=True))
        x = 1 / (1 - quantiles)
        sure = x <= latency.count / 10
        colour = INK if name == "all" else COLOURS[number % len(COLOURS)]
        width = 2.0 if name == "all" else 1.3
        axes.plot(
            x[sure], values[sure], color=colour, lw=width, label=f"{name} (n = {latency.count})", drawstyle="steps-pre"
        )
        start = max(int(sure.sum()) - 1, 0)
        axes.plot(x[start:], values[start:], color=colour, lw=width, ls=":", drawstyle="steps-pre")
    ticks = [quantile for quantile in _TICKS if 1 / (1 - quantile) <= reach]
    axes.set_xticks([1 / (1 - quantile) for quantile in ticks], [f"p{100 * quantile:g}" for quantile in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(1, reach)
    _time_axis(axes)
    legend_below(figure, axes)
    return figure


def rates_over_time(result: RunResult) -> Figure | None:
    """Plot offered load, throughput and goodput, requests/s in bins of a second or more."""
    ends = [record.end for record in result.records if record.end is not None]
    if not ends:
        return None
    length = max(*ends, result.window[1])
    width = max(1.0, math.ceil(length / 80))
    edges = np.arange(0, length + width, width)
    middles = edges[:-1] + width / 2
    figure, axes = new_plot("Load over time", "time, s", "requests/s")
    series = (
        ("offered", [record.intended for record in result.records], MUTED, 1.3),
        ("ok", [record.end for record in result.records if record.outcome == "ok"], COLOURS[4], 4.5),
        ("good: right and in time", [record.end for record in result.records if record.good], GOOD, 1.6),
        ("errors", [record.end for record in result.records if record.outcome == "error"], BAD, 1.6),
    )
    for name, times, colour, line in series:
        counts = np.histogram([time for time in times if time is not None], edges)[0] / width
        if counts.any():
            axes.plot(middles, counts, color=colour, lw=line, label=name, drawstyle="steps-mid")
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, edges[-1])
    _mark_times(axes, result)
    legend_below(figure, axes, 6)
    return figure


def latency_over_time(result: RunResult) -> Figure | None:
    """Plot every request at its intended time: successes by class, and what did not succeed."""
    ended = [record for record in result.records if record.end is not None]
    if not ended:
        return None
    ended = ended[:: math.ceil(len(ended) / _MOST_POINTS)]
    figure, axes = new_plot("Requests over time", "intended time, s", "latency")
    axes.set_yscale("log")
    kinds = result.kinds
    size = float(np.clip(2500 / len(ended), 3, 16))
    groups = [(kind, COLOURS[number % len(COLOURS)], "o", {"ok"}) for number, kind in enumerate(kinds)]
    for name, colour, marker, outcomes in [
        *groups,
        ("error", BAD, "x", {"error", "lost"}),
        ("cancelled", MUTED, "v", {"cancelled"}),
    ]:
        chosen = [
            record for record in ended if record.outcome in outcomes and (record.outcome != "ok" or record.kind == name)
        ]
        if chosen:
            points = np.array([(record.intended, max((record.end or 0) - record.intended, 1e-4)) for record in chosen])
            axes.scatter(
                points[:, 0],
                points[:, 1],
                s=2 * size if marker == "x" else size,
                color=colour,
                marker=marker,
                alpha=0.7,
                linewidths=1 if marker == "x" else 0,
                label=name,
                rasterized=len(ended) > _MOST_VECTORS,
            )
    _mark_times(axes, result)
    _time_axis(axes)
    legend_below(figure, axes, 5, marker_scale=2.0)
    return figure


def batch_sizes(result: RunResult) -> Figure | None:
    """Plot how many batches had how many frames, as the target counted them."""
    sizes = result.server.batch_sizes
    if sizes is None or not sizes.buckets:
        return None
    labels, counts, lower, below = [], [], 0.0, 0.0
    for bound, count in sizes.buckets:
        first = lower + 1
        labels.append(
            f"> {lower:g}" if math.isinf(bound) else f"{bound:g}" if first >= bound else f"{first:g} to {bound:g}"
        )
        counts.append(count - below)
        lower, below = bound, count
    while counts and counts[-1] == 0:
        labels.pop()
        counts.pop()
    figure, axes = new_plot(f"Batch sizes (mean {sizes.mean:.2f})", "frames in a batch", "batches")
    axes.bar(range(len(counts)), counts, color=COLOURS[0], width=0.7)
    axes.set_xticks(range(len(counts)), labels)
    axes.grid(visible=False, axis="x")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    return figure


def stage_seconds(result: RunResult) -> Figure | None:
    """Plot the mean time of each stage, as the target measured it."""
    stages = [
        one
        for one in result.server.histograms
        if one.name.endswith("_stage_seconds")
        and one.labels.get("stage")
        and one.labels["stage"] != "total"
        and one.mean > 0
    ]
    if not stages:
        return None
    figure, axes = new_plot("Mean time per request and stage, as the target measured it", "", "")
    known = {name: number for number, name in enumerate(_STAGES)}
    stages.sort(key=lambda one: known.get(one.labels["stage"], len(known)))
    means = [one.mean for one in stages]
    axes.barh([one.labels["stage"] for one in stages], means, color=COLOURS[4], height=0.62)
    for number, mean in enumerate(means):
        axes.annotate(seconds_text(mean), (mean, number), (4, 0), textcoords="offset points", va="center", color=INK)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 1.18 * max(means))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds_text(value) if value else "0"))
    return figure


def resources_over_time(result: RunResult) -> Figure | None:
    """Plot the cores that the target uses, and its memory."""
    if len(result.usage.timeline) < 2:
        return None
    at, cores, memory = (np.array(column, float) for column in zip(*result.usage.timeline, strict=True))
    figure, axes = new_plot("Target: processor and memory", "time, s", "cores in use")
    axes.plot(at, cores, color=COLOURS[0], lw=1.6, label="cores")
    axes.set_ylim(0, max(1.15 * cores.max(), 1))
    axes.set_xlim(0, max(at[-1], result.window[1]))
    _mark_times(axes, result)
    other = axes.twinx()
    other.spines[["top", "left"]].set_visible(False)
    other.spines["right"].set(visible=True, color="#B8C0CA")
    other.tick_params(colors="#52606D")
    other.plot(at, memory / 2**20, color=COLOURS[1], lw=1.6, label="memory")
    other.set_ylabel("resident memory, MiB", color=INK)
    other.set_ylim(0, 1.15 * memory.max() / 2**20)
    other.grid(visible=False)
    axes.plot([], [], color=COLOURS[1], lw=1.6, label="memory")
    legend_below(figure, axes)
    return figure


def search_probes(result: RunResult) -> Figure | None:
    """Plot the rates that the search tried, with the limit."""
    shown = [probe for probe in result.probes if probe.latency is not None]
    if not shown:
        return None
    search = result.scenario["search"]
    figure, axes = new_plot(
        "Search for the highest rate", "offered load, requests/s", f"p{100 * search['quantile']:g} latency"
    )
    axes.set_yscale("log")
    for passed, colour, label in ((True, GOOD, "holds the limit"), (False, BAD, "does not")):
        points = [(probe.rate, probe.latency) for probe in shown if probe.passed == passed]
        if points:
            rates, times = zip(*points, strict=True)
            axes.scatter(rates, times, color=colour, s=34, label=label, zorder=3)
    axes.axhline(search["limit"], color=INK, lw=1, ls="--", label=f"limit {seconds_text(search['limit'])}")
    _time_axis(axes)
    legend_below(figure, axes)
    return figure


def run_plots(result: RunResult) -> list[Figure]:
    """Return all plots of a run that have something to show."""
    kinds = result.kinds
    latencies = {"all": result.latency()}
    if 1 < len(kinds) <= len(COLOURS):
        latencies |= {kind: result.latency(kind) for kind in kinds}
    figures = [
        search_probes(result),
        latency_percentiles(latencies),
        rates_over_time(result),
        latency_over_time(result),
        batch_sizes(result),
        stage_seconds(result),
        resources_over_time(result),
    ]
    return [figure for figure in figures if figure is not None]


def fewest_samples_note(count: int) -> str:
    """Return which percentiles a number of samples does not support, in words; empty if all that are shown."""
    missing = [quantile for quantile in _TICKS[:4] if count < samples_needed(quantile)]
    if not missing:
        return ""
    needs = ", ".join(f"p{100 * quantile:g} {samples_needed(quantile)}" for quantile in missing)
    return f"{count} samples are too few for: {needs}"


def _mark_times(axes: Axes, result: RunResult) -> None:
    """Shade the warm-up, and draw the faults of the target."""
    if result.window[0] > 0:
        axes.axvspan(0, result.window[0], color="#F1F3F6", zorder=0, label="warm-up")
    for number, event in enumerate(result.events):
        axes.axvline(event.at, color=INK, lw=1.2, ls="-.", label="fault" if number == 0 else None)
        axes.annotate(
            event.action,
            (event.at, 1),
            (3, -2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            fontsize=8,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1},
        )


def _time_axis(axes: Axes) -> None:
    """Label a logarithmic axis of times at 1, 2 and 5."""
    low, high = axes.get_ylim()
    ticks = [
        digit * 10.0**power
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for digit in (1, 2, 5)
    ]
    shown = [tick for tick in ticks if low <= tick <= high]
    if len(shown) > 8:
        shown = [tick for tick in shown if f"{tick:.0e}".startswith("1")]
    axes.set_yticks(shown, [seconds_text(tick) for tick in shown])
    axes.yaxis.set_minor_formatter(NullFormatter())
