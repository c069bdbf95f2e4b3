"""`make quality`: how good the reconstructions are, on heads that no network was trained on."""

from __future__ import annotations

import argparse
from pathlib import Path

import measured
import probes
import report
import scenes
import torch
from compare import Slices, compare
from methods import THREADS, all_methods
from results import Results

from recond_models.training.volumes import load_volumes

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Run what is missing and write the report."""
    parser = argparse.ArgumentParser(prog="make quality", description=__doc__)
    parser.add_argument(
        "--volumes", type=Path, default=ROOT / "out" / "volumes", help="as `make training-data` leaves them"
    )
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "quality.json")
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "quality.md")
    parser.add_argument("--quick", action="store_true", help="six cells only")
    parser.add_argument("--cells", type=int, help="no more than the first so many cells")
    parser.add_argument("--methods", nargs="*", default=[], help="these only")
    parser.add_argument("--only", choices=["compare", "probes", "measured", "report"], help="one part only")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    results = Results(arguments.results)
    if arguments.only != "report":
        methods = all_methods(tuple(arguments.methods))
        cells = (scenes.quick_cells() if arguments.quick else scenes.cells())[: arguments.cells]
        training = [volume for volume in load_volumes(arguments.volumes, "training") if volume.source.name == "colin27"]
        held_out = Slices(load_volumes(arguments.volumes, "test"), scenes.TEST_SLICES)
        tuning = Slices(training, scenes.TUNING_SLICES)
        if arguments.only in {None, "compare"}:
            compare(results, cells, methods, held_out, tuning)
        if arguments.only in {None, "probes"}:
            probes.run(results, methods, held_out, tuning)
        if arguments.only in {None, "measured"}:
            measured.run(results, methods, arguments.report.parent / "images")
        pictures = report.pictures(results, methods, held_out, arguments.report.parent / "images")
        print(f"pictures: {pictures}")
    report.write(results, arguments.report)
    print(f"written: {arguments.report}")


if __name__ == "__main__":
    main()
