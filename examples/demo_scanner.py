"""A scan at the rate of a scanner, through the gateway: its slices appear one by one while later ones are still measured.

Starts a service and a gateway, simulates the raw data of a head, and plays them as a scanner would. Prints when each image came,
and writes a picture with the time under each slice to a folder, ``out`` by default::

    python examples/demo_scanner.py [FOLDER]
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich import box
from rich.console import Console
from rich.table import Column, Table

from recond_client.embedded import EmbeddedService
from recond_gateway.replay.arrivals import Line, ReceivedImage, Replay
from recond_gateway.replay.raw_file import RawFile
from recond_gateway.replay.scanner import Scanner
from recond_gateway.replay.session import Arrival, ScannerOptions
from recond_models.simulate import write_ismrmrd
from recond_models.simulate.scan import ScanSettings, simulate

SETTINGS: Final = ScanSettings(coils=8, slices=8, rows=256, columns=256, acceleration=3, phantom="head")
LINE_MS: Final = 20.0
MODEL: Final = "unrolled-brain-fast"
ACROSS: Final = 4
TILE: Final = 300
HEAD: Final = 54
GAP: Final = 12
BACKGROUND: Final = (11, 13, 18)
BRIGHT: Final = (236, 239, 244)
DIM: Final = (138, 147, 163)


def main(folder: Path, server: str = "") -> None:
    """Run the demonstration.

    Parameters
    ----------
    folder
        Where to write the raw data and the picture; made if it is not there.
    server
        A service that runs already; without one, one is started.
    """
    console = Console()
    folder.mkdir(parents=True, exist_ok=True)
    raw, picture = folder / "scanner.h5", folder / "demo-scanner.png"
    with ThreadPoolExecutor(1) as pool, tempfile.TemporaryDirectory() as scratch:
        simulating = pool.submit(simulate_to, raw)
        with served(server) as target, gateway(target, Path(scratch)) as address:
            simulating.result()
            console.print(f"[bold]service[/bold] on {target}, [bold]gateway[/bold] on {address}", highlight=False)
            console.print(
                f"[bold]scanning[/bold] {SETTINGS.slices} slices of {SETTINGS.rows} x {SETTINGS.columns}, {SETTINGS.coils} coils, "
                f"{SETTINGS.acceleration:g}-fold, a line every {LINE_MS:g} ms",
                highlight=False,
            )
            replay = scan(console, raw, address)
    if not replay.images:
        console.print("[red]no image came[/red]: " + "; ".join(line.text for line in replay.lines))
        raise SystemExit(1)
    print_times(console, replay)
    draw(replay).save(picture, optimize=True)
    console.print(f"[bold]look at[/bold] {picture.resolve()}", highlight=False, soft_wrap=True)


def simulate_to(raw: Path) -> None:
    """Simulate a head and write its raw data."""
    write_ismrmrd.write(simulate(SETTINGS), raw, line_ms=LINE_MS)


@contextmanager
def served(server: str) -> Iterator[str]:
    """Yield the address of a service: the one that is given, or one for this demonstration."""
    if server:
        yield server
        return
    with EmbeddedService() as service:
        yield service.target


@contextmanager
def gateway(server: str, folder: Path) -> Iterator[str]:
    """Run ``recond gateway`` for a service; yield where scanners connect.

    Parameters
    ----------
    server
        The service.
    folder
        For its settings and its spool.
    """
    config = folder / "gateway.toml"
    config.write_text(f'[spool]\nmin_free_bytes = 0\n[pipelines.default]\nmodel = "{MODEL}"\n', encoding="utf-8")
    options = ["--listen", "127.0.0.1:0", "--server", server, "--config", str(config), "--spool", str(folder / "spool")]
    command = [sys.executable, "-m", "recond_client", "gateway", *options, "--log-level", "error", "--stop-with-stdin"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101 - a pipe, see above
        ready = re.search(r"listening on (\S+)", process.stdout.readline())
        if ready is None:
            raise SystemExit("the gateway did not start")
        yield ready[1]  # behind it stdin is closed, which ends it


def scan(console: Console, raw: Path, address: str) -> Replay:
    """Play a scan at its own rate, and print what comes while it comes."""

    def show(arrival: Arrival) -> None:
        if isinstance(arrival, Line):
            console.print(f"{arrival.seconds:7.2f} s  [dim]{arrival.text}[/dim]", highlight=False, soft_wrap=True)
        elif isinstance(arrival, ReceivedImage):
            console.print(
                f"{arrival.seconds:7.2f} s  slice {int(arrival.header['slice']) + 1} is here", highlight=False
            )

    host, _, port = address.rpartition(":")
    with RawFile(raw) as file:
        return Scanner(host, int(port), ScannerOptions()).play(file, show)


def print_times(console: Console, replay: Replay) -> None:
    """Print for each slice when it was measured and when its image was there."""
    columns = ("slice", "last readout sent", "image at the console", "between")
    table = Table(*(Column(name, justify="right") for name in columns), box=box.SIMPLE_HEAD)
    for image in replay.images:
        sent, latency = (value if value is not None else float("nan") for value in (image.sent, image.latency))
        table.add_row(
            str(int(image.header["slice"]) + 1), f"{sent:.2f} s", f"{image.seconds:.2f} s", f"{1000 * latency:.0f} ms"
        )
    console.print(table)
    early = sum(image.seconds < replay.sent.seconds for image in replay.images)
    console.print(
        f"{early} of {len(replay.images)} images were there before the scan ended, at {replay.sent.seconds:.2f} s",
        highlight=False,
    )


def draw(replay: Replay) -> Image.Image:
    """Return a picture of the slices in the order in which they came, with the times under each.

    Parameters
    ----------
    replay
        With at least one image.
    """
    arrays = [np.asarray(image.array[0, 0], dtype=np.float64).T for image in replay.images]
    white = float(np.percentile(np.stack(arrays), 99.7)) or 1.0
    rows = -(-len(arrays) // ACROSS)
    sheet = Image.new("RGB", (ACROSS * (TILE + GAP) + GAP, rows * (TILE + HEAD + GAP) + GAP), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    title, caption = ImageFont.load_default(18), ImageFont.load_default(14)
    for number, (image, array) in enumerate(zip(replay.images, arrays, strict=True)):
        left, top = GAP + number % ACROSS * (TILE + GAP), GAP + number // ACROSS * (TILE + HEAD + GAP)
        levels = np.round(255 * np.clip(array / white, 0, 1)).astype(np.uint8)
        sheet.paste(Image.fromarray(levels).resize((TILE, TILE), Image.Resampling.LANCZOS), (left, top))
        pen.text(
            (left + 2, top + TILE + 6), f"slice {int(image.header['slice']) + 1}: {image.seconds:.2f} s", BRIGHT, title
        )
        told = "" if image.latency is None else f"{1000 * image.latency:.0f} ms after its last readout"
        still = ", scan goes on" if image.seconds < replay.sent.seconds else ""
        pen.text((left + 2, top + TILE + 30), told + still, DIM, caption)
    return sheet


if __name__ == "__main__":
    started = time.perf_counter()
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("out"))
    Console().print(f"[dim]{time.perf_counter() - started:.1f} s in all[/dim]", highlight=False)
