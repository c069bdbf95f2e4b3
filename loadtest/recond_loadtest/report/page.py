"""The page of one run."""

from __future__ import annotations

import json
import statistics
from typing import Any

from recond_loadtest.report import html_parts as parts
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
    body = [
        f"<h1>{parts.text(name)}{parts.verdict(reasons)}</h1>",
        f"<p>{parts.text(result.scenario['description'])}</p>",
        parts.note(_about(result)),
        parts.bullets(reasons),
        parts.cards(_headline(result)),
        parts.plots(svg_of(figure) for figure in run_plots(result)),
        "<h2>Requests by class</h2>",
        _class_table(result),
        parts.note(
            "Latency from the intended time, of successful requests without faults; first image: median.",
            "n: too few samples, ten have to lie beyond a percentile.",
            fewest_samples_note(result.latency().count),
        ),
        *_errors(result),
        *_faults(result),
        *_probes(result),
        *_server(result),
        "<h2>Machine and settings</h2>",
        parts.table(["", ""], _machine(result), 2),
        parts.details("scenario", f"<pre>{parts.text(json.dumps(result.scenario, indent=2))}</pre>"),
    ]
    return parts.page(f"recond load test: {name}", body)


def _about(result: RunResult) -> str:
    target = result.target
    rate = f", peak {number_text(result.peak)} requests/s" if result.peak else ""
    return (
        f"{_MODES[result.scenario['mode']]} against {target['kind']} at {target['address']}, {result.started}; "
        f"{result.seconds:.1f} s measured after {result.window[0]:.1f} s, seed {result.scenario['seed']}{rate}"
    )


def _headline(result: RunResult) -> list[tuple[str, str, bool]]:
    rates, outcomes, latency = result.rates(), result.outcomes(), result.latency()
    found: list[tuple[str, str, bool]] = []
    if result.probes:
        best = max((probe.rate for probe in result.probes if probe.passed), default=None)
        limit = result.scenario["search"]
        found.append(
            (
                f"highest rate with p{100 * limit['quantile']:g} ≤ {seconds_text(limit['limit'])}",
                f"{number_text(best)} /s",
                best is None,
            )
        )
    found += [
        ("offered", f"{number_text(rates.offered)} /s", False),
        ("throughput", f"{number_text(rates.throughput)} /s", False),
        ("images", f"{number_text(rates.frames)} /s", False),
        ("goodput", f"{number_text(rates.goodput)} /s", False),
    ]
    for quantile in (0.5, 0.9, 0.99):
        value = latency.quantiles[quantile]
        found.append((f"latency p{100 * quantile:g}", "n too small" if value is None else seconds_text(value), False))
    found += [
        ("requests", str(outcomes.requests), False),
        ("errors", str(outcomes.error), False),
        ("failed without a fault", str(outcomes.innocent_failures), outcomes.innocent_failures > 0),
        ("wrong images", f"{outcomes.wrong} of {outcomes.compared}", outcomes.wrong > 0),
        ("lost", str(outcomes.lost), outcomes.lost > 0),
        ("send lag p99", seconds_text(result.lag.p99), result.lag.void),
    ]
    if (batch := result.server.mean_batch) is not None:
        found.append(("mean batch", f"{batch:.2f}", False))
    if (cpu := result.cpu_per_request) is not None:
        found.append(("processor time per request", seconds_text(cpu), False))
    if result.usage.rss_peak_bytes:
        found.append(("peak memory (RSS)", f"{result.usage.rss_peak_bytes / 2**20:.0f} MiB", False))
    if result.usage.start_to_ready is not None:
        found.append(("start to ready", seconds_text(result.usage.start_to_ready), False))
    return found


def _class_table(result: RunResult) -> str:
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
    return parts.table([*head, *(f"p{100 * quantile:g}" for quantile in QUANTILES), "max", "first image"], rows)


def _first_image(result: RunResult, kind: str | None) -> float | None:
    times = [
        record.first_image - record.intended
        for record in result.measured
        if record.first_image is not None and record.outcome == "ok" and kind in {None, record.kind}
    ]
    return statistics.median(times) if times else None


def _errors(result: RunResult) -> list[str]:
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
    return ["<h2>Errors</h2>", parts.table(head, rows, 3)]


def _faults(result: RunResult) -> list[str]:
    found = []
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
            "<h2>Requests with faults</h2>",
            parts.table(["fault", "requests", "ok", "errors", "cancelled", "lost"], rows),
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
            "<h2>Recovery</h2>",
            parts.table(head, rows, 3),
            parts.note("First success: end of the first successful request that was sent after the fault."),
        ]
    return found


def _probes(result: RunResult) -> list[str]:
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
        "<h2>Search</h2>",
        parts.table(["rate", "latency", "requests", "failed", "passed", "why it does not count"], rows),
    ]


def _server(result: RunResult) -> list[str]:
    server = result.server
    if not server.histograms and not server.counters:
        return []
    rows = [
        [_with_labels(one.name, one.labels), number_text(one.count), number_text(one.mean), number_text(one.total)]
        for one in server.histograms
    ]
    counters = [[name, number_text(value)] for name, value in server.counters.items()]
    return [
        "<h2>What the target counted in the measured time</h2>",
        parts.details(
            f"{len(rows)} histograms, {len(counters)} counters",
            parts.table(["histogram", "count", "mean", "sum"], rows)
            + "<br>"
            + parts.table(["counter", "increase"], counters),
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
