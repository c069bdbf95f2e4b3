"""Every candidate on every scene: figures against the truth, disagreement, and errors at samples that were held out."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evidence_scenes import Case, cases
from methods import pack

from recond_models import loading
from recond_models.classical import noise, parallel
from recond_models.classical.parallel import ParallelImaging, PosedMethod
from recond_models.classical.scale import bright_pixels
from recond_models.ensemble import held_out
from recond_models.networks import noise_level
from recond_models.object_metrics import inside_object
from recond_models.sampling import Sampling

MEMBERS = {"network": "unrolled-brain", "tv": "tv", "l1-wavelet": "l1-wavelet"}
MEANS = {
    "network+tv": ("network", "tv"),
    "network+l1-wavelet": ("network", "l1-wavelet"),
    "tv+l1-wavelet": ("tv", "l1-wavelet"),
    "network+tv+l1-wavelet": ("network", "tv", "l1-wavelet"),
    "2network+tv": ("network", "network", "tv"),
    "network+2tv": ("network", "tv", "tv"),
    "2network+l1-wavelet": ("network", "network", "l1-wavelet"),
    "network+2l1-wavelet": ("network", "l1-wavelet", "l1-wavelet"),
}
HIDINGS = 3


def collect(path: Path, volumes: Path, slices: int, members: dict[str, PosedMethod]) -> None:
    """Append a line of JSON for every case that `path` does not have yet."""
    known = {json.loads(line)["key"] for line in path.read_text().splitlines()} if path.exists() else set()
    seen: dict[str, int] = {}
    with path.open("a") as file, torch.inference_mode():
        for case in cases(volumes, slices):
            seen[case.cell] = seen.get(case.cell, 0) + 1
            key = f"{case.cell} #{seen[case.cell]}"
            if key in known:
                continue
            began = time.process_time()
            row = {"key": key, "cell": case.cell, "measured": case.measured} | examine(case, members)
            row["seconds"] = time.process_time() - began
            file.write(json.dumps(row) + "\n")
            file.flush()


def examine(case: Case, members: dict[str, PosedMethod]) -> dict[str, Any]:
    """Return the figures of a case."""
    scene = case.scene
    coils = scene.kspace.shape[0]
    block = (scene.calibration.shape[1], scene.calibration.shape[2])
    sampling = Sampling.of(scene.mask, block, coils)
    batch = pack(scene)
    posed = parallel.pose(batch, members["network"].info, torch.device("cpu"))
    images = {name: member.solve(posed) for name, member in members.items()}
    data = posed.encoding.adjoint(posed.kspace)
    layout, masks = posed.encoding.layout, posed.encoding.masks
    bright = bright_pixels(images["tv"])
    scale = float(posed.scales[0])
    rows: dict[str, Any] = {
        "pattern": sampling.pattern,
        "acceleration": sampling.acceleration,
        "coils": coils,
        "matrix": list(scene.mask.shape),
        "noise_edge": float(noise.deviations(posed.kspace, masks, layout)[0] / bright[0]),
        "noise_calibrated": float(noise_level.deviations(posed.kspace, masks, layout)[0] / bright[0]),
        "start": _difference(data, images["tv"]),
    }
    combined = images | {name: sum(images[part] for part in parts) / len(parts) for name, parts in MEANS.items()}
    rows["figures"] = {}
    for name, image in combined.items():
        found = inside_object(scene.truth[None], scale * image.abs().numpy())
        rows["figures"][name] = [found.ssim, found.psnr]
    rows["disagreement"] = {
        "network tv": _difference(images["network"], images["tv"]),
        "network l1-wavelet": _difference(images["network"], images["l1-wavelet"]),
        "tv l1-wavelet": _difference(images["l1-wavelet"], images["tv"]),
    }
    rows["residual"] = {
        name: float(torch.linalg.norm(posed.encoding(image) - posed.kspace) / torch.linalg.norm(posed.kspace))
        for name, image in images.items()
    }
    rows["noise_energy"] = float(noise_level.deviations(posed.kspace, masks, layout)[0]) * float(
        np.sqrt(2 * coils * scene.mask.sum()) / torch.linalg.norm(posed.kspace)
    )
    rows["hidings"] = [hiding(posed, scene.mask, block, number, members) for number in range(HIDINGS)]
    return rows


def hiding(
    posed: ParallelImaging, mask: Any, block: tuple[int, int], number: int, members: dict[str, PosedMethod]
) -> dict[str, float]:
    """Return squared errors of every candidate at hidden samples, over their energy."""
    hidden = torch.from_numpy(held_out.draw(mask, block, number))[None]
    rest = held_out.without(posed, hidden)
    truth = held_out.measured(posed, hidden)
    predictions = {name: held_out.predict(posed, member.solve(rest), hidden) for name, member in members.items()}
    predictions |= {name: sum(predictions[part] for part in parts) / len(parts) for name, parts in MEANS.items()}
    energy = float(truth.abs().square().sum())
    found = {"noise": held_out.noise_energy(posed, truth) / energy}
    found |= {name: float((value - truth).abs().square().sum()) / energy for name, value in predictions.items()}
    return found


def _difference(image: torch.Tensor, other: torch.Tensor) -> float:
    """Return the norm of the difference over that of the other."""
    return float(torch.linalg.norm(image - other) / torch.linalg.norm(other))


def load_members() -> dict[str, PosedMethod]:
    """Return the candidates that are no means, ready to run."""
    return {name: loading.load(model) for name, model in MEMBERS.items()}  # type: ignore[misc]


if __name__ == "__main__":
    torch.set_num_threads(1)
    collect(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), load_members())
