"""Weights in training beside recond's own reconstructions, on held-out subjects and measured heads.

    python bench/quality/trained.py --volumes out/volumes -o results.json shipped classical RUN.toml=RUN/best.safetensors

Figures are inside the object (`recond_models.object_metrics`). Measured files give figures only.
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import h5py
import measured
import numpy as np
import torch
from methods import pack
from safetensors.torch import load_file
from scenes import Scene, calibration_extent, root_sum_of_squares

from recond_kernels.operators.sense import SenseEncoding
from recond_models import loading, registry
from recond_models.batch import Reconstructor
from recond_models.classical import parallel
from recond_models.classical.parallel import PosedMethod
from recond_models.finishing import magnitudes
from recond_models.masks import mask_for
from recond_models.networks.unrolled import UnrolledNetwork
from recond_models.networks.unrolled_reconstructor import UnrolledReconstructor
from recond_models.object_metrics import inside_object
from recond_models.training.config import TrainingConfig
from recond_models.training.fields import to_images
from recond_models.training.patterns import variable_density
from recond_models.training.simulator import SimulationSettings, Simulator
from recond_models.training.volumes import load_volumes

ROOT = Path(__file__).resolve().parents[2]
_MIDAS = ROOT.parent / "shared" / "data" / "test" / "kspace" / "midas_brain_7ch.h5"
_ALL = {"classical": ("tv", "l1-wavelet"), "shipped": ("unrolled-brain", "unrolled-brain-fast")}


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A cell of simulated slices of subjects that nothing was trained on.

    Parameters
    ----------
    name
        In the table.
    kind, acceleration, coils, noise
        Sampling pattern, array, and range of the noise.
    sides
        Smallest and largest side of the matrix.
    """

    name: str
    kind: str
    acceleration: float
    coils: int
    noise: tuple[float, float]
    sides: tuple[int, int]


CELLS = (
    HeldOut("lines 4x", "equispaced_fraction", 4, 8, (2e-3, 2e-2), (180, 256)),
    HeldOut("random 6x, 16 coils", "random", 6, 16, (2e-3, 2e-2), (180, 256)),
    HeldOut("grid 4x", "grid", 4, 8, (2e-3, 2e-2), (180, 256)),
    HeldOut("poisson 8x", "poisson", 8, 8, (2e-3, 2e-2), (180, 256)),
    HeldOut("poisson 4x", "poisson", 4, 8, (1e-3, 5e-3), (180, 256)),
    HeldOut("small, lines 3x", "equispaced_fraction", 3, 8, (1e-3, 5e-3), (96, 104)),
)
MIDAS_CELLS = (("equispaced_fraction", 4), ("poisson", 8))


def main() -> None:
    """Fill in what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="shipped, classical, a model's name, or CONFIG.toml=WEIGHTS")
    parser.add_argument("--volumes", type=Path, default=ROOT / "out" / "volumes")
    parser.add_argument("-o", "--results", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=6, help="frames in each simulated cell")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results: dict[str, dict[str, list[float]]] = (
        json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
    )
    cells = scenes_of(arguments.volumes, arguments.frames)
    for given in arguments.models:
        for name, load in models(given):
            if name in results:
                continue
            results[name] = figures(load(), cells)
            arguments.results.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


def models(given: str) -> Iterator[tuple[str, Callable[[], Reconstructor]]]:
    """Yield names of models and how to load them."""
    if "=" in given:
        config_path, weights = (Path(part) for part in given.split("="))
        config = TrainingConfig.read(config_path)
        yield f"{config_path.stem} {weights.parent.name}/{weights.stem}", lambda: in_training(config, weights)
        return
    for name in _ALL.get(given, (given,)):
        yield name, lambda name=name: loading.load(name)  # type: ignore[misc]


def in_training(config: TrainingConfig, weights: Path) -> Reconstructor:
    """Return the network of a run: from `best.safetensors`, or the average in `checkpoint.pt`."""
    network = UnrolledNetwork(config.architecture)
    if weights.suffix == ".pt":
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True)["average"])
    else:
        network.load_state_dict(load_file(weights))
    return UnrolledReconstructor(registry.find("unrolled-brain"), network, "cpu", config.precision)


def scenes_of(volumes: Path, frames: int) -> dict[str, list[Scene]]:
    """Return the scenes of all cells with a truth."""
    cells: dict[str, list[Scene]] = {}
    held_out = load_volumes(volumes, "validation")
    for cell in CELLS:
        settings = SimulationSettings(
            max_coils=12,
            coils=(cell.coils,),
            accelerations=(cell.acceleration,) * 2,
            noise=cell.noise,
            kinds=(cell.kind,),
            motion=0,
        )
        simulator = Simulator(held_out, settings)
        generator = np.random.default_rng(zlib.crc32(cell.name.encode()))
        scenes: list[Scene] = []
        while len(scenes) < frames:
            shape = (int(side) // 2 * 2 for side in generator.integers(cell.sides[0], cell.sides[1] + 1, 2))
            rows, columns = shape
            sample = simulator.sample(int(generator.integers(1 << 40)), (rows, columns))
            scenes.append(
                Scene(sample.kspace, sample.mask, sample.calibration, root_sum_of_squares(sample.coil_images))
            )
        cells[cell.name] = scenes
    if _MIDAS.exists():
        for kind, acceleration in MIDAS_CELLS:
            cells[f"measured, {kind.split('_')[0]} {acceleration}x"] = [
                midas(kind, acceleration, seed) for seed in range(3)
            ]
    return cells


def midas(kind: str, acceleration: int, seed: int) -> Scene:
    """Return the measured 7-coil head, undersampled; its truth is the root sum of squares of all samples."""
    with h5py.File(_MIDAS) as file:
        kspace = file["kspace"][0]
    images = to_images(kspace.copy())
    truth = root_sum_of_squares(images)
    scale = np.float32(1 / np.quantile(truth, 0.99))
    shape = (kspace.shape[1], kspace.shape[2])
    if kind == "poisson":
        mask = variable_density(np.random.default_rng([seed, acceleration]), shape, acceleration)
    else:
        mask = np.broadcast_to(mask_for(kind, shape[1], float(acceleration), 0.08, f"midas {seed}"), shape).copy()
    height, width = calibration_extent(mask)
    top, left = shape[0] // 2 - height // 2, shape[1] // 2 - width // 2
    undersampled = (kspace * mask * scale).astype(np.complex64)
    return Scene(
        undersampled,
        mask,
        undersampled[:, top : top + height, left : left + width].copy(),
        (truth * scale).astype(np.float32),
    )


def figures(model: Reconstructor, cells: dict[str, list[Scene]]) -> dict[str, list[float]]:
    """Return SSIM and PSNR in the object, mean over each cell, the held-out error of the 8-coil head, and seconds."""
    found: dict[str, list[float]] = {}
    began = time.process_time()
    for name, scenes in cells.items():
        rows = [
            inside_object(scene.truth[None], magnitudes(model.reconstruct(pack(scene)))[:1].numpy()) for scene in scenes
        ]
        found[name] = [float(np.mean([row.ssim for row in rows])), float(np.mean([row.psnr for row in rows]))]
    found["seconds"] = [time.process_time() - began]
    if measured.BRAIN.is_file():
        found["brain_8ch, held-out error"] = [held_out_error(cast("PosedMethod", model))]
    return found


def held_out_error(model: PosedMethod) -> float:
    """Return ``||prediction - sample|| / ||sample||`` of samples of the 8-coil head that were left out, by the complex image."""
    whole, left_out = measured.load()
    seen = measured.scene_of(whole.kspace, whole.mask & ~left_out)
    problem = parallel.pose(pack(seen), model.info, torch.device("cpu"))
    hidden = torch.from_numpy(left_out)
    with torch.inference_mode():
        images = model.solve(problem)
    # Eight coils are fewer than the virtual ones, so the samples are those of the file, scaled.
    samples = torch.from_numpy(whole.kspace)[:, hidden] / problem.scales.to(torch.float32)
    wrong = (
        SenseEncoding(problem.encoding.sensitivities, hidden[None], problem.encoding.layout)(images)[:, hidden]
        - samples
    )
    return float(torch.linalg.norm(wrong) / torch.linalg.norm(samples))


def table(results: dict[str, dict[str, list[float]]]) -> str:
    """Return Markdown."""
    names = [name for name in next(iter(results.values())) if name != "seconds"]
    lines = [f"| | {' | '.join(names)} | held out, mean |", "|---" * (len(names) + 2) + "|"]
    for model, found in results.items():
        cells = [
            " / ".join(f"{value:.{3 if number == 0 else 2}f}" for number, value in enumerate(found[name]))
            for name in names
        ]
        simulated = np.mean([found[cell.name] for cell in CELLS], axis=0)
        lines.append(f"| {model} | {' | '.join(cells)} | {simulated[0]:.4f} / {simulated[1]:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
