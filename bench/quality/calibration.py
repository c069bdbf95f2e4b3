"""How the simulator compares with measured scans: `python bench/quality/calibration.py --help`.

Measured files give statistics only; nothing is trained on them.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
import torch

from recond_models.training.simulator import SimulationSettings, Simulator
from recond_models.training.statistics import ScanStatistics, of_scan
from recond_models.training.volumes import load_volumes

ROOT = Path(__file__).resolve().parents[2]
_DATA = ROOT.parent / "shared" / "data"
_NAMES = [field.name for field in fields(ScanStatistics)]


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--volumes", type=Path, default=ROOT / "out" / "volumes", help="as `make training-data` leaves them"
    )
    parser.add_argument("--measured", type=Path, default=_DATA, help="folder with measured k-space")
    parser.add_argument("--samples", type=int, default=40)
    parser.add_argument("--coils", type=int, nargs="*", default=[8])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| scan | n |", " | ".join(_NAMES), "|")
    print("|---|---|", "|".join("---" for _ in _NAMES), "|", sep="")
    groups: dict[str, list[ScanStatistics]] = {}
    for path in sorted([*arguments.measured.glob("*.h5"), *arguments.measured.glob("test/kspace/*.h5")]):
        group = "measured, 0.055 T" if path.name.startswith("lowfield") else f"measured, {path.stem}"
        groups.setdefault(group, []).extend(of_file(path))
    for group, figures in groups.items():
        print(row(group, figures))
    volumes = load_volumes(arguments.volumes, "training")
    for coils in arguments.coils:
        settings = SimulationSettings(coils=(coils,), max_coils=max(8, min(coils, 12)), sizes=(160, 256))
        print(row(f"simulated, {coils} coils", of_simulated(Simulator(volumes, settings), arguments.samples)))


def of_file(path: Path) -> list[ScanStatistics]:
    """Return the figures of every slice of a file."""
    with h5py.File(path) as file:
        kspace = file["kspace"][()]
        mask = file["mask"][()] if "mask" in file else None
    return [of_scan(np.ascontiguousarray(one), mask) for one in kspace]


def of_simulated(simulator: Simulator, count: int) -> list[ScanStatistics]:
    """Return the figures of simulated slices as if they had been fully sampled."""
    return [of_scan(simulator.fully_sampled(seed)) for seed in range(count)]


def row(name: str, figures: Sequence[ScanStatistics]) -> str:
    """Return a line of the table: median, and 10th to 90th percentile where there are several slices."""
    cells = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for field in _NAMES:
            values = np.array([getattr(one, field) for one in figures], dtype=np.float64)
            if np.isnan(values).all():
                cells.append("-")
                continue
            low, middle, high = np.nanquantile(values, (0.1, 0.5, 0.9))
            cells.append(f"{middle:.3g}" if len(figures) == 1 else f"{middle:.3g} ({low:.3g} to {high:.3g})")
    return f"| {name} | {len(figures)} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
