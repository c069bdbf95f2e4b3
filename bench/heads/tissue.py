"""How well the head `tissue` labels heads that it was not trained on: a table, a JSON file and pictures.

python bench/heads/tissue.py WEIGHTS -o OUT --volumes out/volumes --data ../shared/data
"""

from __future__ import annotations

import json
import re
import sys
import time
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
from references import BRAIN, Reference, itk, mni152, painted, real

from recond_models.heads.brain import brain_mask
from recond_models.heads.islands import without_islands
from recond_models.heads.network import SliceUNet
from recond_models.heads.segmenter import Segmentation, Segmenter


@click.command()
@click.argument("weights", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("out/heads/tissue"))
@click.option("--volumes", type=click.Path(file_okay=False, path_type=Path), default=Path("out/volumes"))
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), default=Path("../shared/data"))
@click.option("--only", multiple=True, type=click.Choice(["mni152", "itk", "painted", "real"]), help="These alone.")
@click.option("--names", default="", help="Heads whose names match this regular expression alone.")
def main(weights: Path, out: Path, volumes: Path, data: Path, only: tuple[str, ...], names: str) -> None:
    """Evaluate WEIGHTS, a safetensors file beside its architecture.json."""
    torch.set_num_threads(1)
    network = SliceUNet(**json.loads((weights.parent / "architecture.json").read_text()))
    network.load_state_dict(load_file(weights))
    segmenter = Segmenter(network)
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "results.json"
    results: dict[str, dict[str, float]] = json.loads(kept.read_text()) if kept.exists() else {}
    for reference in _references(volumes, data, only):
        if not re.search(names, reference.name):
            continue
        began = time.perf_counter()
        found = segmenter(reference.volume, reference.spacing)
        found = replace(found, labels=without_islands(found.labels, reference.spacing, fluid=1))
        seconds = time.perf_counter() - began
        scores = {name: dice(np.isin(found.labels, classes), mask) for name, (mask, classes) in reference.masks.items()}
        if not reference.masks:
            scores = _brain_scores(reference, found, out / "deepbet")
        scores["ml brain"] = float(np.isin(found.labels, BRAIN).sum() * np.prod(reference.spacing) / 1000)
        results[reference.name] = scores
        shown = "  ".join(f"{name} {value:.3f}" for name, value in scores.items())
        click.echo(f"{reference.name:42s} {seconds:5.1f} s  {shown}")
        _picture(out / f"{reference.name.replace(' ', '_').replace(',', '')}.png", reference, found)
        kept.write_text(json.dumps(results, indent=2) + "\n")


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return the Dice coefficient; NaN if there is neither."""
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else float("nan")


def _references(volumes: Path, data: Path, only: tuple[str, ...]) -> Iterator[Reference]:
    wanted = only or ("mni152", "itk", "painted", "real")
    if "mni152" in wanted:
        yield from mni152()
    if "itk" in wanted:
        yield from itk(volumes)
    if "painted" in wanted:
        yield from painted(volumes)
    if "real" in wanted:
        yield from real(volumes, data)


def _brain_scores(reference: Reference, found: Segmentation, masks: Path) -> dict[str, float]:
    """Compare the brain with deepbet's mask of it, which is kept in a folder."""
    kept = masks / f"{reference.name}.npz"
    if kept.exists():
        mask = np.load(kept)["mask"]
    else:
        mask = _deepbet(reference)
        if mask is None:
            return {}
        masks.mkdir(exist_ok=True)
        np.savez_compressed(kept, mask=mask)
    return {
        "brain mask, deepbet": dice(brain_mask(found.labels, reference.spacing), mask),
        "brain and fluid, deepbet": dice(found.labels > 0, mask),
        "ml deepbet": float(mask.sum() * np.prod(reference.spacing) / 1000),
    }


def _deepbet(reference: Reference) -> NDArray[np.bool_] | None:
    """Return deepbet's mask of the brain (Fisch et al. 2024, doi:10.1016/j.compbiomed.2024.108845); None where it finds none."""
    # It wants pandas for a table that is not written here.
    sys.modules.setdefault("pandas", types.ModuleType("pandas"))
    from deepbet.bet import BrainExtraction

    try:
        _, mask, _ = BrainExtraction(no_gpu=True).run(reference.canonical())
    except (AssertionError, ValueError):  # it finds no brain at all
        return None
    return reference.back(np.asarray(mask.dataobj) > 0)


def _picture(path: Path, reference: Reference, found: Segmentation) -> None:
    """Draw six slices, and the labels over them."""
    numbers = np.linspace(0.15, 0.85, 6) * (len(reference.volume) - 1)
    figure = Figure(figsize=(18, 6.2), layout="constrained")
    axes = figure.subplots(2, 6)
    top = np.percentile(reference.volume, 99.5)
    aspect = reference.spacing[1] / reference.spacing[2]
    for column, number in enumerate(np.round(numbers).astype(int)):
        for row in range(2):
            axes[row, column].imshow(reference.volume[number], cmap="gray", vmax=top, aspect=aspect)
            axes[row, column].axis("off")
        labels = np.ma.masked_equal(found.labels[number], 0)
        axes[1, column].imshow(labels, cmap="tab10", vmin=0, vmax=9, alpha=0.6, interpolation="nearest", aspect=aspect)
    figure.suptitle(reference.name)
    figure.savefig(path, dpi=50)


if __name__ == "__main__":
    main()
