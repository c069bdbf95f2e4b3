"""Stacks of slices as recond itself reconstructs them from undersampled k-space, with the tissues they show.

Heads run on what the reconstructions make, with what these leave of aliasing, noise and smoothing. Reconstructing takes seconds,
so a bank of stacks is made beforehand, and samples are drawn from it::

    python -m recond_models.training.heads.reconstructed out/volumes out/volumes/reconstructed --count 400
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

from recond_models import loading
from recond_models.batch import PackedBatch
from recond_models.finishing import magnitudes
from recond_models.training import arrays, details
from recond_models.training.fields import to_kspace, upsample
from recond_models.training.heads.label_maps import load_maps
from recond_models.training.heads.stack import Stack
from recond_models.training.heads.tissue import TissueSamples, Variety
from recond_models.training.patterns import draw_pattern

MODELS = {
    "rss": 0.15,
    "cg-sense": 0.3,
    "l1-wavelet": 0.15,
    "tv": 0.1,
    "unrolled-brain": 0.15,
    "unrolled-brain-fast": 0.15,
}
"""Which reconstructions, and how often."""

_SIZE = (192, 192)
_ACCELERATIONS = (2.0, 10.0)
_COILS = (4, 8, 8, 12, 16)
_MOST_COILS = 8
_NOISE = (1e-3, 3e-2)
_COARSE = 18
_KINDS = ("equispaced", "random", "poisson")
_SEED = 77
_LEAST_BRAIN = 0.05
_VARIETY = Variety(severity=0.5)


def reconstruct(
    generator: np.random.Generator, slices: NDArray[np.float32], model: str
) -> tuple[NDArray[np.float32], float]:
    """Measure slices with an array of coils, leave samples out, and reconstruct what is left.

    Parameters
    ----------
    generator
        Source of randomness: coils, phase, pattern, noise.
    slices
        float32 (slices, rows, columns), largest value about 1.
    model
        Name of a model of recond.

    Returns
    -------
    images
        float32 (slices, rows, columns).
    acceleration
        Positions over measured positions.
    """
    shape = (slices.shape[1], slices.shape[2])
    coils = int(generator.choice(_COILS))
    down, across = (np.linspace(-side / 2, side / 2, _COARSE) for side in shape)
    points = np.stack([np.broadcast_to(across, (_COARSE, _COARSE)), np.broadcast_to(-down[:, None], (_COARSE, _COARSE)),
                       np.full((_COARSE, _COARSE), generator.uniform(-30, 40))])  # fmt: skip
    fields = upsample(arrays.receive_fields(generator, coils, points)[:_MOST_COILS], shape)
    pattern = draw_pattern(generator, shape, _ACCELERATIONS, _KINDS)
    phase = details.phase(generator, slices[len(slices) // 2])
    level = np.float32(np.exp(generator.uniform(*np.log(_NOISE))))
    rows, columns = pattern.calibration
    top, left = shape[0] // 2 - rows // 2, shape[1] // 2 - columns // 2
    measured, calibrations = [], []
    for image in slices:
        kspace = to_kspace(image * phase * fields)
        noise = generator.standard_normal((*kspace.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
        kspace = kspace + level * noise
        calibrations.append(np.ascontiguousarray(kspace[:, top : top + rows, left : left + columns]))
        measured.append((kspace * pattern.mask).astype(np.complex64))
    batch = PackedBatch.pack(measured, [pattern.mask] * len(measured), calibrations)
    with torch.inference_mode():
        made = magnitudes(loading.load(model).reconstruct(batch))
    return np.asarray(made, dtype=np.float32), pattern.acceleration


@click.command()
@click.argument("volumes", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--count", type=click.IntRange(min=1), default=400, show_default=True, help="Stacks in the bank.")
def main(volumes: Path, folder: Path, count: int) -> None:
    """Fill FOLDER with stacks painted from the label maps in VOLUMES; those that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = TissueSamples(load_maps(volumes, held_out=False), _SIZE, _VARIETY)
    for number in range(count):
        path = folder / f"{number:05d}.npz"
        if path.exists():
            continue
        began = time.monotonic()
        generator = np.random.default_rng([_SEED, number])
        scene = samples.draw(generator)
        while (scene.target > 0).mean() < _LEAST_BRAIN:
            scene = samples.draw(generator)
        model = str(generator.choice(list(MODELS), p=list(MODELS.values())))
        slices, acceleration = reconstruct(generator, scene.image, model)
        Stack(slices, scene.target, model, acceleration).save(path)
        click.echo(f"{path.name}: {model}, {acceleration:.1f}-fold, {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
