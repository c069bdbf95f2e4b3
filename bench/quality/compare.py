"""The comparison over all cells, on heads that nothing was trained on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scenes
from methods import Method, Outcome, outside_contract
from numpy.typing import NDArray
from results import Results
from scenes import Cell, Scene
from scipy import ndimage

from recond_models import metrics, object_metrics
from recond_models.training.volumes import Volume

_STEP = 2.0
_MOST_STEPS = 5
_DETAIL_PIXELS = 4
_WRONG_BY = 0.15
_TISSUE = 0.2


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


def figures(outcome: Outcome, truth: NDArray[np.float32]) -> dict[str, float | None]:
    """Score an image against its truth, in the object and over the whole picture without a crop."""
    pair = truth[None], outcome.image[None]
    inside = object_metrics.object_mask(truth)
    within = object_metrics.inside_object(*pair, inside[None])
    return {
        "ssim_object": within.ssim,
        "psnr_object": within.psnr,
        "nmse_object": within.nmse,
        "ssim": metrics.ssim(*pair, square=False),
        "psnr": metrics.psnr(*pair, square=False),
        "nmse": metrics.nmse(*pair, square=False),
        "wrong_detail": wrong_detail(truth, outcome.image, inside),
        "residual": outcome.residual,
        "seconds": outcome.seconds,
    }


def wrong_detail(truth: NDArray[np.float32], image: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    """Return the share of the tissue in which detail of 4 x 4 pixels is lost or invented: its mean is off by over 15 percent."""
    expected, shown = (ndimage.uniform_filter(one.astype(np.float64), _DETAIL_PIXELS) for one in (truth, image))
    tissue = inside & (expected > _TISSUE * np.quantile(truth, 0.99))
    return float((np.abs(shown - expected)[tissue] > _WRONG_BY * expected[tissue]).mean())


def compare(results: Results, cells: Sequence[Cell], methods: Sequence[Method], test: Slices, tuning: Slices) -> None:
    """Fill in what is missing of the comparison."""
    warm: set[str] = set()
    for number, cell in enumerate(cells):
        done = results.entry("cells", cell.key)
        missing = [method for method in methods if done.get(method.name, {}).get("identity") != method.identity]
        if not missing:
            continue
        print(f"{number + 1}/{len(cells)} {cell.key}: {', '.join(method.name for method in missing)}", flush=True)
        held_out = test.scenes(cell)
        for method in missing:
            weight = tune(results, cell, method, tuning)
            try:
                if method.name not in warm:
                    method.run(held_out[0], weight)  # compiling and first touches do not count
                    warm.add(method.name)
                rows = [figures(method.run(scene, weight), scene.truth) for scene in held_out]
            except ValueError as error:
                print(f"  {method.name}: {error}", file=sys.stderr)
                done[method.name] = {"identity": method.identity, "refused": str(error)}
                results.save()
                continue
            entry: dict[str, Any] = {"identity": method.identity, "weight": weight}
            entry |= {name: [row[name] for row in rows] for name in rows[0]}
            if method.kind == "network":
                entry["outside"] = outside_contract(method.name, held_out[0])
            done[method.name] = entry
            results.save()


def tune(results: Results, cell: Cell, method: Method, tuning: Slices) -> float | None:
    """Return the weight with the best SSIM in the object of another slice of the head; None for a method without one.

    It is sought once for similar cells, by steps of two from the best of the most similar ones.
    """
    if method.weight is None:
        return None
    practised = scenes.tuning_cell(cell)
    known = results.entry("weights", practised.key)
    identity = f"{method.name} {method.identity}"
    if identity not in known:
        practice = tuning.scenes(practised)

        def score(weight: float) -> float:
            return float(
                np.mean([figures(method.run(scene, weight), scene.truth)["ssim_object"] for scene in practice])
            )

        known[identity] = climb(score, _nearest(results, practised, identity) or method.weight)
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
    for other in dict.fromkeys(scenes.tuning_cell(one) for one in scenes.cells()):
        weight = results.data["weights"].get(other.key, {}).get(identity)
        if weight is not None:
            distance = (
                3 * abs(np.log10(other.noise / cell.noise))
                + abs(np.log2(other.acceleration / cell.acceleration))
                + 0.5 * (other.mask != cell.mask)
            )
            candidates.append((distance, float(weight)))
    return min(candidates)[1] if candidates else None
