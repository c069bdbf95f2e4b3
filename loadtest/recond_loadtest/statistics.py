"""Figures of a run: latency histograms, rates, and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

from recond_loadtest.ledger import BAD_DATA, RequestRecord

QUANTILES: Final = (0.5, 0.9, 0.99, 0.999)

_LOWEST_US, _HIGHEST_US, _DIGITS = 1, 3_600_000_000, 3
_SAMPLES_BEYOND: Final = 10
_RESAMPLES: Final = 2000
_FEWEST_RESAMPLES: Final = 200
_RESAMPLED_RECORDS: Final = 2_000_000
_FEWEST_BLOCKS: Final = 8


def samples_needed(quantile: float) -> int:
    """Return how many samples a quantile takes: ten have to lie beyond it (p90 100, p99 1000)."""
    return math.ceil(round(_SAMPLES_BEYOND / (1 - quantile), 6))


@dataclass(frozen=True, slots=True)
class Latency:
    """Latencies of some requests, seconds.

    Parameters
    ----------
    count
        How many values there were.
    quantiles
        Those of `QUANTILES`; None where the samples are too few for it.
    largest, mean
        None if there are no samples.
    curve
        (quantile, latency) for a plot, up to the last sample.
    encoded
        HdrHistogram V2, base64, microseconds: histograms of several runs can be added.
    """

    count: int
    quantiles: dict[float, float | None]
    largest: float | None
    mean: float | None
    curve: tuple[tuple[float, float], ...]
    encoded: str

    def quantile(self, quantile: float) -> float | None:
        """Return any quantile, None where the samples are too few for it."""
        if self.count < samples_needed(quantile):
            return None
        return next((value for reached, value in self.curve if reached >= quantile), self.largest)


def latency_of(seconds: Iterable[float]) -> Latency:
    """Return the latencies in an HDR histogram: 1 us to 1 h, three digits."""
    histogram = HdrHistogram(_LOWEST_US, _HIGHEST_US, _DIGITS)
    for value in seconds:
        histogram.record_value(min(max(round(value * 1e6), _LOWEST_US), _HIGHEST_US))
    count = int(histogram.get_total_count())
    quantiles = {
        quantile: histogram.get_value_at_percentile(100 * quantile) / 1e6 if count >= samples_needed(quantile) else None
        for quantile in QUANTILES
    }
    reached, curve = 0, []
    for item in histogram.get_recorded_iterator():
        reached += item.count_at_value_iterated_to
        # The largest sample has no quantile below 1; half a sample short of it is where it is drawn.
        curve.append((min(reached, count - 0.5) / count, item.value_iterated_to / 1e6))
    return Latency(
        count,
        quantiles,
        histogram.get_max_value() / 1e6 if count else None,
        histogram.get_mean_value() / 1e6 if count else None,
        tuple(curve),
        histogram.encode().decode(),
    )


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of some requests.

    Parameters
    ----------
    requests
        How many were due in the measured time.
    ok, error, cancelled, lost
        They add up to `requests`.
    good
        Succeeded with the right images within the deadline.
    wrong
        Succeeded with images that differ from the expected ones.
    compared
        How many were compared.
    innocent_failures
        Errors and losses of requests that had no fault.
    accepted_faults
        Requests with bad data that got images.
    errors
        Counts by (status, reason).
    """

    requests: int
    ok: int
    error: int
    cancelled: int
    lost: int
    good: int
    wrong: int
    compared: int
    innocent_failures: int
    accepted_faults: int
    errors: dict[tuple[str, str], int]


def outcomes_of(records: Iterable[RequestRecord]) -> Outcomes:
    """Count outcomes."""
    records = list(records)
    errors: dict[tuple[str, str], int] = {}
    for record in records:
        if record.outcome == "error":
            errors[record.status, record.reason] = errors.get((record.status, record.reason), 0) + 1

    def count(test: Callable[[RequestRecord], bool]) -> int:
        return sum(map(test, records))

    return Outcomes(
        requests=len(records),
        ok=count(lambda record: record.outcome == "ok"),
        error=count(lambda record: record.outcome == "error"),
        cancelled=count(lambda record: record.outcome == "cancelled"),
        lost=count(lambda record: record.outcome == "lost"),
        good=count(lambda record: record.good),
        wrong=count(lambda record: bool(record.wrong)),
        compared=count(lambda record: record.wrong is not None),
        innocent_failures=count(lambda record: not record.fault and record.outcome in {"error", "lost"}),
        accepted_faults=count(lambda record: record.fault in BAD_DATA and record.outcome == "ok"),
        errors=dict(sorted(errors.items(), key=lambda item: -item[1])),
    )


@dataclass(frozen=True, slots=True)
class Rates:
    """What ended within the measured time, per second.

    Parameters
    ----------
    offered
        Requests that were due.
    throughput
        Successful requests a second.
    frames
        Images of those a second.
    goodput
        Those with the right images and within their deadline.
    """

    offered: float
    throughput: float
    frames: float
    goodput: float


def rates_of(records: Iterable[RequestRecord], window: tuple[float, float]) -> Rates:
    """Return the rates of a window (start, end), seconds of the run."""
    start, end = window
    length = max(end - start, 1e-9)
    due = ok = frames = good = 0
    for record in records:
        due += start <= record.intended < end
        if record.outcome == "ok" and record.end is not None and start <= record.end <= end:
            ok += 1
            frames += record.frames
            good += record.good
    return Rates(due / length, ok / length, frames / length, good / length)


def latencies(records: Iterable[RequestRecord]) -> list[float]:
    """Return the latencies of the successful requests that nothing was wrong with, seconds."""
    return [
        record.latency
        for record in records
        if record.outcome == "ok" and not record.fault and record.measured and record.latency is not None
    ]


Statistic = Callable[[Sequence[RequestRecord], float], float | None]


def ratio_interval(
    first: Sequence[RequestRecord],
    second: Sequence[RequestRecord],
    windows: tuple[tuple[float, float], tuple[float, float]],
    statistic: Statistic,
    *,
    paired: bool = False,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return a bootstrap interval of the ratio of a statistic of two runs, second by first.

    Whole seconds of the run are drawn, with what was due in them: requests that wait behind each other are not independent
    (block bootstrap; Künsch 1989, doi:10.1214/aos/1176347265).

    Parameters
    ----------
    first, second
        Requests of the runs.
    windows
        Measured time of each.
    statistic
        Of some requests and the seconds that they stand for; None where it has none.
    paired
        The runs had one schedule and equal windows: the same seconds are drawn of both, so that what the schedule alone brings
        about falls out.
    level
        Coverage.
    seed
        Of the resampling.

    Returns
    -------
    tuple of float or None
        Lower and upper end, None if the runs are too short.
    """
    resamples = min(_RESAMPLES, max(_FEWEST_RESAMPLES, _RESAMPLED_RECORDS // max(len(first), len(second), 1)))
    drawn: list[NDArray[np.float64]] = []
    for records, window in zip((first, second), windows, strict=True):
        generator = np.random.default_rng([seed, 0 if paired else len(drawn)])
        values = _resampled(records, window, statistic, resamples, generator)
        if values is None:
            return None
        drawn.append(values)
    ratios = drawn[1] / drawn[0]
    tail = 50 * (1 - level)
    low, high = np.percentile(ratios, [tail, 100 - tail])
    return float(low), float(high)


def _resampled(
    records: Sequence[RequestRecord],
    window: tuple[float, float],
    statistic: Statistic,
    resamples: int,
    generator: np.random.Generator,
) -> NDArray[np.float64] | None:
    start, end = window
    blocks = int(end - start)
    if blocks < _FEWEST_BLOCKS:
        return None
    width = (end - start) / blocks
    contents: list[list[RequestRecord]] = [[] for _ in range(blocks)]
    for record in records:
        if start <= record.intended < end:
            contents[min(int((record.intended - start) / width), blocks - 1)].append(record)
    values = []
    for _ in range(resamples):
        chosen = [record for block in generator.integers(blocks, size=blocks) for record in contents[block]]
        value = statistic(chosen, end - start)
        if value is None or value <= 0:
            return None
        values.append(value)
    return np.array(values)
