"""From a head to raw multi-coil data to images: simulate, serve, reconstruct, compare.

Writes what it makes to a folder, ``out`` by default::

    python examples/demo.py [FOLDER]
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich import box
from rich.console import Console
from rich.table import Column, Table

import recond_client
from recond_client.embedded import EmbeddedService
from recond_models.simulate import write_ismrmrd
from recond_models.simulate.scan import ScanSettings, SimulatedScan, simulate

SETTINGS: Final = ScanSettings(
    coils=8, slices=2, rows=256, columns=256, acceleration=4, calibration_lines=24, noise=0.004, phantom="head"
)
ERROR_GAIN: Final = 5
TILE: Final = 340
GAP: Final = 12
BACKGROUND: Final = (11, 13, 18)
BRIGHT: Final = (236, 239, 244)
DIM: Final = (138, 147, 163)
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
    raw, picture = folder / "head_4fold.h5", folder / "demo.png"
    started = time.perf_counter()

    with ThreadPoolExecutor(1) as pool:
        simulating = pool.submit(simulate_to, raw)
        with EmbeddedService() as service, recond_client.Client(service.target) as client:
            client.wait_until_ready()
            console.print(f"[bold]serving[/bold] on {service.target}", highlight=False)
            scan = simulating.result()
            print_scan(console, scan, raw)
            results = {
                name: client.reconstruct(raw, model=model, reference=scan.whitened_truth, timeout=120)
                for name, model in (("zero-filled", "rss"), ("recond", "l1-wavelet"))
            }
    print_results(console, results)
    draw(scan, results["zero-filled"], results["recond"]).save(picture, optimize=True)
    console.print(f"[bold]look at[/bold] {picture.resolve()}", highlight=False, soft_wrap=True)
    console.print(f"[dim]{time.perf_counter() - started:.1f} s in all[/dim]", highlight=False)


def simulate_to(raw: Path) -> SimulatedScan:
    """Simulate the scan and write its raw data."""
    scan = simulate(SETTINGS)
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


def draw(scan: SimulatedScan, zero_filled: recond_client.Result, recond: recond_client.Result) -> Image.Image:
    """Return the middle slice four times: truth, zero-filled, recond, error; one grey scale for all.

    Parameters
    ----------
    scan
        The truth.
    zero_filled, recond
        What became of its raw data.
    """
    middle = SETTINGS.slices // 2
    truth, before, after = scan.whitened_truth[middle], zero_filled.images[middle], recond.images[middle]
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
    ]
    head = 54
    sheet = Image.new("RGB", (len(panels) * (TILE + GAP) + GAP, TILE + head + GAP), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    title, caption = ImageFont.load_default(19), ImageFont.load_default(14)
    for number, (pixels, text, below) in enumerate(panels):
        left = GAP + number * (TILE + GAP)
        pen.text((left + 2, 8), text, BRIGHT, title)
        pen.text((left + 2, 32), below, DIM, caption)
        tile = Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.LANCZOS)
        sheet.paste(tile, (left, head))
    return sheet


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
