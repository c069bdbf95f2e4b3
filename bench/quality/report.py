"""The report: what beats what, pictures, and every figure that is kept. Needs no reconstruction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pictures
import scenes
import tables
from results import Results
from scenes import Cell

from recond_models import registry

KEPT = "<!-- What stands below this line is written by hand and kept. -->"
_SHORT = 10  # cells that are listed one by one


def _listed(values: Sequence[float]) -> str:
    """Return numbers with commas."""
    return ", ".join(f"{one:g}" for one in values)


_INTRODUCTION = f"""# Quality of the reconstructions

Made by `make quality` from `quality.json`, which goes on where it ended: new weights cost their own columns only.
`make quality ARGS='--only report'` renders the page again.

* **Simulated**: {len(scenes.TEST_SLICES)} slices ({scenes.SHAPE[0]} x {scenes.SHAPE[1]}, {scenes.PIXEL_MM:g} mm, two axial, one
  coronal) of a real head that no network was trained on, in {len(scenes.cells())} cells: {len(scenes.MASKS)} patterns at
  {_listed(scenes.ACCELERATIONS)}-fold with {scenes.MIDDLE[0]} coils and a noise of {scenes.MIDDLE[1]:g}; at 4 and 8-fold also
  {_listed(scenes.COILS)} coils, and noises of {_listed(scenes.NOISES)} (standard deviation of real and imaginary part in a coil,
  as a fraction of the bright pixels). Phase and arrays are drawn by the simulator of [training](training.md). `partial` is partial
  Fourier: equispaced lines without the last quarter of k-space. The reference is the root sum of squares of the coil images without
  noise.
* **Measured**: a seven-coil head, fully sampled, with masks of ours, against the root sum of squares of all its samples, whose
  noise is in the reference; an eight-coil head, 8-fold, without a reference, of which a tenth of the samples is hidden and
  predicted; and single-coil heads, two of clinical scanners and two at 0.055 T.
* **Figures** are [inside the object](formats.md#references) first; those over the picture, without a crop, in brackets.
  *Wrong detail* is the share of the tissue in which the mean of 4 x 4 pixels is off by more than 15 %: detail lost or invented.
* **Methods**: recond's models just as the service runs them. *tuned*: the weight of the penalty is the best (in steps of two, by
  SSIM in the object) for another slice of the same head at the same noise, and 4 or 8-fold, whichever is nearer: more than anybody
  has on a scan. BART's `ecalib` and `pics`, 100 iterations, with wavelets (`bart-l1`) and total variation (`bart-tv`), are tuned
  the same way, and compress more than 12 coils as recond does. On measured heads both have the best of the weights for the three
  noises, chosen with the reference. With 8 to 11 calibration lines BART's maps have faults (bright spots in the picture of random
  lines); kernels of 3, 4 or half the lines were tried, and the last, which is used, is best or within about 0.01 SSIM of the
  best."""


def write(results: Results, path: Path) -> None:
    """Write the report in Markdown with plots beside it; what was written below the mark stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = path.parent / "images"
    images.mkdir(exist_ok=True)
    cells = tables.cells(results)
    names = tables.names(results)
    networks = [name for name in names if name not in tables.FIRST]
    simulated = [(cell.key, results.data["cells"][cell.key]) for cell in cells]
    measured = tables.measured(results, "seven coils")
    versions = [f"`{info.name}` version {info.version}" for info in registry.available() if info.name in networks]
    text = [
        _INTRODUCTION,
        "",
        f"These are the figures of {', '.join(versions) or 'no network'}. One thread on {results.data['machine']['processor']}.",
        "Other work ran beside, so times are for comparison with each other.",
        "",
        "## What beats what",
        "",
        *_in_short(results, simulated, measured, networks),
        f"### Simulated, mean over {len(simulated)} cells (SSIM / PSNR in dB)",
        "",
        *tables.summary([entries for _, entries in simulated], names),
        "",
    ]
    if measured:
        text += [f"### Measured seven-coil head, mean over {len(measured)} masks", ""]
        text += [*tables.summary([entries for _, entries in measured], names), ""]
    text += _eight_coils(results, names)
    text += _by_group(simulated, cells, networks)
    pictures.plots(results, images)
    text += _images(images)
    text += _probes(results, names)
    text += _measured(results, names, measured)
    text += _cells(simulated, names)
    hand = path.read_text().partition(KEPT)[2].strip("\n") if path.is_file() else ""
    path.write_text("\n".join([*text, KEPT, *(["", hand] if hand else [])]).rstrip() + "\n")


def _in_short(
    results: Results,
    simulated: Sequence[tuple[str, dict[str, Any]]],
    measured: Sequence[tuple[str, dict[str, Any]]],
    networks: Sequence[str],
) -> list[str]:
    """Return in words how each network stands to the best classical model and to the best rival of all."""
    text = []
    for name in networks:
        sentences = []
        for where, kept in (
            (f"{len(simulated)} simulated cells", simulated),
            (f"{len(measured)} masks of the measured seven-coil head", measured),
        ):
            for what, rivals in (
                (f"the {tables.BEST_CLASSICAL}", tables.AS_SERVED),
                (f"the {tables.BEST_TUNED}", tables.FIRST),
            ):
                groups = [entries for _, entries in kept]
                ssim, psnr = (tables.differences(groups, name, rivals, one) for one in ("ssim_object", "psnr_object"))
                if ssim:
                    sentences.append(
                        f"{where}: {np.mean(ssim):+.3f} SSIM and {np.mean(psnr):+.2f} dB beside {what}, "
                        f"{_below([label for label, _ in _ran(kept, name)], ssim)}"
                    )
        held = {key: found for key, found in _held_out(results).items() if key == name or key in tables.AS_SERVED}
        if name in held and len(held) > 1:
            other = min((key for key in held if key != name), key=lambda key: held[key])
            sentences.append(
                f"hidden samples of the measured eight-coil head: error {held[name]:.4f}, of `{other}` {held[other]:.4f}"
            )
        text += [f"* **`{name}`**, in the object:", *(f"  * {sentence}." for sentence in sentences)]
    return [*text, ""] if text else []


def _below(labels: Sequence[str], differences: Sequence[float]) -> str:
    """Return in words in which cells a method has the lower SSIM."""
    below = [label for label, one in zip(labels, differences, strict=True) if one < 0]
    if len(below) in {0, len(labels)}:
        return f"below it in {'all' if below else 'none'}"
    return f"below it in {len(below)}" + (f" ({', '.join(below)})" if len(below) <= _SHORT else "")


def _ran(kept: Sequence[tuple[str, dict[str, Any]]], name: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the cells in which a method has figures."""
    return [(label, entries) for label, entries in kept if tables.value(entries, name, "ssim_object") is not None]


def _held_out(results: Results) -> dict[str, float]:
    """Return the mean error of the hidden samples of the eight-coil head by method."""
    entries = results.data["measured"].get("eight coils", {})
    found = {name: entry.get("held_out_error") for name, entry in entries.items()}
    return {name: float(np.mean(errors)) for name, errors in found.items() if errors and errors[0] is not None}


def _eight_coils(results: Results, names: Sequence[str]) -> list[str]:
    """Return the table of the head without a reference."""
    errors = _held_out(results)
    ready = [name for name in names if name in errors]
    if not ready:
        return []
    best = min(errors.values())
    row = [f"**{errors[name]:.4f}**" if errors[name] == best else f"{errors[name]:.4f}" for name in ready]
    return [
        "### Measured eight-coil head, 8-fold Poisson disc: error of hidden samples",
        "",
        "`||prediction - sample|| / ||sample||` of a tenth of the samples outside the calibration block, mean over two draws, by",
        "the complex image and the maps that made it. Noise alone makes it about 0.24.",
        "",
        *tables.text_table(["", *ready], [["error", *row]]),
        "",
    ]


def _by_group(
    simulated: Sequence[tuple[str, dict[str, Any]]], cells: Sequence[Cell], networks: Sequence[str]
) -> list[str]:
    """Return where networks gain and lose, by pattern, acceleration, coils and noise."""
    coils, noise = scenes.MIDDLE
    text = [
        "## Where networks gain and lose",
        "",
        f"In the object, above the {tables.BEST_CLASSICAL} of each cell.",
        "",
    ]
    middle = [(cell, entries) for cell, (_, entries) in zip(cells, simulated, strict=True)]
    crossed = [(cell, entries) for cell, entries in middle if cell.acceleration in {4, 8}]
    groups = [(cell.mask, entries) for cell, entries in middle]
    groups += [
        (f"{cell.acceleration}-fold", entries) for cell, entries in middle if (cell.coils, cell.noise) == (coils, noise)
    ]
    groups += [(f"{cell.coils} coils", entries) for cell, entries in crossed if cell.noise == noise]
    groups += [(f"noise {cell.noise:g}", entries) for cell, entries in crossed if cell.coils == coils]
    return [*text, *tables.networks_by(groups, networks, tables.AS_SERVED), ""]


def _images(folder: Path) -> list[str]:
    """Return the plots and pictures that there are."""
    text = ["## Plots and pictures", "", "![SSIM over acceleration](images/quality.png)", ""]
    text += ["![SSIM over coils and noise](images/quality-coils-noise.png)", ""]
    listed = [(pictures.simulated_name(cell), f"Simulated, {cell.key}") for cell in pictures.PICTURE_CELLS]
    listed += [
        (pictures.measured_name(cell), f"Measured seven-coil head, {cell.mask}, {cell.acceleration}-fold")
        for cell in pictures.MEASURED_CELLS
    ]
    for name, label in listed:
        if (folder / name).is_file():
            text += [
                f"{label}: images above, errors (x 5) below, SSIM and PSNR in the object.",
                "",
                f"![{label}](images/{name})",
                "",
            ]
    if (folder / "quality-eight-coils.png").is_file():
        text += [
            "Measured eight-coil head, all samples.",
            "",
            "![Measured eight-coil head](images/quality-eight-coils.png)",
            "",
        ]
    return text


def _probes(results: Results, names: Sequence[str]) -> list[str]:
    """Return the tables on lesions, stability and what is no head."""
    probes = results.data["probes"]
    ready = [name for name in names if name in probes]
    if not ready:
        return []
    text = [
        "## Small lesions, kept or lost",
        "",
        "Discs of 30 % less and 15 % more signal in the brain of a held-out slice, eight places each. Recovered share of their",
        "contrast: mean, the worst of all, and how many lost more than half.",
        "",
    ]
    rows = []
    for cell, sizes in probes[ready[0]]["lesions"].items():
        for diameter in dict.fromkeys(size.split()[0] for size in sizes):
            found = [probes[name]["lesions"][cell] for name in ready]
            rows.append(
                [
                    f"{cell}, {diameter} mm",
                    *(
                        f"{one[diameter]:.2f}, worst {one[f'{diameter} worst']:.2f}, lost {one[f'{diameter} lost']:.0%}"
                        for one in found
                    ),
                ]
            )
    text += [*tables.text_table(["", *ready], rows), ""]
    rows = [
        [cell, *(f"{probes[name]['stability'][cell]:.2f}" for name in ready)] for cell in probes[ready[0]]["stability"]
    ]
    text += [
        "## Stability",
        "",
        "Relative change of the image over that of the samples, the larger of two random changes of 1 %.",
        "",
        *tables.text_table(["", *ready], rows),
        "",
        "## Hallucination, and what is no head",
        "",
        "Images of independent noise that are alike show structure that the data do not have. The bars are 2 to 8 pixels wide.",
        "",
    ]
    rows = [
        ["correlation of images of independent noise", *(f"{probes[name]['noise']['alike']:.3f}" for name in ready)],
        ["size of the image of noise, zero-filled = 1", *(f"{probes[name]['noise']['size']:.3f}" for name in ready)],
        ["SSIM of bars, Poisson 8-fold", *(f"{probes[name]['grating']['ssim']:.3f}" for name in ready)],
        ["change of the image at scales of 1e-6 and 1e6", *(f"{probes[name]['scale']:.1e}" for name in ready)],
    ]
    return [*text, *tables.text_table(["", *ready], rows), ""]


def _measured(results: Results, names: Sequence[str], measured: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """Return the tables of the measured heads with a reference."""
    text = []
    if measured:
        text += [
            "## The measured seven-coil head",
            "",
            "SSIM in the object (over the picture). The reference has a noise floor of 2.7 % of its maximum, which rules the",
            "figures over the picture: there the zero-filled `rss`, which has a floor too, looks best.",
            "",
            *tables.twice(measured, names, "ssim", ".3f", max),
            "",
            "PSNR in dB.",
            "",
            *tables.twice(measured, names, "psnr", ".1f", max),
            "",
        ]
    single = tables.measured(results, "one coil")
    if single:
        text += [
            "## Measured heads of one coil",
            "",
            "Two heads from clinical scanners and two at 0.055 T, undersampled. With one coil recond has the zero-filled image",
            "alone: its other models need sensitivities and say so. BART's compressed sensing, with a map of ones, shows what is",
            "missing here. SSIM in the object (over the picture).",
            "",
            *tables.twice(single, names, "ssim", ".3f", max),
            "",
        ]
    return text


def _cells(simulated: Sequence[tuple[str, dict[str, Any]]], names: Sequence[str]) -> list[str]:
    """Return a table for every figure of the simulated cells."""
    text = ["## Every cell", "", "Pattern, acceleration, coils, noise.", ""]
    for figure, title, form, better in (
        ("ssim", "SSIM in the object (over the picture)", ".3f", max),
        ("psnr", "PSNR in the object (over the picture), dB", ".1f", max),
        ("nmse", "NMSE in the object (over the picture)", ".4f", min),
    ):
        text += [f"### {title}", "", *tables.twice(simulated, names, figure, form, better), ""]
    for figure, title, form, factor in (
        ("wrong_detail", "Wrong detail, % of the tissue", ".1f", 100),
        ("residual", "Data-consistency residual", ".3f", 1),
        ("seconds", "Seconds for a slice", ".2f", 1),
    ):
        text += [f"### {title}", "", *tables.plain(simulated, names, figure, form, factor), ""]
    return text
