"""The page of one run."""

from __future__ import annotations

import json
import statistics
from typing import Any

from recond_loadtest.report.blocks import (
    Block,
    Card,
    Cards,
    Details,
    Heading,
    Note,
    Paragraph,
    Plots,
    Preformatted,
    Reasons,
    Table,
    Title,
    page,
)
from recond_loadtest.report.plots import fewest_samples_note, run_plots
from recond_loadtest.report.style import svg_of
from recond_loadtest.result import RunResult
from recond_loadtest.statistics import QUANTILES
from recond_loadtest.text import NONE, number_text, seconds_text

_MODES = {
    "open": "open loop",
    "single-stream": "single stream",
    "offline": "offline",
    "server": "search for the highest rate",
}


def run_page(result: RunResult) -> str:
    """Return the page of a run: HTML that needs nothing from elsewhere."""
    outcomes = result.outcomes()
    reasons = list(result.void)
    if outcomes.lost:
        reasons.append(f"{outcomes.lost} requests were lost: no end within the bound")
    if outcomes.wrong:
        reasons.append(f"{outcomes.wrong} images differ from those that the same inputs gave before the run")
    name = result.scenario["name"]
    body: list[Block] = [
        Title(name, not reasons),
        Paragraph(result.scenario["description"]),
        Note(_about(result)),
        Reasons(reasons),
        Cards(_headline(result)),
        Plots([svg_of(figure) for figure in run_plots(result)]),
        Heading("Requests by class"),
        _class_table(result),
        Note.of(
            "Latency from the intended time, of successful requests without faults; first image: median.",
            "n: too few samples, ten have to lie beyond a percentile.",
            fewest_samples_note(result.latency().count),
        ),
        *_errors(result),
        *_faults(result),
        *_probes(result),
        *_server(result),
        Heading("Machine and settings"),
        Table(["", ""], _machine(result), 2),
        Details("scenario", [Preformatted(json.dumps(result.scenario, indent=2))]),
    ]
    return page(f"recond load test: {name}", body)


def _about(result: RunResult) -> str:
    target = result.target
    rate = f", peak {number_text(result.peak)} requests/s" if result.peak else ""
    return (
        f"{_MODES[result.scenario['mode']]} against {target['kind']} at {target['address']}, {result.started}; "
        f"{result.seconds:.1f} s measured after {result.window[0]:.1f} s, seed {result.scenario['seed']}{rate}"
    )


def _headline(result: RunResult) -> list[Card]:
    rates, outcomes, latency = result.rates(), result.outcomes(), result.latency()
    found: list[Card] = []
    if result.probes:
        best = max((probe.rate for probe in result.probes if probe.passed), default=None)
        limit = result.scenario["search"]
        found.append(
            Card(
                f"highest rate with p{100 * limit['quantile']:g} ≤ {seconds_text(limit['limit'])}",
                f"{number_text(best)} /s",
                best is None,
            )
        )
    found += [
        Card("offered", f"{number_text(rates.offered)} /s"),
        Card("throughput", f"{number_text(rates.throughput)} /s"),
        Card("images", f"{number_text(rates.frames)} /s"),
        Card("goodput", f"{number_text(rates.goodput)} /s"),
    ]
    for quantile in (0.5, 0.9, 0.99):
        value = latency.quantiles[quantile]
        found.append(Card(f"latency p{100 * quantile:g}", "n too small" if value is None else seconds_text(value)))
    found += [
        Card("requests", str(outcomes.requests)),
        Card("errors", str(outcomes.error)),
        Card("failed without a fault", str(outcomes.innocent_failures), outcomes.innocent_failures > 0),
        Card("wrong images", f"{outcomes.wrong} of {outcomes.compared}", outcomes.wrong > 0),
        Card("lost", str(outcomes.lost), outcomes.lost > 0),
        Card("send lag p99", seconds_text(result.lag.p99), result.lag.void),
    ]
    if (batch := result.server.mean_batch) is not None:
        found.append(Card("mean batch", f"{batch:.2f}"))
    if (cpu := result.cpu_per_request) is not None:
        found.append(Card("processor time per request", seconds_text(cpu)))
    if result.usage.rss_peak_bytes:
        found.append(Card("peak memory (RSS)", f"{result.usage.rss_peak_bytes / 2**20:.0f} MiB"))
    if result.usage.start_to_ready is not None:
        found.append(Card("start to ready", seconds_text(result.usage.start_to_ready)))
    return found


def _class_table(result: RunResult) -> Table:
    kinds: list[str | None] = [*result.kinds]
    rows = []
    for kind in [None, *kinds] if len(kinds) > 1 else kinds:
        outcomes, latency, rates = result.outcomes(kind), result.latency(kind), result.rates(kind)
        quantiles = [
            "n" if latency.quantiles[quantile] is None else seconds_text(latency.quantiles[quantile])
            for quantile in QUANTILES
        ]
        rows.append(
            [
                kind or "all",
                outcomes.requests,
                outcomes.ok,
                outcomes.good,
                outcomes.error,
                outcomes.cancelled,
                outcomes.lost,
                outcomes.wrong,
                number_text(rates.throughput),
                number_text(rates.goodput),
                *quantiles,
                seconds_text(latency.largest),
                seconds_text(_first_image(result, kind)),
            ]
        )
    head = ["class", "requests", "ok", "good", "errors", "cancelled", "lost", "wrong", "ok/s", "good/s"]
    return Table([*head, *(f"p{100 * quantile:g}" for quantile in QUANTILES), "max", "first image"], rows)


def _first_image(result: RunResult, kind: str | None) -> float | None:
    times = [
        record.first_image - record.intended
        for record in result.measured
        if record.first_image is not None and record.outcome == "ok" and kind in {None, record.kind}
    ]
    return statistics.median(times) if times else None


def _errors(result: RunResult) -> list[Block]:
    errors = result.outcomes().errors
    if not errors:
        return []
    rows = []
    for (status, reason), count in errors.items():
        same = [
            record
            for record in result.measured
            if record.outcome == "error" and (record.status, record.reason) == (status, reason)
        ]
        faults = sum(bool(record.fault) for record in same)
        waits = [record.retry_after for record in same if record.retry_after is not None]
        retry = f"{seconds_text(min(waits))} to {seconds_text(max(waits))}" if waits else NONE
        times = [record.end - record.intended for record in same if record.end is not None]
        rows.append(
            [
                status,
                reason or NONE,
                same[0].message[:120],
                count,
                faults,
                retry,
                seconds_text(statistics.median(times)),
            ]
        )
    head = ["status", "reason", "first message", "requests", "with a fault", "retry after", "median time to the error"]
    return [Heading("Errors"), Table(head, rows, 3)]


def _faults(result: RunResult) -> list[Block]:
    found: list[Block] = []
    by_fault: dict[str, list[Any]] = {}
    for record in result.measured:
        if record.fault:
            by_fault.setdefault(record.fault, []).append(record)
    if by_fault:
        rows = [
            [
                fault,
                len(records),
                *(
                    sum(record.outcome == outcome for record in records)
                    for outcome in ("ok", "error", "cancelled", "lost")
                ),
            ]
            for fault, records in by_fault.items()
        ]
        found += [
            Heading("Requests with faults"),
            Table(["fault", "requests", "ok", "errors", "cancelled", "lost"], rows),
        ]
    if result.events:
        rows = [
            [
                one.event.action,
                one.event.process or "the target",
                one.event.error or f"pid {one.event.pid}",
                f"{one.event.at:.1f} s",
                seconds_text(one.first_success),
                seconds_text(one.unhealthy),
                seconds_text(one.healthy),
            ]
            for one in result.recoveries()
        ]
        head = ["fault of the target", "process", "", "at", "first success", "health turned bad", "health turned good"]
        found += [
            Heading("Recovery"),
            Table(head, rows, 3),
            Note.of("First success: end of the first successful request that was sent after the fault."),
        ]
    return found


def _probes(result: RunResult) -> list[Block]:
    if not result.probes:
        return []
    rows = [
        [
            f"{probe.rate:.2f} /s",
            seconds_text(probe.latency),
            probe.requests,
            probe.errors,
            "yes" if probe.passed else "no",
            probe.void or NONE,
        ]
        for probe in result.probes
    ]
    return [
        Heading("Search"),
        Table(["rate", "latency", "requests", "failed", "passed", "why it does not count"], rows),
    ]


_FIGURE = "recond_figure_"


def _server(result: RunResult) -> list[Block]:
    server = result.server
    if not server.histograms and not server.counters:
        return []
    rows = [
        [_with_labels(one.name, one.labels), number_text(one.count), number_text(one.mean), number_text(one.total)]
        for one in server.histograms
    ]
    counters = [[name, number_text(value)] for name, value in server.counters.items()]
    quality = [
        [one.name.removeprefix(_FIGURE).replace("_", " "), number_text(one.count), number_text(one.mean)]
        for one in server.histograms
        if one.name.startswith(_FIGURE)
    ]
    images: list[Block] = []
    if quality:
        images = [Heading("Quality of the images"), Table(["figure", "scans", "mean"], quality)]
    return [
        *images,
        Heading("What the target counted in the measured time"),
        Details(
            f"{len(rows)} histograms, {len(counters)} counters",
            [Table(["histogram", "count", "mean", "sum"], rows), Table(["counter", "increase"], counters)],
        ),
    ]


def _with_labels(name: str, labels: dict[str, str]) -> str:
    return name + ("{" + ", ".join(f"{key}={value}" for key, value in labels.items()) + "}" if labels else "")


def _machine(result: RunResult) -> list[tuple[str, str]]:
    machine, lag = result.machine, result.lag
    per_request = result.generator_cpu_seconds / max(len(result.measured), 1)
    return [
        ("processor", f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB"),
        ("system", f"{machine['system']}, Python {machine['python']}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in machine["packages"].items())),
        (
            "load before the run",
            f"{machine['load_before']:.2f} ({machine['cpu_pressure_before'] or 'no pressure figures'})",
        ),
        ("target", result.target["command"] or "started elsewhere"),
        (
            "generator",
            ", ".join(
                (
                    f"{result.generator_cpu_seconds:.2f} s of processor time",
                    f"{seconds_text(per_request)} per request",
                    f"nice {machine['generator_nice']}",
                )
            ),
        ),
        (
            "send lag",
            ", ".join(
                f"{name} {seconds_text(getattr(lag, field))}"
                for name, field in (("median", "median"), ("p99", "p99"), ("max", "largest"), ("bound", "bound"))
            ),
        ),
    ]
