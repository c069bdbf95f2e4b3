"""How often `auto` decides rightly between the network, classical models and their mean, and what a wrong choice costs.

    python bench/quality/evidence.py --volumes out/volumes -o rows.jsonl          # what is missing, then the table
    python bench/quality/evidence.py --volumes out/volumes -o rows.jsonl --learn  # and writes calibration.json and docs/quality.md

To be run again whenever the weights of the network change: start with an empty `rows.jsonl`. Every figure in the table is of a scan
that its own decision has not learnt from. Measured scans are never trained on; they count here as scans with a truth.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import evidence_collect
import numpy as np
import torch
from evidence_learn import candidates, guards, is_good, learn, trial_of, usable

from recond_models import registry
from recond_models.evidence import CANDIDATES, Calibration, GuardLimit, decide, partner_of
from recond_models.evidence.calibration import FILE

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "quality.md"
_BEGIN, _END = "<!-- evidence: begin -->", "<!-- evidence: end -->"
_RIGHT = 0.001  # a choice this close to the best is right
_CLASSICAL = ("tv", "l1-wavelet")
_RULES = (
    "contract alone",
    "held-out samples",
    "always ensemble",
    "always network",
    "always the best classical",
    "oracle",
)


def main() -> None:
    """Collect, learn where asked to, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=Path, default=ROOT / "out" / "volumes")
    parser.add_argument("-o", "--rows", type=Path, required=True, help="one JSON object a scan; what is there stays")
    parser.add_argument("--slices", type=int, default=3, help="slices in each simulated cell")
    parser.add_argument("--no-collect", action="store_true", help="take the rows as they are")
    parser.add_argument(
        "--learn", action="store_true", help="write calibration.json and the section of docs/quality.md"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.no_collect:
        evidence_collect.collect(arguments.rows, arguments.volumes, arguments.slices, evidence_collect.load_members())
    collected = [candidates(json.loads(line)) for line in arguments.rows.read_text().splitlines()]
    rows = usable(collected)
    section = report(rows, len(collected) - len(rows))
    print(section)
    if arguments.learn:
        calibration = learn(rows, registry.find("unrolled-brain").weights_sha256)
        FILE.write_text(json.dumps(calibration, indent=1) + "\n")
        page = PAGE.read_text()
        if _BEGIN not in page:
            page += f"\n{_BEGIN}\n{_END}\n"
        PAGE.write_text(re.sub(f"{_BEGIN}.*{_END}", lambda _: f"{_BEGIN}\n{section}\n{_END}", page, flags=re.DOTALL))


def report(rows: list[dict[str, Any]], left_out: int) -> str:
    """Return the section of docs/quality.md."""
    chosen = [decisions(rows, number) for number in range(len(rows))]
    lines = [
        "## What `auto` decides by",
        "",
        (
            f"{len(rows)} scans with a truth: {sum(row['measured'] for row in rows)} are one slice of one measured head with "
            "different masks, the others simulated heads that nothing was trained on. "
            f"{left_out} more were left out, because no candidate reached an SSIM of 0.5. *Right* is a choice within {_RIGHT:g} "
            "SSIM in the object of the best candidate; *cost* is the mean SSIM below it where the choice was wrong. Means of SSIM "
            "and PSNR are in the object."
        ),
        "",
        (
            "Each scan was decided by what the others showed. That flatters: other masks of the measured slice are among the "
            "others, and how errors are compared (without their noise, beside what is usual), when the mean gives way and how "
            "much room the guard has were settled on these very scans, after several alternatives. Heads that are not here decide."
        ),
    ]
    groups = {
        "measured": [number for number, row in enumerate(rows) if row["measured"]],
        "simulated": [number for number, row in enumerate(rows) if not row["measured"]],
    }
    for title, numbers in groups.items():
        if not numbers:
            continue
        lines += ["", f"| {title} | right | cost | worst | below the best classical by more than 0.002 | SSIM | PSNR |"]
        lines.append("|---|---|---|---|---|---|---|")
        lines += [_line(rule, [(rows[number], chosen[number][rule]) for number in numbers]) for rule in _RULES]
    lines += ["", "Which candidate was best, by kind of sampling (mean SSIM / PSNR):", ""]
    lines.append(f"| | n | {' | '.join(CANDIDATES)} | contract alone | held-out samples |")
    lines.append("|---" * (len(CANDIDATES) + 4) + "|")
    for kind in sorted({(row["measured"], row["lines"], row["band"]) for row in rows}):
        inside = [number for number, row in enumerate(rows) if (row["measured"], row["lines"], row["band"]) == kind]
        where = f"{'measured' if kind[0] else 'simulated'}, {'lines' if kind[1] else 'points'}, {kind[2][0]:g}-{kind[2][1]:g}x"
        cells = [_mean([rows[number]["figures"][name] for number in inside]) for name in CANDIDATES]
        cells += [
            _mean([rows[number]["figures"][chosen[number][rule]] for number in inside])
            for rule in ("contract alone", "held-out samples")
        ]
        lines.append(f"| {where} | {len(inside)} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _guard(rows)])


def _guard(rows: list[dict[str, Any]]) -> str:
    """Return on how many scans the guard of the mean would have answered by the classical image, had it learnt from the others."""
    fired = {True: [0, 0], False: [0, 0]}
    for number, row in enumerate(rows):
        partner = partner_of(lines=row["lines"])
        limit = GuardLimit(**guards(rows[:number] + rows[number + 1 :])[partner])
        found = row["disagreement"][f"network {partner}"]
        fired[is_good(row)][0] += found > limit.at(row["noise_edge"], row["acceleration"])
        fired[is_good(row)][1] += 1
    return (
        f"The guard, its limits learnt from the others, answers {fired[True][0]} of the {fired[True][1]} scans by the classical "
        f"image whose network image is no more than 0.02 SSIM worse than that, and {fired[False][0]} of the {fired[False][1]} "
        "others."
    )


def decisions(rows: list[dict[str, Any]], number: int) -> dict[str, str]:
    """Return the candidate that each rule chooses for a scan, having learnt from all scans but those of its cell's number."""
    row = rows[number]
    others = [other for place, other in enumerate(rows) if place != number]
    learnt = Calibration.from_json(learn(others, ""))
    cell = next(
        (each for each in learnt.cells if each.lines == row["lines"] and each.acceleration == tuple(row["band"])), None
    )
    figures = row["figures"]
    best = max(CANDIDATES, key=lambda name: figures[name][0])
    classical = max(_CLASSICAL, key=lambda name: figures[name][0])
    found = {
        "always ensemble": "ensemble",
        "always network": "unrolled-brain",
        "always the best classical": classical,
        "oracle": best,
    }
    if cell is None:
        return found | {"contract alone": "ensemble", "held-out samples": "ensemble"}
    return found | {"contract alone": cell.best, "held-out samples": decide(cell, trial_of(row), learnt).model}


def _line(rule: str, pairs: list[tuple[dict[str, Any], str]]) -> str:
    lost, below = [], 0
    for row, name in pairs:
        figures = row["figures"]
        lost.append(max(value[0] for value in figures.values()) - figures[name][0])
        below += max(figures[other][0] for other in _CLASSICAL) - figures[name][0] > 0.002
    wrong = [value for value in lost if value > _RIGHT]
    cost = f"{np.mean(wrong):.4f}" if wrong else "-"
    mean = _mean([row["figures"][name] for row, name in pairs]).split(" / ")
    right = f"{len(lost) - len(wrong)} of {len(lost)}"
    return f"| {rule} | {right} | {cost} | {max(lost):.4f} | {below} | {mean[0]} | {mean[1]} |"


def _mean(figures: list[list[float]]) -> str:
    ssim, psnr = np.mean(figures, axis=0)
    return f"{ssim:.4f} / {psnr:.2f}"


if __name__ == "__main__":
    main()
