"""From heads to raw multi-coil data to images, label maps and measurements: simulate, serve, reconstruct, compare.

A measured slice that no network was trained on shows the reconstruction beside the truth; a few slices of an average head show what
heads make of the images.

Writes what it makes to a folder, ``out`` by default::

    python examples/demo.py [FOLDER]
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich import box
from rich.console import Console
from rich.table import Column, Table

import recond_client
from recond_client.commands.display_heads import print_heads
from recond_client.embedded import EmbeddedService
from recond_models.simulate import write_ismrmrd
from recond_models.simulate.scan import ScanSettings, SimulatedScan, simulate

SETTINGS: Final = ScanSettings(
    coils=8, slices=1, rows=256, columns=256, acceleration=4, calibration_lines=24, noise=0.004, phantom="sample"
)
HEAD: Final = replace(SETTINGS, slices=5, phantom="head")
HEADS: Final = ("tissue",)
ERROR_GAIN: Final = 5
TILE: Final = 340
GAP: Final = 12
BACKGROUND: Final = (11, 13, 18)
BRIGHT: Final = (236, 239, 244)
DIM: Final = (138, 147, 163)
TINTS: Final = np.array(
    [(86, 180, 233), (230, 159, 0), (240, 228, 66), (0, 158, 115), (204, 121, 167), (213, 94, 0)], dtype=np.float64
)
#: Black, violet, orange, pale yellow: grows in lightness, so it also reads in grey.
HEAT: Final = np.array([[0, 0, 0], [72, 22, 104], [190, 55, 82], [249, 142, 8], [252, 254, 200]], dtype=np.float64)


def main(folder: Path) -> None:
    """Run the demonstration.

    Parameters
    ----------
    folder
        Where to write the raw data and the picture; made if it is not there.
    """
    console = Console()
    folder.mkdir(parents=True, exist_ok=True)
    raw, head, picture = folder / "sample_4fold.h5", folder / "head_4fold.h5", folder / "demo.png"
    started = time.perf_counter()

    with ThreadPoolExecutor(1) as pool:
        simulating = pool.submit(simulate_to, raw, SETTINGS)
        also_simulating = pool.submit(simulate_to, head, HEAD)
        with EmbeddedService() as service, recond_client.Client(service.target) as client:
            client.wait_until_ready()
            console.print(f"[bold]serving[/bold] on {service.target}", highlight=False)
            scan = simulating.result()
            print_scan(console, scan, raw)
            results = {
                name: client.reconstruct(raw, model=model, reference=scan.whitened_truth, timeout=120)
                for name, model in (("zero-filled", "rss"), ("recond", "unrolled-brain"))
            }
            also_simulating.result()
            labelled = client.reconstruct(head, heads=HEADS, timeout=300)
    print_results(console, results)
    console.print(f"[bold]{HEAD.slices} slices of an average head[/bold]: {labelled.model}, and heads", highlight=False)
    print_heads(console, labelled.head_results)
    draw(scan, results["zero-filled"], results["recond"], labelled).save(picture, optimize=True)
    console.print(f"[bold]look at[/bold] {picture.resolve()}", highlight=False, soft_wrap=True)
    console.print(f"[dim]{time.perf_counter() - started:.1f} s in all[/dim]", highlight=False)


def simulate_to(raw: Path, settings: ScanSettings) -> SimulatedScan:
    """Simulate a scan and write its raw data."""
    scan = simulate(settings)
    write_ismrmrd.write(scan, raw)
    return scan


def print_scan(console: Console, scan: SimulatedScan, raw: Path) -> None:
    """Say what was simulated."""
    console.print(
        f"[bold]simulated[/bold] {raw}: {SETTINGS.coils} coils, {SETTINGS.slices} slices of {SETTINGS.rows} x "
        f"{SETTINGS.columns}, {int(scan.lines.sum())} of {SETTINGS.columns} lines, noise scan, "
        f"{raw.stat().st_size / 2**20:.1f} MiB",
        highlight=False,
    )


def print_results(console: Console, results: dict[str, recond_client.Result]) -> None:
    """Print figures and stage times side by side."""
    for name, result in results.items():
        console.print(f"[bold]{name}[/bold]: {result.model} {result.version}", highlight=False)
    table = Table("", *(Column(name, justify="right") for name in results), box=box.SIMPLE_HEAD)
    for figure, form in (("ssim", "{:.4f}"), ("psnr", "{:.2f} dB"), ("nmse", "{:.5f}")):
        for ending, where in (("_object", " in the object"), ("", " over the picture")):
            values = [getattr(result.figures, figure + ending) for result in results.values()]
            cells = ("-" if value is None else form.format(value) for value in values)
            table.add_row(figure.upper() + where, *cells)
    table.add_section()
    for stage in asdict(recond_client.Seconds()):
        values = [getattr(result.seconds, stage) for result in results.values()]
        table.add_row(f"{stage}, s", *(f"{value:.3f}" for value in values), style="bold" if stage == "total" else "")
    console.print(table)


def draw(
    scan: SimulatedScan, zero_filled: recond_client.Result, recond: recond_client.Result, labelled: recond_client.Result
) -> Image.Image:
    """Return a picture of two rows: the slice as truth, zero-filled, recond and error; four slices with what heads say of them.

    Parameters
    ----------
    scan
        The truth.
    zero_filled, recond
        What became of its raw data.
    labelled
        Images with label maps.
    """
    truth, before, after = scan.whitened_truth[0], zero_filled.images[0], recond.images[0]
    white = float(np.percentile(truth, 99.7))
    error = np.abs(after - truth) * ERROR_GAIN
    panels = [
        (grey(truth / white), "truth", "every line, no noise"),
        (grey(before / white), "zero-filled", figures_of(zero_filled)),
        (grey(after / white), "recond", figures_of(recond)),
        (
            heat(error / white),
            f"error x {ERROR_GAIN}",
            f"{recond.model}, {SETTINGS.acceleration:g}-fold, {SETTINGS.coils} coils",
        ),
        *head_panels(labelled),
    ]
    head, across = 54, 4
    rows = -(-len(panels) // across)
    sheet = Image.new("RGB", (across * (TILE + GAP) + GAP, rows * (TILE + head + GAP)), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    title, caption = ImageFont.load_default(19), ImageFont.load_default(14)
    for number, (pixels, text, below) in enumerate(panels):
        left, top = GAP + number % across * (TILE + GAP), number // across * (TILE + head + GAP)
        pen.text((left + 2, top + 8), text, BRIGHT, title)
        pen.text((left + 2, top + 32), below, DIM, caption)
        tile = Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.LANCZOS)
        sheet.paste(tile, (left, top + head))
    return sheet


def head_panels(labelled: recond_client.Result) -> list[tuple[NDArray[np.uint8], str, str]]:
    """Return the middle slice as it is, with its tissues and how sure of them the head is, and another with its tissues."""
    images = labelled.images
    white = float(np.percentile(images, 99.5))
    tissue = labelled.heads.get("tissue")
    middle = len(images) // 2
    panels = [(grey(images[middle] / white), "reconstructed", f"{labelled.model}, slice {middle + 1} of {len(images)}")]
    if tissue is None or tissue.label_map is None or tissue.confidence is None:
        return [*panels, (grey(images[middle] * 0), "tissue", tissue.refusal if tissue else "no such head")]
    volumes = sorted(
        ((tissue.measured("volume", value) or 0.0, name) for name, value in tissue.labels.items()), reverse=True
    )
    for number, named in ((middle, volumes[:2]), (max(middle - 1, 0), volumes[2:4])):
        told = ", ".join(f"{name} {volume:.0f} ml" for volume, name in named)
        panels.append((tinted(images[number] / white, tissue.label_map[number]), f"tissue, slice {number + 1}", told))
    return [*panels, (heat(1 - tissue.confidence[middle]), "doubt", "1 - probability of the label")]


def tinted(values: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return values in [0, 1] as grey pixels (rows, columns, 3), with a tint for each label."""
    pixels = grey(values).astype(np.float64)
    inside = labels > 0
    pixels[inside] = 0.6 * pixels[inside] + 0.4 * TINTS[(labels[inside] - 1) % len(TINTS)]
    return pixels.astype(np.uint8)


def figures_of(result: recond_client.Result) -> str:
    """Return SSIM and PSNR inside the object in words."""
    return f"SSIM {result.figures.ssim_object or 0:.3f}   PSNR {result.figures.psnr_object or 0:.1f} dB"


def grey(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return values in [0, 1] as grey pixels (rows, columns, 3)."""
    levels = np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)
    return np.repeat(levels[..., np.newaxis], 3, axis=-1)


def heat(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return values in [0, 1] as coloured pixels (rows, columns, 3)."""
    stops = np.linspace(0, 1, len(HEAT))
    clipped = np.clip(values, 0, 1)
    return np.stack([np.interp(clipped, stops, HEAT[:, channel]) for channel in range(3)], axis=-1).astype(np.uint8)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("out"))
