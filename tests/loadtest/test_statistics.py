"""Figures of runs, from records whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram

from recond_loadtest.ledger import RequestRecord
from recond_loadtest.prometheus import Distribution, difference, parse
from recond_loadtest.statistics import latency_of, outcomes_of, rates_of, ratio_interval, samples_needed


def record(number: int, intended: float, latency: float = 0.1, **changes: object) -> RequestRecord:
    settings = {"sent": intended, "end": intended + latency, "outcome": "ok", "status": "OK", **changes}
    settings.setdefault("wrong", False if settings["outcome"] == "ok" else None)
    return RequestRecord(number, "a", "", 1, intended, True, **settings)


def test_percentiles_need_ten_samples_beyond_them() -> None:
    assert [samples_needed(quantile) for quantile in (0.5, 0.9, 0.99, 0.999)] == [20, 100, 1000, 10000]
    values = np.random.default_rng(1).lognormal(-2, 0.7, 1200)
    latency = latency_of(values)
    assert latency.quantiles[0.999] is None
    for quantile in (0.5, 0.9, 0.99):
        assert latency.quantiles[quantile] == pytest.approx(
            np.quantile(values, quantile, method="inverted_cdf"), rel=2e-3
        )
    assert latency.largest == pytest.approx(values.max(), rel=2e-3)
    assert latency.quantile(0.95) == pytest.approx(np.quantile(values, 0.95, method="inverted_cdf"), rel=2e-3)
    assert latency_of(values[:19]).quantiles == dict.fromkeys((0.5, 0.9, 0.99, 0.999))
    assert latency_of([]).largest is None


def test_histograms_of_runs_can_be_added() -> None:
    both = HdrHistogram(1, 3_600_000_000, 3)
    for values in ([0.1, 0.2], [0.3]):
        both.decode_and_add(latency_of(values).encoded)
    assert both.get_total_count() == 3
    assert both.get_max_value() == pytest.approx(300_000, rel=1e-3)


def test_outcomes_add_up() -> None:
    records = [
        record(0, 0.0),
        record(1, 0.1, wrong=True),
        record(2, 0.2, latency=3.0, deadline=1.0),
        record(3, 0.3, outcome="error", status="UNAVAILABLE", reason="DRAINING"),
        record(4, 0.4, outcome="cancelled", status="CANCELLED"),
        record(5, 0.5, outcome="lost", end=None),
        RequestRecord(
            6, "a", "poison", 1, 0.6, True, sent=0.6, end=0.7, outcome="error", status="INVALID_ARGUMENT", reason="NAN"
        ),
        RequestRecord(7, "a", "poison", 1, 0.7, True, sent=0.7, end=0.8, outcome="ok", status="OK"),
    ]
    found = outcomes_of(records)
    assert (found.requests, found.ok, found.error, found.cancelled, found.lost) == (8, 4, 2, 1, 1)
    assert (found.good, found.wrong, found.compared) == (1, 1, 3)
    assert (found.innocent_failures, found.accepted_faults) == (2, 1)
    assert found.errors == {("UNAVAILABLE", "DRAINING"): 1, ("INVALID_ARGUMENT", "NAN"): 1}
    rates = rates_of(records, (0.0, 1.0))
    assert (rates.offered, rates.throughput, rates.goodput) == (8.0, 3.0, 1.0), "the late one ended outside"


def test_the_interval_of_a_ratio_holds_it() -> None:
    def run(rate: int, seed: int) -> list[RequestRecord]:
        times = np.sort(np.random.default_rng(seed).uniform(0, 40, 40 * rate))
        return [record(number, time) for number, time in enumerate(times)]

    def throughput(records: list[RequestRecord], seconds: float) -> float:
        return len(records) / seconds

    window = (0.0, 40.0)
    low, high = ratio_interval(run(20, 1), run(30, 2), (window, window), throughput)
    assert low < 1.5 < high
    assert high - low < 0.3
    same = ratio_interval(run(20, 1), run(20, 1), (window, window), throughput, paired=True)
    assert same == (1.0, 1.0), "one schedule, and nothing else made a difference"
    apart = ratio_interval(run(20, 1), run(20, 1), (window, window), throughput)
    assert apart[0] < 1 < apart[1]
    assert ratio_interval(run(20, 1), run(30, 2), ((0.0, 5.0), window), throughput) is None, "too short"
    assert ratio_interval(run(20, 1), run(30, 2), (window, window), lambda *_: None) is None


_BEFORE = """
# HELP recond_batch_frames Frames of a batch.
# TYPE recond_batch_frames histogram
recond_batch_frames_bucket{model="a",le="1.0"} 5.0
recond_batch_frames_bucket{model="a",le="4.0"} 6.0
recond_batch_frames_bucket{model="a",le="+Inf"} 6.0
recond_batch_frames_count{model="a"} 6.0
recond_batch_frames_sum{model="a"} 8.0
recond_requests_total{status="OK"} 7.0
recond_queue_frames 3.0
"""
_AFTER = """
recond_batch_frames_bucket{model="a",le="1.0"} 6.0
recond_batch_frames_bucket{model="a",le="4.0"} 9.0
recond_batch_frames_bucket{model="a",le="+Inf"} 9.0
recond_batch_frames_count{model="a"} 9.0
recond_batch_frames_sum{model="a"} 15.0
recond_batch_frames_bucket{model="b",le="1.0"} 0.0
recond_batch_frames_bucket{model="b",le="4.0"} 1.0
recond_batch_frames_bucket{model="b",le="+Inf"} 1.0
recond_batch_frames_count{model="b"} 1.0
recond_batch_frames_sum{model="b"} 3.0
recond_requests_total{status="OK"} 11.0
recond_requests_total{status="CANCELLED"} 1.0
recond_queue_frames 0.0
"""


def test_metrics_are_differences() -> None:
    found = difference(parse(_BEFORE), parse(_AFTER))
    assert found.counters == {
        'recond_requests_total{status="CANCELLED"}': 1.0,
        'recond_requests_total{status="OK"}': 4.0,
    }
    sizes = found.batch_sizes
    assert sizes == Distribution("recond_batch_frames", {}, 4.0, 10.0, ((1.0, 1.0), (4.0, 4.0), (float("inf"), 4.0)))
    assert found.mean_batch == 2.5
    assert type(found).from_json(found.to_json()) == found


@pytest.mark.parametrize("text", ["recond_queue_frames nonsense", "<html>not found</html>"])
def test_what_is_no_metrics_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"could not convert|invalid metric name"):
        parse(text)


def test_counters_of_a_restarted_target_begin_anew() -> None:
    found = difference(parse("a_total 10"), parse("a_total 3"))
    assert found.counters == {"a_total": 3.0}


def test_mean_batch_of_triton() -> None:
    text = 'nv_inference_count{{model="m",version="1"}} {}\nnv_inference_exec_count{{model="m",version="1"}} {}\n'
    found = difference(parse(text.format(10, 10)), parse(text.format(100, 40)))
    assert found.mean_batch == 3.0
