"""What `bench/quality/evidence.py` learnt on scans with a truth, read from ``calibration.json``."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recond_models.evidence.candidates import ENSEMBLE
from recond_models.sampling import Sampling

_CLEARLY = 0.002
"""Difference of SSIM in the object below which the mean, which is never far from the best, is taken."""

FILE = Path(__file__).with_name("calibration.json")


@dataclass(frozen=True, slots=True)
class Cell:
    """How good the candidates were on scans that were sampled alike.

    Parameters
    ----------
    lines
        Whole lines were measured.
    acceleration
        From (inclusive), to (exclusive).
    ssim
        By name of the candidate: mean SSIM in the object; measured scans count as much as all simulated ones together.
    measured_ssim
        The same of the measured scans alone; empty where there are none.
    log_error
        By name of the candidate: mean of `HeldOut.logarithm`. What is usual for scans of a kind says nothing about a scan.
    measured, simulated
        How many scans of each kind.
    """

    lines: bool
    acceleration: tuple[float, float]
    ssim: dict[str, float]
    measured_ssim: dict[str, float]
    log_error: dict[str, float]
    measured: int
    simulated: int

    @property
    def expected(self) -> dict[str, float]:
        """By name of the candidate the SSIM to expect: no more ahead of the mean than on measured scans, if there are any."""
        mean, measured_mean = self.ssim[ENSEMBLE], self.measured_ssim.get(ENSEMBLE, 0.0)
        measured = {name: value - measured_mean for name, value in self.measured_ssim.items()}
        return {name: mean + min(value - mean, measured.get(name, math.inf)) for name, value in self.ssim.items()}

    @property
    def best(self) -> str:
        """The candidate of which the highest SSIM is expected: another than the mean only if it is clearly ahead."""
        expected = self.expected
        name = max(expected, key=lambda name: expected[name])
        return name if expected[name] > expected[ENSEMBLE] + _CLEARLY else ENSEMBLE

    def distance(self, acceleration: float) -> float:
        """Return how far an acceleration is from those of the scans, as a logarithm; 0 within."""
        least, most = self.acceleration
        return max(math.log(least / acceleration), math.log(acceleration / math.nextafter(most, 0)), 0.0)

    def describe(self) -> str:
        """Say which scans these are, as a clause."""
        what = "whole lines" if self.lines else "single positions"
        counts = [
            f"{count} {kind}" for count, kind in ((self.measured, "measured"), (self.simulated, "simulated")) if count
        ]
        least, most = self.acceleration
        return f"{' and '.join(counts)} head scans with {least:g} to {most:g}-fold undersampling in {what}"


@dataclass(frozen=True, slots=True)
class GuardLimit:
    """Largest plausible disagreement between a network's image and another, by noise and acceleration.

    The logarithm is linear in the logarithms of both.

    Parameters
    ----------
    constant, noise, acceleration
        Coefficients: of 1, of the logarithm of the noise over the bright pixels, of that of the acceleration.
    """

    constant: float
    noise: float
    acceleration: float

    def at(self, noise: float, acceleration: float) -> float:
        """Return the limit for a noise, as a fraction of the bright pixels, and an acceleration."""
        logarithm = self.constant + self.noise * math.log(max(noise, 1e-5)) + self.acceleration * math.log(acceleration)
        return math.exp(logarithm)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was learnt on scans with a truth.

    Parameters
    ----------
    weights_sha256
        Of the network that it was learnt with.
    cells
        Figures by kind of sampling.
    slopes
        By ``"lines"`` and ``"points"``: SSIM that a candidate gains on another where the logarithm of its held-out error is 1
        smaller beside that of the other than is usual.
    margin
        A candidate has to be expected to be better by so much SSIM to be taken in place of the one that the cell prefers.
    guards
        By what a network's image is compared with: ``"tv"``, ``"l1-wavelet"``, or ``"samples"``.
    """

    weights_sha256: str
    cells: tuple[Cell, ...]
    slopes: dict[str, float]
    margin: float
    guards: dict[str, GuardLimit]

    def cell(self, sampling: Sampling) -> Cell | None:
        """Return what is known of scans that were sampled like this, or else of the nearest accelerations; None if nothing is."""
        lines = sampling.pattern != "two-dimensional"
        alike = [cell for cell in self.cells if cell.lines == lines]
        return min(alike, key=lambda cell: cell.distance(sampling.acceleration), default=None)

    def slope(self, *, lines: bool) -> float:
        """Return the slope for a kind of sampling."""
        return self.slopes["lines" if lines else "points"]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Calibration:
        """Return what ``calibration.json`` holds.

        Raises
        ------
        KeyError, TypeError
            It is not such a file.
        """
        return cls(
            data["weights_sha256"],
            tuple(Cell(**(cell | {"acceleration": tuple(cell["acceleration"])})) for cell in data["cells"]),
            data["slopes"],
            data["margin"],
            {name: GuardLimit(**limit) for name, limit in data["guards"].items()},
        )


@functools.cache
def calibration() -> Calibration:
    """Return the calibration that comes with recond."""
    return Calibration.from_json(json.loads(FILE.read_text(encoding="utf-8")))
