"""`make quality`: how good the reconstructions are, on heads that no network was trained on."""

from __future__ import annotations

import argparse
from pathlib import Path

import measured
import pictures
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
    parser.add_argument("--quick", action="store_true", help="eight cells only")
    parser.add_argument("--methods", nargs="*", default=[], help="these only")
    parser.add_argument(
        "--merge", type=Path, nargs="*", default=[], help="take what is missing from these results first"
    )
    parser.add_argument(
        "--only", choices=["compare", "probes", "measured", "pictures", "report"], help="one part, and the report"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    results = Results(arguments.results)
    for path in arguments.merge:
        results.merge(path)
    if arguments.only != "report":
        methods = all_methods(tuple(arguments.methods))
        heads = load_volumes(arguments.volumes, "test")
        held_out, tuning = Slices(heads, scenes.TEST_SLICES), Slices(heads, scenes.TUNING_SLICES)
        wanted = {arguments.only} if arguments.only else {"compare", "probes", "measured", "pictures"}
        if "measured" in wanted:
            measured.run(results, methods, tuning)
        if "compare" in wanted:
            compare(results, scenes.quick_cells() if arguments.quick else scenes.cells(), methods, held_out, tuning)
        if "probes" in wanted:
            probes.run(results, methods, held_out, tuning)
        if "pictures" in wanted:
            drawn = pictures.pictures(results, all_methods(), held_out, tuning, arguments.report.parent / "images")
            print(f"pictures: {', '.join(drawn)}")
    report.write(results, arguments.report)
    print(f"written: {arguments.report}")


if __name__ == "__main__":
    main()
