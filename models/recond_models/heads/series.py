"""What a series shows, from what the network says of its slices; "unknown" where it is not sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recond_models.heads.series_network import ARTEFACTS, OUTPUTS, SeriesNetwork, prepare_slice

UNKNOWN = "unknown"
"""The answer where no class is probable enough."""

_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class SeriesCalibration:
    """How sure the network is when it says so, found on held-out slices.

    Parameters
    ----------
    temperatures
        By output: scores are divided by it before they become probabilities (Guo et al. 2017, arXiv:1706.04599); 1 if absent.
    thresholds
        By output: a class that is less probable is `UNKNOWN`; 0.6 if absent.
    """

    temperatures: dict[str, float] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := sorted({*self.temperatures, *self.thresholds} - set(OUTPUTS)):
            raise ValueError(f"unknown outputs {', '.join(unknown)}; there are {', '.join(OUTPUTS)}")
        if any(value <= 0 for value in self.temperatures.values()):
            raise ValueError(f"temperatures are above 0, got {self.temperatures}")

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of plain values; the arguments of this class."""
        return {"temperatures": dict(self.temperatures), "thresholds": dict(self.thresholds)}


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said about one of `OUTPUTS`.

    Parameters
    ----------
    label
        The class, or `UNKNOWN`.
    probability
        Of the most probable class, 0 to 1.
    probabilities
        Of all classes, by name.
    """

    label: str
    probability: float
    probabilities: dict[str, float]


class SeriesClassifier:
    """Tells what slices show.

    Parameters
    ----------
    network
        With its weights.
    calibration
        Of its scores; none if None.
    """

    def __init__(self, network: SeriesNetwork, calibration: SeriesCalibration | None = None) -> None:
        self._network = network.eval()
        self._calibration = calibration or SeriesCalibration()

    @torch.inference_mode()
    def probabilities(self, images: Sequence[NDArray[np.floating]]) -> dict[str, NDArray[np.float32]]:
        """Return calibrated probabilities, float32 (slices, classes), for each of `OUTPUTS`.

        Parameters
        ----------
        images
            Slices (rows, columns), of any sizes and units.

        Raises
        ------
        ValueError
            There is no slice.
        VolumeError
            A slice is none, or not finite.
        """
        if len(images) == 0:
            raise ValueError("a series has at least one slice")
        parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in OUTPUTS}
        for start in range(0, len(images), _AT_ONCE):
            prepared = np.stack([prepare_slice(image) for image in images[start : start + _AT_ONCE]])
            for name, scores in self._network(torch.from_numpy(prepared)[:, None]).items():
                temperature = self._calibration.temperatures.get(name, 1.0)
                parts[name].append(torch.softmax(scores.float() / temperature, dim=1).numpy())
        return {name: np.concatenate(values) for name, values in parts.items()}

    def __call__(self, images: Sequence[NDArray[np.floating]]) -> dict[str, Answer]:
        """Return an answer for each of `OUTPUTS`, over all slices.

        Contrast and plane are averaged over slices by how probably they show a head, and `UNKNOWN` where the series shows none or
        its reconstruction failed.

        Parameters
        ----------
        images
            Slices (rows, columns), of any sizes and units.

        Raises
        ------
        ValueError
            There is no slice.
        VolumeError
            A slice is none, or not finite.
        """
        slices = self.probabilities(images)
        answers = {name: self._answer(name, slices[name].mean(axis=0)) for name in ("anatomy", *ARTEFACTS)}
        shown = slices["anatomy"][:, 0] * (1 - slices["failed reconstruction"][:, -1]) + 1e-6
        readable = answers["anatomy"].label == "head" and answers["failed reconstruction"].label != "severe"
        for name in ("contrast", "plane"):
            mean = (slices[name] * shown[:, None]).sum(axis=0) / shown.sum()
            answers[name] = self._answer(name, mean, allowed=readable)
        return {name: answers[name] for name in OUTPUTS}

    def _answer(self, name: str, mean: NDArray[np.floating], *, allowed: bool = True) -> Answer:
        best = int(mean.argmax())
        sure = allowed and float(mean[best]) >= self._calibration.thresholds.get(name, 0.6)
        every = {label: float(value) for label, value in zip(OUTPUTS[name], mean, strict=True)}
        return Answer(OUTPUTS[name][best] if sure else UNKNOWN, float(mean[best]), every)
