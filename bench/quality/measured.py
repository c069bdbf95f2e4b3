"""Measured k-space from the project's shared data, each part left out where its file is absent.

* `midas_brain_7ch`: seven coils, fully sampled, so there is a reference: the root sum of squares of all samples, with their noise.
* `brain_8ch`: eight coils, 8-fold Poisson disc, no reference. A tenth of the samples is hidden and predicted.
* Single-coil heads, fully sampled: what recond's models refuse is in the results too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from compare import Slices, figures, tune
from methods import Method, Outcome
from numpy.typing import NDArray
from results import Results
from scenes import MIDDLE, NOISES, Cell, Mask, Scene, calibration_extent, draw_mask, root_sum_of_squares

from recond_models.training.fields import to_images

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
BRAIN = DATA / "brain_8ch.h5"
KSPACE = DATA / "test" / "kspace"
MIDAS = KSPACE / "midas_brain_7ch.h5"
SINGLE = ("ucsf_se_t1_sag_1ch", "admm_complex_sag_1ch", "lowfield_6A_GRE", "lowfield_7A_FSE")
MIDAS_CELLS: tuple[tuple[Mask, int], ...] = (
    ("equispaced", 2),
    ("equispaced", 4),
    ("equispaced", 6),
    ("random", 4),
    ("poisson", 4),
    ("poisson", 8),
    ("poisson", 10),
    ("partial", 4),
)
SINGLE_CELLS: tuple[tuple[Mask, int], ...] = (("random", 2), ("poisson", 4))
_MASKS_EACH = 2
_HELD_OUT = 0.1
_HIDINGS = 2


def run(results: Results, methods: Sequence[Method], tuning: Slices) -> None:
    """Fill in what is missing; say which files are absent."""
    for path in (MIDAS, BRAIN, *(KSPACE / f"{name}.h5" for name in SINGLE)):
        if not path.is_file():
            print(f"left out: there is no {path}")
    for part, mask, acceleration, scenes in with_reference():
        done = results.entry("measured", part, f"{mask} {acceleration}x")
        for method in methods:
            if done.get(method.name, {}).get("identity") == method.identity:
                continue
            print(f"{part}, {mask} {acceleration}x: {method.name}", flush=True)
            done[method.name] = scored(method, weights(results, mask, acceleration, method, tuning), scenes)
            results.save()
    if BRAIN.is_file():
        held_out(results, methods, tuning)


def weights(results: Results, mask: Mask, acceleration: int, method: Method, tuning: Slices) -> list[float | None]:
    """Return the weights that were tuned for the simulated noises, for the noise of a measured scan is not known."""
    return list(
        dict.fromkeys(tune(results, Cell(mask, acceleration, MIDDLE[0], noise), method, tuning) for noise in NOISES)
    )


def scored(method: Method, weights: Sequence[float | None], scenes: Sequence[Scene]) -> dict[str, Any]:
    """Return the entry of a method with the weight that is best by SSIM in the object, an advantage that nobody has on a scan."""
    entries = []
    for weight in weights:
        try:
            rows = [figures(method.run(scene, weight), scene.truth) for scene in scenes]
        except ValueError as error:
            return {"identity": method.identity, "refused": str(error)}
        entry: dict[str, Any] = {"identity": method.identity, "weight": weight}
        entries.append(entry | {name: [row[name] for row in rows] for name in rows[0]})
    return max(entries, key=lambda entry: float(np.mean(entry["ssim_object"])))


def with_reference() -> Iterator[tuple[str, Mask, int, list[Scene]]]:
    """Yield the part of the results, pattern and acceleration, and the scenes."""
    if MIDAS.is_file():
        for mask, acceleration in MIDAS_CELLS:
            scenes = [undersampled(MIDAS, mask, acceleration, seed) for seed in range(_MASKS_EACH)]
            yield "seven coils", mask, acceleration, scenes
    single = [path for path in (KSPACE / f"{name}.h5" for name in SINGLE) if path.is_file()]
    for mask, acceleration in SINGLE_CELLS if single else ():
        yield "one coil", mask, acceleration, [undersampled(path, mask, acceleration, 0) for path in single]


def undersampled(path: Path, mask: Mask, acceleration: int, seed: int) -> Scene:
    """Return the first slice of a fully sampled file, undersampled; its truth is the root sum of squares of all its samples."""
    with h5py.File(path) as file:
        kspace = file["kspace"][0]
    truth = root_sum_of_squares(to_images(kspace.copy()))
    scale = np.float32(1 / np.quantile(truth, 0.99))
    chosen = draw_mask(
        mask, acceleration, (kspace.shape[1], kspace.shape[2]), f"{path.stem} {mask} {acceleration} {seed}"
    )
    return scene_of(kspace * scale, chosen, truth * scale)


def scene_of(kspace: NDArray[np.complex64], mask: NDArray[np.bool_], truth: NDArray[np.float32] | None = None) -> Scene:
    """Return measured samples as a scene; its truth is empty if there is none."""
    height, width = calibration_extent(mask)
    rows, columns = mask.shape
    top, left = rows // 2 - height // 2, columns // 2 - width // 2
    samples = (kspace * mask).astype(np.complex64)
    block = samples[:, top : top + height, left : left + width].copy()
    return Scene(samples, mask, block, np.zeros((0, 0), dtype=np.float32) if truth is None else truth)


def held_out(results: Results, methods: Sequence[Method], tuning: Slices) -> None:
    """Predict samples of the eight-coil head that were hidden; with the best of the weights, as in `scored`."""
    hidings = [load(number) for number in range(_HIDINGS)]
    done = results.entry("measured", "eight coils")
    for method in methods:
        if done.get(method.name, {}).get("identity") == method.identity:
            continue
        print(f"eight coils: {method.name}", flush=True)
        tried = []
        for weight in weights(results, "poisson", 8, method, tuning):
            errors = [
                error(method.run(scene_of(whole.kspace, whole.mask & ~hidden), weight), whole, hidden)
                for whole, hidden in hidings
            ]
            tried.append({"identity": method.identity, "weight": weight, "held_out_error": errors})
        known = [entry for entry in tried if None not in entry["held_out_error"]]
        done[method.name] = min(known, key=lambda entry: sum(entry["held_out_error"])) if known else tried[0]
        results.save()


def load(number: int = 0) -> tuple[Scene, NDArray[np.bool_]]:
    """Return the eight-coil head, and a tenth of its samples outside the calibration block; `number` draws others."""
    with h5py.File(BRAIN) as file:
        kspace, mask = file["kspace"][0], file["mask"][()]
    scene = scene_of(kspace, mask)
    free = mask.copy()
    rows, columns = mask.shape
    height, width = scene.calibration.shape[1:]
    free[rows // 2 - height // 2 :, columns // 2 - width // 2 :][:height, :width] = False
    return scene, free & (np.random.default_rng(10 + number).random(mask.shape) < _HELD_OUT)


def error(outcome: Outcome, whole: Scene, hidden: NDArray[np.bool_]) -> float | None:
    """Return ``||prediction - sample|| / ||sample||`` over the hidden samples; None where a method predicts nothing.

    What virtual coils leave out of the samples counts as an error.
    """
    if outcome.predicted is None:
        return None
    samples = whole.kspace[:, hidden]
    return float(np.linalg.norm(outcome.predicted[:, hidden] - samples) / np.linalg.norm(samples))
