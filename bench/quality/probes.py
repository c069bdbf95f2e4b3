"""What people fear: lesions that vanish, structure that was never measured, images that jump when the data hardly change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scenes
from compare import Slices, tune
from methods import Method, with_kspace
from numpy.typing import NDArray
from results import Results
from scenes import Cell, Scene

from recond_models import metrics
from recond_models.training.fields import to_images, to_kspace

LESION_CELLS = tuple(
    Cell(mask, acceleration, 8, 0.005) for mask in ("equispaced", "poisson") for acceleration in (4, 8)
)
DIAMETERS_MM = (3, 4, 6, 8)
CONTRASTS = (-0.3, 0.15)
_LOST = 0.5
_PLACES = 8
_APART_MM = 20
_PERTURBATIONS = 2
_NOISE_DRAWS = 3


def run(results: Results, methods: Sequence[Method], held_out: Slices, tuning: Slices) -> None:
    """Fill in what is missing."""
    for method in methods:
        done = results.entry("probes", method.name)
        if done.get("identity") == method.identity:
            continue
        print(f"probes: {method.name}", flush=True)
        figures: dict[str, object] = {"identity": method.identity, "lesions": {}, "stability": {}}
        for cell in LESION_CELLS:
            weight = tune(results, cell, method, tuning)
            clean = held_out.scenes(cell)[0]
            figures["lesions"][cell.key] = lesions(method, weight, cell, held_out)  # type: ignore[index]
            figures["stability"][cell.key] = stability(method, weight, clean)  # type: ignore[index]
        cell = LESION_CELLS[-1]
        weight = tune(results, cell, method, tuning)
        figures["noise"] = pure_noise(method, weight, held_out.scenes(cell)[0])
        figures["grating"] = grating(method, weight, held_out.scenes(cell)[0])
        figures["scale"] = scales(method, weight, held_out.scenes(cell)[0])
        results.entry("probes")[method.name] = figures
        results.save()


def lesions(method: Method, weight: float | None, cell: Cell, held_out: Slices) -> dict[str, float]:
    """Return the recovered share of the contrast for every diameter, 1 is all of it, 0 none, and how many lost more than half.

    The same slice is measured with and without discs in the brain; what differs between the two images, averaged over the core
    of the disc, is divided by what differs between the two truths.
    """
    images, number = held_out.coil_images(cell.coils)[0], 0
    without = scenes.measure(images, cell, number)
    before = method.run(without, weight).image
    recovered = {}
    for diameter in DIAMETERS_MM:
        shares = []
        for contrast in CONTRASTS:
            factor, cores = discs(without.truth, diameter / scenes.PIXEL_MM, contrast)
            scene = scenes.measure(images * factor, cell, number)
            change = method.run(scene, weight).image - before
            truth = scene.truth - without.truth
            shares += [float(change[core].mean() / truth[core].mean()) for core in cores]
        recovered[str(diameter)] = float(np.mean(shares))
        recovered[f"{diameter} worst"] = float(np.min(shares))
        recovered[f"{diameter} lost"] = float(np.mean(np.array(shares) < _LOST))
    return recovered


def discs(
    truth: NDArray[np.float32], diameter: float, contrast: float
) -> tuple[NDArray[np.float32], list[NDArray[np.bool_]]]:
    """Return a factor (rows, columns) that puts discs of a relative contrast into bright tissue, and the core of each."""
    generator = np.random.default_rng(8)
    rows, columns = np.indices(truth.shape)
    factor = np.ones_like(truth)
    cores: list[NDArray[np.bool_]] = []
    chosen: list[tuple[int, int]] = []
    middle = (np.hypot(rows - truth.shape[0] / 2, columns - truth.shape[1] / 2) < 60) & (
        truth > 0.3 * np.median(truth[truth > 0.2])
    )
    candidates = generator.permutation(np.argwhere(middle))
    for row, column in candidates:
        if all(np.hypot(row - r, column - c) > _APART_MM / scenes.PIXEL_MM for r, c in chosen):
            chosen.append((int(row), int(column)))
            distance = np.hypot(rows - row, columns - column)
            # A border of one pixel, as partial volume makes it.
            factor += np.float32(contrast) * np.clip(diameter / 2 - distance + 0.5, 0, 1).astype(np.float32)
            cores.append(distance <= max(0.5, diameter / 4))
        if len(chosen) == _PLACES:
            break
    return factor, cores


def stability(method: Method, weight: float | None, scene: Scene) -> float:
    """Return the largest relative change of the image over that of the samples, for random changes of 1 percent."""
    before = method.run(scene, weight).image
    largest = 0.0
    for seed in range(_PERTURBATIONS):
        generator = np.random.default_rng(seed)
        change = (
            generator.standard_normal((*scene.kspace.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
            * scene.mask
        )
        change *= np.float32(0.01) * np.linalg.norm(scene.kspace) / np.linalg.norm(change)
        after = method.run(with_kspace(scene, scene.kspace + change), weight).image
        largest = max(largest, float(np.linalg.norm(after - before) / np.linalg.norm(before)) / 0.01)
    return largest


def pure_noise(method: Method, weight: float | None, scene: Scene) -> dict[str, float]:
    """Reconstruct noise alone: how alike the images of independent noise are, and how large they are beside the zero-filled ones.

    Images of independent noise that are alike share structure that the data do not have. Coils are those of the scene's
    calibration, so that only the samples are noise.
    """
    images, ratios = [], []
    for seed in range(_NOISE_DRAWS):
        generator = np.random.default_rng(100 + seed)
        noise = (
            generator.standard_normal((*scene.kspace.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
            * scene.mask
        )
        image = method.run(replace(scene, kspace=noise * np.float32(0.005)), weight).image
        zero_filled = scenes.root_sum_of_squares(to_images(noise * np.float32(0.005)))
        ratios.append(float(np.linalg.norm(image) / np.linalg.norm(zero_filled)))
        images.append(image)
    head = scene.truth > 0.1
    pairs = [
        float(np.corrcoef(images[one][head], images[other][head])[0, 1])
        for one in range(_NOISE_DRAWS)
        for other in range(one)
        if images[one][head].std() > 0 and images[other][head].std() > 0
    ]
    return {"alike": float(np.mean(pairs)) if pairs else 0.0, "size": float(np.mean(ratios))}


def grating(method: Method, weight: float | None, scene: Scene) -> dict[str, float]:
    """Reconstruct something that is no head: bars of 2 to 8 pixels within the same coils."""
    rows, columns = np.indices(scene.truth.shape)
    inside = np.hypot((rows - 112) / 85, (columns - 96) / 70) < 1
    bars = np.zeros(scene.truth.shape, dtype=np.float32)
    for number, width in enumerate((2, 3, 4, 6, 8)):
        band = (rows // 28) % 5 == number
        bars[band] = ((columns[band] // width) % 2).astype(np.float32)
    pattern = (0.3 + 0.7 * bars) * inside
    full = scenes.coil_images(pattern.astype(np.float32), "axial", 18.0, scene.kspace.shape[0])
    kspace = to_kspace(full) * scene.mask
    truth = scenes.root_sum_of_squares(full)
    image = method.run(with_kspace(scene, kspace), weight).image
    return {
        "ssim": metrics.ssim(truth[None], image[None], square=False),
        "psnr": metrics.psnr(truth[None], image[None], square=False),
    }


def scales(method: Method, weight: float | None, scene: Scene) -> float:
    """Return the largest relative change of the image when the data come at 1e-6 and 1e6 times their scale."""
    before = method.run(scene, weight).image
    largest = 0.0
    for scale in (1e-6, 1e6):
        scaled = with_kspace(scene, scene.kspace * np.float32(scale))
        after = method.run(scaled, weight).image / np.float32(scale)
        largest = max(largest, float(np.linalg.norm(after - before) / np.linalg.norm(before)))
    return largest
