"""How long a batch takes and how much memory, learnt from the batches that ran.

For every bucket two numbers, the seconds of a frame and of a coil, follow the measured batches by recursive least squares with
forgetting (Haykin, Adaptive Filter Theory, ch. 9). On top of them lies a curve over the batch size: how much more or less a frame
costs in company than alone. Nothing is assumed about that curve. On a CPU it goes up above small matrices, because the batch no
longer fits the cache, on a GPU down: sizes are tried out, doubling as long as that pays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from recond_service.scheduling.bucket import Bucket

_USUAL_COILS = 8.0  # coils are counted in eighths, so that both numbers of a bucket are of like size
_FORGETTING = 0.98
_PRIOR_SECONDS_PER_PIXEL = (
    1e-6  # of a frame of 8 coils, until something is known; low, for nobody is refused by a guess
)
_CURVE_SMOOTHING = 0.1
_SPREAD_SMOOTHING = 0.1
_FIRST_SPREAD = 0.2
_MARGIN_IN_SPREADS = 2.0  # mean absolute deviations; 19 of 20 batches of a bell curve lie below 2
_WORTHWHILE = (
    0.9  # a batch size has to make frames this much cheaper to be preferred to a smaller one, or noise would choose
)
_TRIALS = 5  # batches that tell what a size is worth; the first may be compiling, and does not count
_TRY_AGAIN_AFTER = 400  # batches
_MOST_COVARIANCE = 100.0  # forgetting must not blow up what equal batches tell nothing about
_MOST_BUCKETS = 1024
_OUTLIER = 4.0  # a batch this many times off teaches no more than one this far off
_BATCH_OUTLIER = 1.25  # what a batch says of single frames goes through a curve that is known less well
_LARGEST_BATCH = 64


@dataclass(slots=True)
class _SizeRecord:
    """What is known of one batch size: how a frame's cost compares with that of a frame alone, and from how many batches."""

    factor: float
    trials: int = 0


@dataclass(slots=True)
class _Line:
    """``frame * frames + coil * coils / 8``, fitted to what was seen; covariance as three numbers of a symmetric matrix."""

    frame: float
    coil: float
    p11: float
    p12: float
    p22: float
    seen: int = 0

    @classmethod
    def guess(cls, value: float) -> _Line:
        """Start from a frame of 8 coils that takes `value`, half of it because of the coils; the first batch overrules that."""
        return cls(value / 2, value / 2, 100.0, 0.0, 25.0)

    def at(self, frames: float, coils: float) -> float:
        return max(self.frame * frames + self.coil * coils / _USUAL_COILS, 1e-9)

    def follow(self, frames: float, coils: float, value: float, outlier: float = _OUTLIER) -> None:
        x1, x2 = frames, coils / _USUAL_COILS
        predicted = self.at(frames, coils)
        if self.seen:
            value = min(max(value, predicted / outlier), predicted * outlier)
        g1, g2 = self.p11 * x1 + self.p12 * x2, self.p12 * x1 + self.p22 * x2
        scale = _FORGETTING + x1 * g1 + x2 * g2
        k1, k2 = g1 / scale, g2 / scale
        error = value - predicted
        self.frame = max(self.frame + k1 * error, 0.0)
        self.coil = max(self.coil + k2 * error, 0.0)
        # What became negative is 0 now: that must not carry the prediction past the value.
        fitted = self.at(frames, coils)
        rescaled = min(max(fitted, min(predicted, value)), max(predicted, value)) / fitted
        self.frame *= rescaled
        self.coil *= rescaled
        self.p11 = min((self.p11 - k1 * g1) / _FORGETTING, _MOST_COVARIANCE)
        self.p22 = min((self.p22 - k2 * g2) / _FORGETTING, _MOST_COVARIANCE)
        self.p12 = max(min((self.p12 - k1 * g2) / _FORGETTING, _MOST_COVARIANCE), -_MOST_COVARIANCE)
        if self.p11 * self.p22 <= self.p12 * self.p12:  # rounding: start afresh from where we are
            self.p11, self.p12, self.p22 = 1.0, 0.0, 0.25
        self.seen += 1

    def scaled(self, factor: float) -> _Line:
        """Return what to start from where pixels are `factor` times as many."""
        return _Line(self.frame * factor, self.coil * factor, 4.0, 0.0, 1.0)


@dataclass(slots=True)
class _BucketCost:
    seconds: _Line
    memory: _Line
    sizes: dict[int, _SizeRecord] = field(default_factory=lambda: {1: _SizeRecord(1.0, _TRIALS)})
    spread: float = _FIRST_SPREAD
    batches: int = 0
    most: int = _LARGEST_BATCH
    tried_at: int = 0


class CostModel:
    """Seconds and bytes of batches, by bucket.

    Buckets that were never seen take after the nearest in pixels of the same model.
    """

    def __init__(self) -> None:
        self._buckets: dict[Bucket, _BucketCost] = {}

    def knows(self, bucket: Bucket) -> bool:
        """Tell whether a batch of this bucket, or of another size of the same model, was ever measured."""
        cost = self._buckets.get(bucket)
        return (cost is not None and cost.seconds.seen > 0) or self._relative(bucket) is not None

    def measured(self, bucket: Bucket, size: int) -> bool:
        """Tell whether batches of that size were measured in this very bucket."""
        cost = self._buckets.get(bucket)
        return cost is not None and cost.seconds.seen > 0 and size in cost.sizes

    def buckets_of(self, model: str) -> list[Bucket]:
        """Return the buckets of a model that were measured; of all models if its name is empty."""
        return [bucket for bucket, cost in self._buckets.items() if model in {"", bucket.model} and cost.seconds.seen]

    def seconds(self, bucket: Bucket, coils: Sequence[int]) -> float:
        """Predict how long a batch is computed.

        Parameters
        ----------
        bucket
            Its bucket.
        coils
            Of each frame.
        """
        cost = self._cost(bucket)
        return cost.seconds.at(len(coils), sum(coils)) * _factor(cost, len(coils))

    def margin(self, bucket: Bucket) -> float:
        """Return by what a prediction has to be multiplied so that 19 of 20 batches are faster."""
        return math.exp(_MARGIN_IN_SPREADS * self._cost(bucket).spread)

    def peak_bytes(self, bucket: Bucket, coils: Sequence[int]) -> float:
        """Predict how much memory of the device a batch takes, 0 if that was never measured."""
        line = self._cost(bucket).memory
        return line.at(len(coils), sum(coils)) if line.seen else 0.0

    def preferred_size(self, bucket: Bucket) -> int:
        """Return the batch size at which a frame is cheapest, the smaller one where it makes little difference."""
        cost = self._cost(bucket)
        best, factor = 1, 1.0
        for size in sorted(cost.sizes):
            record = cost.sizes[size]
            if size <= cost.most and record.trials >= _TRIALS and record.factor < _WORTHWHILE * factor:
                best, factor = size, record.factor
        return best

    def size_to_try(self, bucket: Bucket) -> int | None:
        """Return a batch size that is worth finding out about, None if there is none."""
        cost = self._cost(bucket)
        size = 2 * self.preferred_size(bucket)
        if size > cost.most:
            return None
        record = cost.sizes.get(size)
        if record is None or record.trials < _TRIALS:
            return size
        return size if cost.batches - cost.tried_at >= _TRY_AGAIN_AFTER else None

    def gain(self, bucket: Bucket, size: int) -> float:
        """Predict the seconds of a server that are saved if one more frame of 8 coils joins a batch of `size`; may be negative."""
        cost = self._cost(bucket)
        if size + 1 > self.preferred_size(bucket):
            return 0.0
        alone = cost.seconds.at(1, _USUAL_COILS)
        return alone * (size * _factor(cost, size) + 1.0 - (size + 1) * _factor(cost, size + 1))

    def observe(self, bucket: Bucket, coils: Sequence[int], seconds: float, peak_bytes: int = 0) -> None:
        """Learn from a batch.

        Parameters
        ----------
        bucket
            Its bucket.
        coils
            Of each frame.
        seconds
            How long it was computed.
        peak_bytes
            Memory of the device that it took; 0 if not known.
        """
        if not coils or not seconds > 0 or not math.isfinite(seconds):
            return
        cost = self._kept(bucket)
        size, total = len(coils), sum(coils)
        if cost.seconds.seen:
            ratio = seconds / (cost.seconds.at(size, total) * _factor(cost, size))
            deviation = min(abs(math.log(ratio)), math.log(_OUTLIER))
            cost.spread += _SPREAD_SMOOTHING * (deviation - cost.spread)
        if size == 1:
            cost.seconds.follow(1, total, seconds)
        else:
            known = cost.seconds.seen > 0  # else the line is a guess, which the batch is to overrule
            self._learn_size(cost, size, seconds / cost.seconds.at(size, total) if known else 1.0)
            cost.seconds.follow(size, total, seconds / _factor(cost, size), _BATCH_OUTLIER)
        if peak_bytes > 0:
            cost.memory.follow(size, total, float(peak_bytes))
        cost.batches += 1

    @staticmethod
    def _learn_size(cost: _BucketCost, size: int, factor: float) -> None:
        # Frames of a batch that seem to cost many times what they cost alone tell of a slow batch, or of a line that is wrong.
        factor = min(factor, _OUTLIER)
        record = cost.sizes.get(size)
        if record is None:
            cost.sizes[size] = _SizeRecord(factor, 1)
        else:
            record.trials += 1
            weight = max(
                1 / (record.trials - 1), _CURVE_SMOOTHING
            )  # the mean of all but the first, later of the last few
            record.factor += weight * (factor - record.factor)
        if size == max(cost.sizes):
            cost.tried_at = cost.batches

    def limit_size(self, bucket: Bucket, most: int) -> None:
        """Take note that more than `most` frames do not fit the device."""
        cost = self._kept(bucket)
        cost.most = max(min(cost.most, most), 1)

    def _cost(self, bucket: Bucket) -> _BucketCost:
        return self._buckets.get(bucket) or self._start(bucket)

    def _kept(self, bucket: Bucket) -> _BucketCost:
        """Return the record of a bucket, made if need be; the one unused longest makes room."""
        cost = self._buckets.pop(bucket, None) or self._start(bucket)
        self._buckets[bucket] = cost
        if len(self._buckets) > _MOST_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        return cost

    def _relative(self, bucket: Bucket) -> _BucketCost | None:
        """Return what the nearest bucket of the same model lets expect."""
        nearest: tuple[float, Bucket, _BucketCost] | None = None
        for other, cost in self._buckets.items():
            if other.model == bucket.model and cost.seconds.seen:
                distance = abs(math.log(other.pixels / bucket.pixels)) + (other.version != bucket.version)
                if nearest is None or distance < nearest[0]:
                    nearest = (distance, other, cost)
        if nearest is None:
            return None
        _, other, cost = nearest
        factor = bucket.pixels / other.pixels
        return _BucketCost(
            cost.seconds.scaled(factor), cost.memory.scaled(factor), spread=max(cost.spread, _FIRST_SPREAD)
        )

    def _start(self, bucket: Bucket) -> _BucketCost:
        relative = self._relative(bucket)
        if relative is not None:
            return relative
        return _BucketCost(_Line.guess(_PRIOR_SECONDS_PER_PIXEL * bucket.pixels), _Line.guess(0.0))


def _factor(cost: _BucketCost, size: int) -> float:
    """Return a frame's cost in a batch of `size` over its cost alone, between sizes that were tried by their neighbours."""
    record = cost.sizes.get(size)
    if record is not None:
        return record.factor
    below = max(known for known in cost.sizes if known < size)
    above = min((known for known in cost.sizes if known > size), default=None)
    if above is None:
        return cost.sizes[below].factor
    part = (size - below) / (above - below)
    return cost.sizes[below].factor * (1 - part) + cost.sizes[above].factor * part
