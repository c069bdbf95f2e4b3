"""How well predicted standard deviations fit the errors, on held-out subjects and the measured seven-coil head.

    python bench/quality/deviations.py --volumes out/volumes [--frames 4]

For every cell: the root mean square of errors over that of predictions (1 is right, more is too sure of itself), the part of the
pixels within one and within two predicted deviations (68 % and 95 % of a normal distribution), and the rank correlation of
predicted deviation and error over blocks of 8 x 8 pixels. Pixels in the object count.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import trained
from numpy.typing import NDArray
from scenes import Scene
from scipy import stats

from recond_models import loading
from recond_models.batch import PackedBatch, Reconstructor
from recond_models.finishing import Finishing, finish, finish_deviations
from recond_models.object_metrics import object_mask

_BLOCK = 8


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=Path, default=trained.ROOT / "out" / "volumes")
    parser.add_argument("--model", default="unrolled-brain")
    parser.add_argument("--frames", type=int, default=4, help="frames in each simulated cell")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = loading.load(arguments.model)
    print("| | error / predicted | within 1 | within 2 | rank correlation |\n|---|---|---|---|---|")
    for name, scenes in trained.scenes_of(arguments.volumes, arguments.frames).items():
        pairs = [errors_of(model, scene) for scene in scenes]
        errors, deviations = (np.concatenate([pair[part] for pair in pairs]) for part in (0, 1))
        ratio = np.sqrt(np.mean(errors**2) / np.mean(deviations**2))
        within = [np.mean(np.abs(errors) < times * deviations) for times in (1, 2)]
        ranks = np.mean([pair[2] for pair in pairs])
        print(f"| {name} | {ratio:.2f} | {within[0]:.0%} | {within[1]:.0%} | {ranks:.2f} |", flush=True)


def errors_of(model: Reconstructor, scene: Scene) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """Return errors and predicted deviations of the pixels in the object, and the rank correlation of both over blocks."""
    batch = PackedBatch.pack([scene.kspace], [scene.mask], [scene.calibration], deviations=True)
    with torch.inference_mode():
        made = model.reconstruct(batch)
    finishings = [Finishing(scene.truth.shape)]
    (image,), (deviation,) = finish(made, finishings, complex_images=[False]), finish_deviations(made, finishings)
    if image is None or deviation is None:
        raise SystemExit(f"{model.info.name} predicts no deviations")
    error, predicted = image.numpy() - scene.truth, deviation.numpy()
    inside = object_mask(scene.truth[None])[0]
    rows, columns = (size // _BLOCK * _BLOCK for size in inside.shape)

    def blocks(values: NDArray[np.float32]) -> NDArray[np.float32]:
        cut = values[:rows, :columns].reshape(rows // _BLOCK, _BLOCK, columns // _BLOCK, _BLOCK)
        means: NDArray[np.float32] = cut.mean(axis=(1, 3))
        return means

    whole = blocks(inside.astype(np.float32)) == 1
    correlation = stats.spearmanr(blocks(error**2)[whole], blocks(predicted**2)[whole]).statistic
    return error[inside], predicted[inside], float(correlation)


if __name__ == "__main__":
    main()
