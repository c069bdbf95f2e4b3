"""From scans with a truth to `calibration.json`: figures by kind of sampling, weight of held-out samples, limits of the guard."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from recond_models.evidence import CANDIDATES, Calibration, HeldOut, decide, partner_of

BANDS = ((1.0, 3.5), (3.5, 5.0), (5.0, 7.0), (7.0, 13.0))
"""Accelerations, from (inclusive) to (exclusive)."""

_NAMES = {"network": "unrolled-brain", "tv": "tv", "l1-wavelet": "l1-wavelet"}
_SLOPES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
_MARGINS = (0.001, 0.002, 0.004, 0.006)
_CAUTION = 1e-3  # SSIM that a weight of 1 must save, so that chance is not learnt
_USABLE = 0.5  # SSIM in the object below which no candidate made an image, so that none is right
_CLEARLY_WORSE = 0.02  # SSIM in the object
# The limit of the guard lies by so much above the largest disagreement on a good image, and by so many standard deviations above
# the usual one: 1 in 200 of a bell curve.
_ROOM, _SPREADS = math.log(1.15), 2.6


def candidates(row: dict[str, Any]) -> dict[str, Any]:
    """Return what was collected of a scan, by the candidates between which `auto` decides.

    Returns
    -------
    dict
        ``figures``: SSIM and PSNR in the object by name; ``errors``: squared error at held-out samples over their energy, by name,
        summed over the hidings; what else the row has, with ``lines`` and ``band``.
    """
    lines = row["pattern"] != "two-dimensional"
    names = _NAMES | {f"network+{partner_of(lines=lines)}": "ensemble"}
    return row | {
        "lines": lines,
        "band": next((band for band in BANDS if band[0] <= row["acceleration"] < band[1]), BANDS[-1]),
        "figures": {name: row["figures"][key] for key, name in names.items()},
        "errors": {name: float(np.mean([hiding[key] for hiding in row["hidings"]])) for key, name in names.items()},
        "noise": float(np.mean([hiding["noise"] for hiding in row["hidings"]])),
        "hidings": len(row["hidings"]),
    }


def trial_of(row: dict[str, Any]) -> HeldOut:
    """Return what held-out samples of a scan showed."""
    return HeldOut(row["errors"], 1.0, row["noise"], row["hidings"])


def usable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the scans of which at least one candidate made an image."""
    return [row for row in rows if max(value[0] for value in row["figures"].values()) > _USABLE]


def learn(rows: list[dict[str, Any]], weights_sha256: str) -> dict[str, Any]:
    """Return what `recond_models.evidence.Calibration` reads."""
    cells = [
        cell for lines, band in itertools.product((True, False), BANDS) if (cell := _cell(rows, lines=lines, band=band))
    ]
    result: dict[str, Any] = {
        "weights_sha256": weights_sha256,
        "cells": cells,
        "slopes": {"lines": 0.0, "points": 0.0},
        "margin": 0.0,
        "guards": guards(rows),
    }
    result["slopes"], result["margin"] = _weights(rows, result)
    return result


def _cell(rows: list[dict[str, Any]], *, lines: bool, band: tuple[float, float]) -> dict[str, Any] | None:
    inside = [row for row in rows if row["lines"] == lines and tuple(row["band"]) == band]
    kinds = [[row for row in inside if row["measured"] == measured] for measured in (True, False)]
    if not inside:
        return None

    def mean(value: Callable[[dict[str, Any]], float], parts: list[list[dict[str, Any]]]) -> float:
        return round(float(np.mean([np.mean([value(row) for row in part]) for part in parts if part])), 5)

    def ssim_of(name: str) -> Callable[[dict[str, Any]], float]:
        return lambda row: float(row["figures"][name][0])

    def logarithm_of(name: str) -> Callable[[dict[str, Any]], float]:
        return lambda row: trial_of(row).logarithm(name)

    return {
        "lines": lines,
        "acceleration": list(band),
        "ssim": {name: mean(ssim_of(name), kinds) for name in CANDIDATES},
        "measured_ssim": {name: mean(ssim_of(name), kinds[:1]) for name in CANDIDATES} if kinds[0] else {},
        "log_error": {name: mean(logarithm_of(name), kinds) for name in CANDIDATES},
        "measured": len(kinds[0]),
        "simulated": len(kinds[1]),
    }


def _weights(rows: list[dict[str, Any]], result: dict[str, Any]) -> tuple[dict[str, float], float]:
    """Choose how much held-out samples count: by the SSIM that decisions would have lost, the smaller weight where it is level."""
    best: tuple[float, dict[str, float], float] | None = None
    for for_lines, for_points, margin in itertools.product(_SLOPES, _SLOPES, _MARGINS):
        slopes = {"lines": for_lines, "points": for_points}
        learnt = Calibration.from_json(result | {"slopes": slopes, "margin": margin})
        by_kind = {(cell.lines, cell.acceleration): cell for cell in learnt.cells}
        lost = []
        for row in rows:
            cell = by_kind[row["lines"], tuple(row["band"])]
            name = decide(cell, trial_of(row), learnt).model
            weight = 2.0 if row["measured"] else 1.0
            lost.append(weight * (max(value[0] for value in row["figures"].values()) - row["figures"][name][0]))
        total = float(np.mean(lost)) + _CAUTION * (for_lines + for_points) - _CAUTION * margin
        if best is None or total < best[0] - 1e-9:
            best = total, slopes, margin
    if best is None:
        raise ValueError("there are no scans to learn from")
    return best[1], best[2]


def is_good(row: dict[str, Any]) -> bool:
    """Tell whether the network's image of a scan is not clearly worse than that of its classical partner."""
    figures = row["figures"]
    return bool(figures["unrolled-brain"][0] > figures[partner_of(lines=row["lines"])][0] - _CLEARLY_WORSE)


def guards(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the limits of the guard: above what is found on good images, by name of what the network is compared with."""
    good = [row for row in rows if is_good(row)]
    lines, points = ([row for row in good if row["lines"] == of_lines] for of_lines in (True, False))
    return {
        "tv": _limit(lines, lambda row: row["disagreement"]["network tv"]),
        "l1-wavelet": _limit(points, lambda row: row["disagreement"]["network l1-wavelet"]),
        "samples": _limit(good, lambda row: row["residual"]["network"]),
    }


def _limit(rows: list[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> dict[str, float]:
    """Fit the logarithm of a disagreement to those of noise and acceleration, and move the fit above all scans."""
    predictors = np.array(
        [[1.0, math.log(max(row["noise_edge"], 1e-5)), math.log(row["acceleration"])] for row in rows]
    )
    found = np.log([value(row) for row in rows])
    coefficients, *_ = np.linalg.lstsq(predictors, found, rcond=None)
    rest = found - predictors @ coefficients
    room = max(float(rest.max()) + _ROOM, _SPREADS * float(rest.std()))
    constant, noise, acceleration = (float(each) for each in coefficients)
    return {"constant": round(constant + room, 4), "noise": round(noise, 4), "acceleration": round(acceleration, 4)}
