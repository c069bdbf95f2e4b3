"""The measured head that comes with the project's shared data: there is no reference, so samples are held out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from methods import Method, Outcome
from numpy.typing import NDArray
from PIL import Image
from results import Results
from scenes import Scene, calibration_extent

from recond_kernels import espirit
from recond_models.training.fields import to_images, to_kspace

BRAIN = Path(__file__).resolve().parents[3] / "shared" / "data" / "brain_8ch.h5"
_HELD_OUT = 0.1
_WEIGHT_FACTORS = (0.25, 0.5, 1, 2, 4)


def run(results: Results, methods: Sequence[Method], pictures: Path) -> None:
    """Predict samples that were left out, and keep the image of all samples; nothing where the head is absent."""
    if not BRAIN.is_file():
        print(f"no measured head at {BRAIN}")
        return
    whole, left_out = load()
    part = scene_of(whole.kspace, whole.mask & ~left_out)
    block = torch.from_numpy(part.calibration)
    maps = espirit.estimate_batch([block], part.mask.shape, crop=0.95).numpy()
    phase = phase_of(part, maps)
    for method in methods:
        done = results.entry("measured", method.name)
        if done.get("identity") == method.identity:
            continue
        print(f"measured head: {method.name}", flush=True)
        factors = (1.0,) if method.weight is None else _WEIGHT_FACTORS
        errors = {}
        for factor in factors:
            weight = None if method.weight is None else factor * method.weight
            errors[factor] = error(method.run(part, weight), phase, maps, whole, left_out)
        best = min(errors, key=lambda factor: errors[factor])
        outcome = method.run(whole, None if method.weight is None else best * method.weight)
        results.entry("measured")[method.name] = {
            "identity": method.identity,
            "weight": None if method.weight is None else best * method.weight,
            "held_out_error": errors[best],
            "seconds": outcome.seconds,
        }
        results.save()
        pictures.mkdir(parents=True, exist_ok=True)
        bright = np.quantile(outcome.image, 0.995)
        grey = (np.clip(outcome.image / bright, 0, 1) * 255).astype(np.uint8)
        Image.fromarray(grey).save(pictures / f"quality-measured-{method.name}.png", optimize=True)


def load() -> tuple[Scene, NDArray[np.bool_]]:
    """Return the head, and a tenth of its samples outside the calibration block, drawn once and for all."""
    with h5py.File(BRAIN) as file:
        kspace, mask = file["kspace"][0], file["mask"][()]
    scene = scene_of(kspace, mask)
    free = mask.copy()
    rows, columns = mask.shape
    height, width = scene.calibration.shape[1:]
    free[rows // 2 - height // 2 :, columns // 2 - width // 2 :][:height, :width] = False
    return scene, free & (np.random.default_rng(10).random(mask.shape) < _HELD_OUT)


def scene_of(kspace: NDArray[np.complex64], mask: NDArray[np.bool_]) -> Scene:
    """Return measured samples as a scene; there is no truth, so it is empty."""
    height, width = calibration_extent(mask)
    rows, columns = mask.shape
    top, left = rows // 2 - height // 2, columns // 2 - width // 2
    measured = (kspace * mask).astype(np.complex64)
    block = measured[:, top : top + height, left : left + width].copy()
    return Scene(measured, mask, block, np.zeros((0, 0), dtype=np.float32))


def phase_of(scene: Scene, maps: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Return the phase of the image from the calibration block, tapered to its edge.

    The methods give magnitudes. One smooth phase for all of them keeps the comparison fair.
    """
    coils, height, width = scene.calibration.shape
    window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[None, 1:-1]
    rows, columns = scene.mask.shape
    padded = np.zeros((coils, rows, columns), dtype=np.complex64)
    top, left = rows // 2 - height // 2, columns // 2 - width // 2
    padded[:, top : top + height, left : left + width] = scene.calibration * window
    combined = (maps.conj() * to_images(padded)).sum(axis=0)
    phase: NDArray[np.complex64] = np.exp(1j * np.angle(combined)).astype(np.complex64)
    return phase


def error(
    outcome: Outcome,
    phase: NDArray[np.complex64],
    maps: NDArray[np.complex64],
    whole: Scene,
    left_out: NDArray[np.bool_],
) -> float:
    """Return ``||prediction - sample|| / ||sample||`` over the samples that were left out."""
    predicted = to_kspace(maps * (outcome.image * phase))[:, left_out]
    truth = whole.kspace[:, left_out]
    return float(np.linalg.norm(predicted - truth) / np.linalg.norm(truth))
