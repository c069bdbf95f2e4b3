"""What the target counts itself: Prometheus metrics before and after."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT: Final = 5.0
_BATCH_NAMES: Final = ("recond_batch_frames", "recond_batch_size")

Sample = tuple[str, tuple[tuple[str, str], ...]]
Samples = dict[Sample, float]


def scrape(url: str) -> Samples:
    """Read the metrics of a target; empty if there are none to be had, because load comes first."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:  # noqa: S310 - the user's own URL
            return parse(answer.read().decode("utf-8", "replace"))
    except (OSError, ValueError):
        return {}


def parse(text: str) -> Samples:
    """Return the samples of the Prometheus text format.

    Raises
    ------
    ValueError
        It is something else.
    """
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): float(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@dataclass(frozen=True, slots=True)
class Distribution:
    """What a histogram gained.

    Parameters
    ----------
    name, labels
        Of the metric.
    count, total
        Observations, and their sum.
    buckets
        (upper bound, observations up to it), ascending; the last bound is infinite.
    """

    name: str
    labels: dict[str, str]
    count: float
    total: float
    buckets: tuple[tuple[float, float], ...] = ()

    @property
    def mean(self) -> float:
        """Mean of the observations."""
        return self.total / self.count if self.count else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return plain values; the infinite bound is None."""
        bounds = [[None if bound == float("inf") else bound, count] for bound, count in self.buckets]
        return {"name": self.name, "labels": self.labels, "count": self.count, "sum": self.total, "buckets": bounds}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Distribution:
        """Return what `to_json` described."""
        buckets = tuple((float("inf") if bound is None else bound, count) for bound, count in data["buckets"])
        return cls(data["name"], dict(data["labels"]), data["count"], data["sum"], buckets)


@dataclass(frozen=True, slots=True)
class ServerMetrics:
    """What the target counted during the measured time.

    Parameters
    ----------
    histograms
        Those that gained observations.
    counters
        Increase by ``name{label="value"}``, where there was one.
    """

    histograms: tuple[Distribution, ...] = ()
    counters: dict[str, float] = field(default_factory=dict)

    @property
    def batch_sizes(self) -> Distribution | None:
        """Frames per batch, all models and buckets together; None if the target does not tell."""
        found = [one for one in self.histograms if one.name in _BATCH_NAMES]
        if not found:
            return None
        totals: dict[float, float] = {}
        for one in found:
            for bound, count in one.buckets:
                totals[bound] = totals.get(bound, 0.0) + count
        return Distribution(
            found[0].name,
            {},
            sum(one.count for one in found),
            sum(one.total for one in found),
            tuple(sorted(totals.items())),
        )

    @property
    def mean_batch(self) -> float | None:
        """Mean batch size, from histograms, or from Triton's counts of inferences and executions."""
        if (sizes := self.batch_sizes) is not None:
            return sizes.mean
        inferences, executions = self._sum("nv_inference_count"), self._sum("nv_inference_exec_count")
        return inferences / executions if executions else None

    def _sum(self, name: str) -> float:
        return sum(value for key, value in self.counters.items() if key.partition("{")[0] == name)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"histograms": [one.to_json() for one in self.histograms], "counters": self.counters}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ServerMetrics:
        """Return what `to_json` described."""
        return cls(tuple(Distribution.from_json(one) for one in data["histograms"]), dict(data["counters"]))


def difference(before: Samples, after: Samples) -> ServerMetrics:
    """Return what was counted between two scrapes. A counter that went down was started anew, with its process."""

    def gained(sample: Sample) -> float:
        value = after[sample] - before.get(sample, 0.0)
        return after[sample] if value < 0 else value

    bucketed: dict[Sample, list[tuple[float, float]]] = {}
    for name, labels in after:
        bound = dict(labels).get("le")
        if name.endswith("_bucket") and bound is not None:
            family = (name.removesuffix("_bucket"), tuple(label for label in labels if label[0] != "le"))
            bucketed.setdefault(family, []).append((float(bound), gained((name, labels))))
    histograms = []
    for (name, labels), buckets in sorted(bucketed.items()):
        count, total = (name + "_count", labels), (name + "_sum", labels)
        if count in after and total in after and gained(count) > 0:
            histograms.append(Distribution(name, dict(labels), gained(count), gained(total), tuple(sorted(buckets))))
    families = {name for name, _ in bucketed}
    counters = {
        name + ("{" + ",".join(f'{key}="{value}"' for key, value in labels) + "}" if labels else ""): gained(
            (name, labels)
        )
        for name, labels in sorted(after)
        if (name.endswith("_total") or name.startswith("nv_"))
        and name.rpartition("_")[0] not in families
        and gained((name, labels)) > 0
    }
    return ServerMetrics(tuple(histograms), counters)
