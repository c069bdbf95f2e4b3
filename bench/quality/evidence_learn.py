"""From scans with a truth to `calibration.json`: figures by kind of sampling, weight of held-out samples, limits of the guard."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from recond_models.evidence import CANDIDATES, Calibration, HeldOut, decide, partner_of

BANDS = ((1.0, 3.5), (3.5, 5.0), (5.0, 7.0), (7.0, 13.0))
"""Accelerations, from (inclusive) to (exclusive)."""

_NAMES = {"network": "unrolled-brain", "tv": "tv", "l1-wavelet": "l1-wavelet"}
_SLOPES = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05)
_MARGINS = (0.0, 0.0005, 0.001, 0.002, 0.004)
_GUARD_ROOM = math.log(1.4)  # beyond the largest disagreement of a good image


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
        "hidings": len(row["hidings"]),
    }


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
        "guards": {
            "tv": _limit(rows, lambda row: row["disagreement"]["network tv"]),
            "l1-wavelet": _limit(rows, lambda row: row["disagreement"]["network l1-wavelet"]),
            "samples": _limit(rows, lambda row: row["residual"]["network"]),
        },
    }
    result["slopes"], result["margin"] = _weights(rows, result)
    return result


def _cell(rows: list[dict[str, Any]], *, lines: bool, band: tuple[float, float]) -> dict[str, Any] | None:
    inside = [row for row in rows if row["lines"] == lines and tuple(row["band"]) == band]
    kinds = [[row for row in inside if row["measured"] == measured] for measured in (True, False)]
    if not inside:
        return None

    def mean(value: Any) -> float:  # noqa: ANN401 - a function
        return round(float(np.mean([np.mean([value(row) for row in kind]) for kind in kinds if kind])), 5)

    return {
        "lines": lines,
        "acceleration": list(band),
        "ssim": {name: mean(lambda row, name=name: row["figures"][name][0]) for name in CANDIDATES},
        "log_error": {name: mean(lambda row, name=name: 0.5 * math.log(row["errors"][name])) for name in CANDIDATES},
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
            name = decide(cell, HeldOut(row["errors"], 1.0), learnt).model
            weight = 2.0 if row["measured"] else 1.0
            lost.append(weight * (max(value[0] for value in row["figures"].values()) - row["figures"][name][0]))
        total = float(np.mean(lost)) + 1e-5 * (for_lines + for_points) - 1e-6 * margin
        if best is None or total < best[0] - 1e-9:
            best = total, slopes, margin
    if best is None:
        raise ValueError("there are no scans to learn from")
    return best[1], best[2]


def _limit(rows: list[dict[str, Any]], value: Any) -> dict[str, float]:  # noqa: ANN401 - a function
    """Fit the logarithm of a disagreement to those of noise and acceleration, and move the fit above all scans."""
    predictors = np.array([[1.0, math.log(max(row["noise_edge"], 1e-5)), math.log(row["acceleration"])] for row in rows])
    found = np.log([value(row) for row in rows])
    coefficients, *_ = np.linalg.lstsq(predictors, found, rcond=None)
    room = float((found - predictors @ coefficients).max()) + _GUARD_ROOM
    constant, noise, acceleration = (float(each) for each in coefficients)
    return {"constant": round(constant + room, 4), "noise": round(noise, 4), "acceleration": round(acceleration, 4)}
