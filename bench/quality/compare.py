"""The comparison over all cells: weights tuned on training subjects, figures on held-out ones."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scenes
from methods import Method, Outcome, outside_contract
from results import Results
from scenes import Cell, Scene

from recond_models import metrics
from recond_models.training.volumes import Volume

_STEP = 2.0
_MOST_STEPS = 6


class Slices:
    """Coil images of the slices, made once for a number of coils.

    Parameters
    ----------
    volumes
        Heads; slices take turns between them.
    specification
        View, offset and weighting of each slice.
    """

    def __init__(self, volumes: Sequence[Volume], specification: Sequence[tuple[str, float, str]]) -> None:
        self._images = [
            (scenes.magnitude(volumes[number % len(volumes)], *one), one) for number, one in enumerate(specification)
        ]
        self._with_coils: dict[int, list[Any]] = {}

    def __len__(self) -> int:
        return len(self._images)

    def coil_images(self, coils: int) -> list[Any]:
        """Return the coil images of all slices, complex64 (coils, rows, columns) each."""
        if coils not in self._with_coils:
            self._with_coils = {
                coils: [scenes.coil_images(image, view, offset, coils) for image, (view, offset, _) in self._images]
            }
        return self._with_coils[coils]

    def scenes(self, cell: Cell) -> list[Scene]:
        """Measure all slices in a cell."""
        return [scenes.measure(one, cell, number) for number, one in enumerate(self.coil_images(cell.coils))]


def figures(outcome: Outcome, truth: np.ndarray) -> dict[str, float | None]:
    """Score an image against its truth; the whole picture counts, no crop."""
    pair = truth[None], outcome.image[None]
    return {
        "ssim": metrics.ssim(*pair, square=False),
        "psnr": metrics.psnr(*pair, square=False),
        "nmse": metrics.nmse(*pair, square=False),
        "residual": outcome.residual,
        "seconds": outcome.seconds,
    }


def compare(results: Results, cells: Sequence[Cell], methods: Sequence[Method], test: Slices, tuning: Slices) -> None:
    """Fill in what is missing of the comparison."""
    for number, cell in enumerate(cells):
        done = results.entry("cells", cell.key)
        missing = [method for method in methods if done.get(method.name, {}).get("identity") != method.identity]
        if not missing:
            continue
        print(f"{number + 1}/{len(cells)} {cell.key}: {', '.join(method.name for method in missing)}", flush=True)
        held_out = test.scenes(cell)
        practice: list[Scene] = []
        for method in missing:
            weight = method.weight
            if weight is not None:
                practice = practice or tuning.scenes(cell)
                weight = tune(results, cell, method, practice)
            method.run(held_out[0], weight)  # compiling and first touches do not count
            rows = []
            for scene in held_out:
                try:
                    rows.append(figures(method.run(scene, weight), scene.truth))
                except ValueError as error:
                    print(f"  {method.name}: {error}", file=sys.stderr)
                    break
            entry: dict[str, Any] = {"identity": method.identity, "weight": weight}
            if len(rows) == len(held_out):
                entry |= {name: [row[name] for row in rows] for name in rows[0]}
            if method.kind == "network":
                entry["outside"] = outside_contract(method.name, held_out[0])
            done[method.name] = entry
            results.save()


def tune(results: Results, cell: Cell, method: Method, practice: Sequence[Scene]) -> float:
    """Return the weight with the best SSIM on training subjects, found by steps of two from the best of the last cell."""
    known = results.entry("weights", cell.key)
    identity = f"{method.name} {method.identity}"
    if identity in known:
        return float(known[identity])
    start = _nearest(results, cell, identity) or method.weight
    assert start is not None

    def score(weight: float) -> float:
        return float(np.mean([figures(method.run(scene, weight), scene.truth)["ssim"] for scene in practice]))

    known[identity] = climb(score, start)
    results.save()
    return float(known[identity])


def climb(score: Callable[[float], float], start: float) -> float:
    """Return the best of start * 2^n, walking uphill."""
    scores = {0: score(start)}
    for direction in (1, -1):
        step = direction
        while abs(step) <= _MOST_STEPS:
            scores[step] = score(start * _STEP**step)
            if scores[step] <= scores[step - direction]:
                break
            step += direction
        if scores[direction] > scores[0]:
            break  # uphill this way means downhill the other way
    best = max(scores, key=lambda step: scores[step])
    return start * _STEP**best


def _nearest(results: Results, cell: Cell, identity: str) -> float | None:
    """Return the weight that was found for the most similar cell."""
    candidates = []
    for other in scenes.cells():
        weight = results.data["weights"].get(other.key, {}).get(identity)
        if weight is not None:
            distance = (
                3 * abs(np.log10(other.noise / cell.noise))
                + abs(np.log2(other.acceleration / cell.acceleration))
                + 0.5 * (other.mask != cell.mask)
                + 0.2 * abs(np.log2(other.coils / cell.coils))
            )
            candidates.append((distance, float(weight)))
    return min(candidates)[1] if candidates else None
