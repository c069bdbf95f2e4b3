"""The report: tables, plots and pictures from the figures that are kept. Needs no reconstruction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import scenes
from compare import Slices, figures
from methods import Method
from results import Results
from scenes import Cell

mpl.use("Agg")
from matplotlib import pyplot as plt  # after the choice of a backend

_PICTURE_CELLS = (Cell("equispaced", 4, 8, 0.005), Cell("poisson", 8, 8, 0.005))
_INTRODUCTION = (
    f"Slices of a head that no network was trained on ({len(scenes.TEST_SLICES)} for every cell, {scenes.SHAPE[0]} x "
    f"{scenes.SHAPE[1]}, {scenes.PIXEL_MM:g} mm), with simulated phase, coils and noise. SSIM and PSNR against the root sum of "
    "squares of the coil images without noise, over the whole picture. Noise is the standard deviation of real and imaginary part "
    "in a coil, as a fraction of the brightest pixels. The noise of the volume itself is part of the truth."
)
_RIVALS = 4  # classical methods that must have run in a cell before it is counted
_FIRST = ("rss", "cg-sense", "l1-wavelet", "tv", "bart-l1", "bart-tv")


def write(results: Results, path: Path) -> None:
    """Write the report in Markdown with a plot beside it."""
    cells = [cell for cell in scenes.cells() if cell.key in results.data["cells"]]
    names = _names(results, cells)
    text = [
        "# Quality of the reconstructions",
        "",
        "Made by `make quality` from `quality.json`; `python bench/quality --only report` renders it again.",
        "",
        _INTRODUCTION,
        "The weights of cg-sense, l1-wavelet, tv and BART's `pics` are tuned in every cell for the best SSIM on a training head.",
        f"Times are wall times on {results.data['machine']['processor']}; other work may have run beside.",
        "",
    ]
    text += _against_classical(results, cells, names)
    text += _tables(results, cells, names)
    text += _probes(results, names)
    text += _measured(results, names)
    path.parent.mkdir(parents=True, exist_ok=True)
    images = path.parent / "images"
    images.mkdir(exist_ok=True)
    if cells:
        plot(results, cells, names, images / "quality.png")
        text += ["## Over acceleration", "", "![SSIM over acceleration](images/quality.png)", ""]
    for cell in _PICTURE_CELLS:
        picture = images / _picture_name(cell)
        if picture.is_file():
            text += [f"![{cell.key}](images/{picture.name})", "", f"{cell.key}: images above, errors (x 5) below.", ""]
    path.write_text("\n".join(text).rstrip() + "\n")


def plot(results: Results, cells: Sequence[Cell], names: Sequence[str], path: Path) -> None:
    """Draw mean SSIM over acceleration, one panel for each mask, for 8 coils and the middle noise."""
    figure, axes = plt.subplots(1, len(scenes.MASKS), figsize=(12, 3.6), sharey=True)
    for axis, mask in zip(axes, scenes.MASKS, strict=True):
        chosen = sorted(
            (cell for cell in cells if (cell.mask, cell.coils, cell.noise) == (mask, 8, 0.005)),
            key=lambda cell: cell.acceleration,
        )
        for name in names:
            points = [(cell.acceleration, mean(results, cell, name, "ssim")) for cell in chosen]
            points = [point for point in points if point[1] is not None]
            axis.plot(*zip(*points, strict=True), marker="o", label=name) if points else None
        axis.set(title=f"{mask}, 8 coils, noise 0.005", xlabel="acceleration")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("SSIM")
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        axes[-1].legend(handles, labels, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def pictures(results: Results, methods: Sequence[Method], held_out: Slices, folder: Path) -> list[str]:
    """Draw one slice by every method, with its error, in the cells that have been run."""
    drawn = []
    for cell in _PICTURE_CELLS:
        entries = results.data["cells"].get(cell.key, {})
        ready = [method for method in methods if "ssim" in entries.get(method.name, {})]
        if not ready:
            continue
        scene = held_out.scenes(cell)[0]
        figure, axes = plt.subplots(2, len(ready) + 1, figsize=(2.4 * (len(ready) + 1), 5.6), squeeze=False)
        axes[0][0].imshow(scene.truth, cmap="gray", vmin=0, vmax=1)
        axes[0][0].set_title("truth", fontsize=9)
        axes[1][0].imshow(scene.mask, cmap="gray")
        for column, method in enumerate(ready, start=1):
            outcome = method.run(scene, entries[method.name]["weight"])
            score = figures(outcome, scene.truth)
            axes[0][column].imshow(outcome.image, cmap="gray", vmin=0, vmax=1)
            axes[0][column].set_title(f"{method.name}\n{score['ssim']:.3f}, {score['psnr']:.1f} dB", fontsize=9)
            axes[1][column].imshow(5 * np.abs(outcome.image - scene.truth), cmap="magma", vmin=0, vmax=1)
        for axis in axes.ravel():
            axis.axis("off")
        figure.tight_layout()
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / _picture_name(cell), dpi=90)
        plt.close(figure)
        drawn.append(_picture_name(cell))
    return drawn


def mean(results: Results, cell: Cell, name: str, figure: str) -> float | None:
    """Return the mean of a figure over the slices of a cell, None if the method did not run there."""
    values = results.data["cells"].get(cell.key, {}).get(name, {}).get(figure)
    if not values or values[0] is None:
        return None
    return float(np.median(values) if figure == "seconds" else np.mean(values))


def _names(results: Results, cells: Sequence[Cell]) -> list[str]:
    """Return the methods in the order of the tables."""
    found = {name for cell in cells for name in results.data["cells"][cell.key]}
    found |= set(results.data["probes"]) | set(results.data["measured"])
    return [name for name in _FIRST if name in found] + sorted(found - set(_FIRST))


def _against_classical(results: Results, cells: Sequence[Cell], names: Sequence[str]) -> list[str]:
    """Return how much the networks are above the best classical method of each cell, SSIM and PSNR each by its own best."""
    networks = [name for name in names if name.startswith("unrolled")]
    central = [cell for cell in cells if cell.coils >= 8 and 4 <= cell.acceleration <= 8]
    rows: list[list[Any]] = []
    for name in networks:
        for mask in (*scenes.MASKS, "all"):
            gains: dict[str, list[float]] = {"ssim": [], "psnr": []}
            for cell in central:
                for figure, kept in gains.items():
                    rivals = [mean(results, cell, rival, figure) for rival in names if rival not in networks]
                    known = [value for value in rivals if value is not None]
                    own = mean(results, cell, name, figure)
                    if mask in {cell.mask, "all"} and own is not None and len(known) >= _RIVALS:
                        kept.append(own - max(known))
            if gains["ssim"]:
                both = [value for kept in gains.values() for value in (float(np.mean(kept)), min(kept))]
                rows.append([f"{name}, {mask} ({len(gains['ssim'])} cells)", *both])
    if not rows:
        return []
    head = ["", "SSIM, mean", "SSIM, worst cell", "PSNR, mean (dB)", "PSNR, worst cell (dB)"]
    explained = (
        "Difference to the best tuned classical method of each cell with 8 coils or more and 4 to 8-fold undersampling."
    )
    return ["## Networks above the best classical method", "", explained, "", *_table(head, rows, 3, None), ""]


def _tables(results: Results, cells: Sequence[Cell], names: Sequence[str]) -> list[str]:
    """Return a table for every figure; the best of a row is bold."""
    text = []
    for figure, title, digits, better in (
        ("ssim", "SSIM", 3, max),
        ("psnr", "PSNR (dB)", 1, max),
        ("nmse", "NMSE", 4, min),
        ("residual", "Data-consistency residual", 3, None),
        ("seconds", "Seconds for a slice", 2, None),
    ):
        rows = [[cell.key, *(mean(results, cell, name, figure) for name in names)] for cell in cells]
        text += [f"## {title}", "", *_table(["cell", *names], rows, digits, better), ""]
    return text


def _probes(results: Results, names: Sequence[str]) -> list[str]:
    """Return the tables on lesions, stability and what is no head."""
    probes = results.data["probes"]
    ready = [name for name in names if name in probes]
    if not ready:
        return []
    text = [
        "## Small lesions",
        "",
        "Recovered share of the contrast of discs in the brain: mean, and the worst of all discs.",
        "",
    ]
    rows: list[list[Any]] = []
    for cell, sizes in probes[ready[0]]["lesions"].items():
        rows.extend(
            [f"{cell}, {_diameter(size)}", *(probes[name]["lesions"][cell].get(size) for name in ready)]
            for size in sizes
        )
    text += [*_table(["", *ready], rows, 2, None), ""]
    rows = [[cell, *(probes[name]["stability"][cell] for name in ready)] for cell in probes[ready[0]]["stability"]]
    explained = (
        "Relative change of the image over that of the samples, the largest of three random changes of 1 percent."
    )
    text += ["## Stability", "", explained, "", *_table(["", *ready], rows, 2, None), ""]
    rows = [
        ["correlation of images of independent noise", *(probes[name]["noise"]["alike"] for name in ready)],
        ["size of the image of noise, zero-filled = 1", *(probes[name]["noise"]["size"] for name in ready)],
        ["SSIM of bars of 2 to 8 pixels, Poisson 8-fold", *(probes[name]["grating"]["ssim"] for name in ready)],
        ["change of the image at scales of 1e-6 and 1e6", *(probes[name]["scale"] for name in ready)],
    ]
    return [*text, "## What is no head", "", *_table(["", *ready], rows, 3, None), ""]


def _diameter(size: str) -> str:
    """Return what the probes call ``"4"`` or ``"4 worst"`` in words."""
    diameter, _, worst = size.partition(" ")
    return f"{diameter} mm{', ' + worst if worst else ''}"


def _measured(results: Results, names: Sequence[str]) -> list[str]:
    """Return the table of the measured head."""
    entries = results.data["measured"]
    ready = [name for name in names if name in entries]
    if not ready:
        return []
    explained = (
        "Eight coils, 8-fold Poisson-disc, no reference. Error of a tenth of the samples that were left out, predicted with one "
        "set of maps and the smooth phase of the calibration block for all methods; weights chosen by the same error."
    )
    rows = [["held-out-sample error", *(entries[name]["held_out_error"] for name in ready)]]
    shown = " ".join(f"![{name}](images/quality-measured-{name}.png)" for name in ready)
    return ["## A measured head", "", explained, "", *_table(["", *ready], rows, 4, min), "", shown, ""]


def _table(
    head: Sequence[str], rows: Sequence[Sequence[Any]], digits: int, better: Callable[..., float] | None
) -> list[str]:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for first, *values in rows:
        known = [value for value in values if value is not None]
        best = better(known) if better and known else None
        cells = ["-" if value is None else f"{value:.{digits}f}" for value in values]
        cells = [
            f"**{cell}**" if value == best and best is not None else cell
            for cell, value in zip(cells, values, strict=True)
        ]
        lines.append("| " + " | ".join([str(first), *cells]) + " |")
    return lines


def _picture_name(cell: Cell) -> str:
    """Return the file name of the picture of a cell."""
    return f"quality-{cell.mask}-{cell.acceleration}x.png"
