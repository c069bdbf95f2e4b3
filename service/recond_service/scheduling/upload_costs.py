"""What a request will cost, before its data are here."""

from __future__ import annotations

import math

_SMOOTHING = 0.2
_LONGEST_WRITING = 0.25  # volumes with large output files say little about single slices
_MOST_MODELS = 256


class UploadCosts:
    """Learns how many seconds of a model server an uploaded byte means, by model; "" where the service chooses the model.

    Attributes
    ----------
    writing_seconds
        What usually passes between the last image of a request and its end: its frames have to be computed so much before the
        deadline.
    """

    def __init__(self) -> None:
        self._logs: dict[str, float] = {}
        self.writing_seconds = 0.0

    def seconds(self, model: str, size_bytes: int) -> float:
        """Predict the seconds that an upload of that size means, 0 if nothing like it was ever seen."""
        log = self._logs.get(model)
        return 0.0 if log is None else math.exp(log) * size_bytes

    def wrote(self, seconds: float) -> None:
        """Learn from a request that has ended: how long ago its last image was computed."""
        self.writing_seconds += _SMOOTHING * (min(seconds, _LONGEST_WRITING) - self.writing_seconds)

    def observe(self, model: str, size_bytes: int, seconds: float) -> None:
        """Learn from a request that was computed."""
        if size_bytes <= 0 or not seconds > 0:
            return
        new = math.log(seconds / size_bytes)
        old = self._logs.pop(model, new)
        self._logs[model] = old + _SMOOTHING * (new - old)
        if len(self._logs) > _MOST_MODELS:
            del self._logs[next(iter(self._logs))]
