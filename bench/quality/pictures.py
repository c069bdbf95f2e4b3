"""Plots from the figures that are kept, and pictures of single slices by every method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
import measured
import numpy as np
import scenes
import tables
from compare import Slices, figures, tune
from matplotlib.axes import Axes
from methods import Method, Outcome
from numpy.typing import NDArray
from PIL import Image
from results import Results
from scenes import Cell, Scene

mpl.use("Agg")
from matplotlib import pyplot as plt  # after the choice of a backend

PICTURE_CELLS = (Cell("equispaced", 4, 8, 0.005), Cell("random", 6, 8, 0.005), Cell("poisson", 8, 8, 0.005))
MEASURED_CELLS = (Cell("equispaced", 4, 8, 0.005), Cell("poisson", 8, 8, 0.005))
_ERRORS_TIMES = 5
_STYLES = {"rss": ":", "cg-sense": ":", "bart-l1": "--", "bart-tv": "--"}


def plots(results: Results, folder: Path) -> None:
    """Draw SSIM in the object over acceleration for every pattern, and over coils and noise for every pattern at 4 and 8-fold."""
    names = [name for name in tables.names(results) if not name.endswith(" tuned")]
    coils, noise = scenes.MIDDLE
    figure, axes = plt.subplots(1, len(scenes.MASKS), figsize=(15, 4), sharey=True)
    for axis, mask in zip(axes, scenes.MASKS, strict=True):
        _lines(results, axis, names, [(a, Cell(mask, a, coils, noise)) for a in scenes.ACCELERATIONS])
        axis.set(title=f"{mask}, {coils} coils, noise {noise:g}", xlabel="acceleration")
    _finish(figure, axes, folder / "quality.png")
    figure, grid = plt.subplots(2, len(scenes.MASKS), figsize=(15, 7.5), sharey=True)
    for axis, mask in zip(grid[0], scenes.MASKS, strict=True):
        _lines(results, axis, names, [(c, Cell(mask, 4, c, noise)) for c in scenes.COILS])
        axis.set(title=f"{mask}, 4-fold, noise {noise:g}", xlabel="coils")
        axis.set_xscale("log", base=2)
        axis.set_xticks(scenes.COILS, [str(count) for count in scenes.COILS])
    for axis, mask in zip(grid[1], scenes.MASKS, strict=True):
        _lines(results, axis, names, [(n, Cell(mask, 8, coils, n)) for n in scenes.NOISES])
        axis.set(title=f"{mask}, 8-fold, {coils} coils", xlabel="noise", xscale="log")
        axis.set_xticks(scenes.NOISES, [f"{one:g}" for one in scenes.NOISES])
        axis.minorticks_off()
    _finish(figure, grid.ravel(), folder / "quality-coils-noise.png")


def _lines(results: Results, axis: Axes, names: Sequence[str], points: Sequence[tuple[float, Cell]]) -> None:
    """Draw one line for every method."""
    for name in names:
        known = [
            (place, found)
            for place, cell in points
            if (found := tables.value(results.data["cells"].get(cell.key, {}), name, "ssim_object")) is not None
        ]
        if known:
            style, width = _STYLES.get(name, "-"), 2.2 if name not in tables.FIRST else 1.4
            axis.plot(*zip(*known, strict=True), style, marker="o", markersize=4, linewidth=width, label=name)
    axis.grid(alpha=0.3)


def _finish(figure: plt.Figure, axes: Sequence[Axes], path: Path) -> None:
    """Put one legend below all panels and write the plot."""
    axes[0].set_ylabel("SSIM in the object")
    if len(axes) > len(scenes.MASKS):
        axes[len(scenes.MASKS)].set_ylabel("SSIM in the object")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.tight_layout(rect=(0, 0.3 / figure.get_figheight(), 1, 1))
    figure.legend(handles, labels, loc="lower center", ncols=8, frameon=False)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def pictures(results: Results, methods: Sequence[Method], held_out: Slices, tuning: Slices, folder: Path) -> list[str]:
    """Draw single slices by every method, with their errors where there is a truth; return the names of the files."""
    shown = [method for method in methods if not method.name.endswith(" tuned")]
    drawn = []

    def runs(cell: Cell, *measured_part: str) -> Callable[[Method, Scene], Outcome]:
        """Return how to run a method with the weight that its figures were made with."""
        kept = results.entry("measured", *measured_part) if measured_part else {}

        def run(method: Method, scene: Scene) -> Outcome:
            known = kept.get(method.name, {})
            return method.run(scene, known["weight"] if "weight" in known else tune(results, cell, method, tuning))

        return run

    for cell in PICTURE_CELLS:
        drawn.append(simulated_name(cell))
        _draw(held_out.scenes(cell)[0], shown, runs(cell), folder / drawn[-1])
    if measured.MIDAS.is_file():
        for cell in MEASURED_CELLS:
            drawn.append(measured_name(cell))
            scene = measured.undersampled(measured.MIDAS, cell.mask, cell.acceleration, 0)
            key = f"{cell.mask} {cell.acceleration}x"
            _draw(scene, shown, runs(cell, "seven coils", key), folder / drawn[-1])
    if measured.BRAIN.is_file():
        drawn.append("quality-eight-coils.png")
        whole, _ = measured.load()
        _draw(whole, shown, runs(MEASURED_CELLS[-1], "eight coils"), folder / drawn[-1])
    return drawn


def simulated_name(cell: Cell) -> str:
    """Return the file name of the picture of a cell."""
    return f"quality-{cell.mask}-{cell.acceleration}x.png"


def measured_name(cell: Cell) -> str:
    """Return the file name of the picture of the measured seven-coil head."""
    return f"quality-seven-coils-{cell.mask}-{cell.acceleration}x.png"


def _draw(scene: Scene, methods: Sequence[Method], run: Callable[[Method, Scene], Outcome], path: Path) -> None:
    """Draw the truth and the sampling, then images above and errors below; without a truth images alone."""
    truth = scene.truth if scene.truth.size else None
    outcomes = [(method.name, run(method, scene)) for method in methods]
    panels = len(outcomes) + (truth is not None)
    figure, axes = plt.subplots(
        1 if truth is None else 2, panels, figsize=(2.2 * panels, 3.2 if truth is None else 5.8), squeeze=False
    )
    if truth is not None:
        _show(axes[0][0], truth, "truth", float(np.quantile(truth, 0.997)))
        _show(axes[1][0], scene.mask.astype(np.float32), f"{1 / scene.mask.mean():.1f}-fold", 1)
    for column, (name, outcome) in enumerate(outcomes, start=int(truth is not None)):
        bright = float(np.quantile(outcome.image if truth is None else truth, 0.997))
        title = name
        if truth is not None:
            score = figures(outcome, truth)
            title = f"{name}\n{score['ssim_object']:.3f}, {score['psnr_object']:.1f} dB"
            error = _ERRORS_TIMES * np.abs(outcome.image - truth)
            axes[1][column].imshow(error, cmap="magma", vmin=0, vmax=bright)
            axes[1][column].axis("off")
        _show(axes[0][column], outcome.image, title, bright)
    figure.tight_layout(pad=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)
    with Image.open(path) as picture:  # half the bytes, no difference that an eye sees
        picture.convert("RGB").quantize(256).save(path, optimize=True)


def _show(axis: Axes, image: NDArray[np.float32], title: str, bright: float) -> None:
    """Show an image in grey."""
    axis.imshow(image, cmap="gray", vmin=0, vmax=bright)
    axis.set_title(title, fontsize=8)
    axis.axis("off")
