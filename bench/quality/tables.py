"""Tables of the report, in Markdown, from the figures that are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import scenes
from results import Results
from scenes import Cell

Value = float | None
FIRST = ("rss", "cg-sense", "cg-sense tuned", "l1-wavelet", "l1-wavelet tuned", "tv", "tv tuned", "bart-l1", "bart-tv")
AS_SERVED = ("rss", "cg-sense", "l1-wavelet", "tv")
"""The classical models of recond at the weights that the service gives them."""

BEST_CLASSICAL = "best classical as served"
BEST_TUNED = "best of all, tuned ones and BART included"
_TUNED = ("cg-sense tuned", "l1-wavelet tuned", "tv tuned", "bart-l1", "bart-tv")


def names(results: Results) -> list[str]:
    """Return the methods that have figures, in the order of the tables."""
    groups = [*results.data["cells"].values()]
    groups += [entries for part in ("seven coils", "one coil") for _, entries in measured(results, part)]
    found = {name for entries in groups for name in entries}
    return [name for name in FIRST if name in found] + sorted(found - set(FIRST))


def cells(results: Results) -> list[Cell]:
    """Return the cells that have figures, by pattern, coils, noise and acceleration."""
    known = [cell for cell in scenes.cells() if results.data["cells"].get(cell.key)]
    return sorted(known, key=lambda cell: (scenes.MASKS.index(cell.mask), cell.coils, cell.noise, cell.acceleration))


def measured(results: Results, part: str) -> list[tuple[str, dict[str, Any]]]:
    """Return a measured part with a reference, by pattern and acceleration."""
    found = results.data["measured"].get(part, {})

    def place(label: str) -> tuple[int, int]:
        mask, acceleration = label.split()
        return [str(one) for one in scenes.MASKS].index(mask), int(acceleration.removesuffix("x"))

    return [(label, found[label]) for label in sorted(found, key=place)]


def value(entries: dict[str, Any], name: str, figure: str) -> Value:
    """Return the mean of a figure over the slices, the median of times; None if the method did not run or has no such figure."""
    values = entries.get(name, {}).get(figure)
    if not values or values[0] is None:
        return None
    return float(np.median(values) if figure == "seconds" else np.mean(values))


def best(entries: dict[str, Any], rivals: Iterable[str], figure: str) -> Value:
    """Return the best of some methods; SSIM and PSNR each have their own best."""
    known = [found for name in rivals if (found := value(entries, name, figure)) is not None]
    return max(known) if known else None


def differences(groups: Sequence[dict[str, Any]], name: str, rivals: Sequence[str], figure: str) -> list[float]:
    """Return how far a method is above the best of its rivals in every cell in which both ran."""
    pairs = [(value(entries, name, figure), best(entries, rivals, figure)) for entries in groups]
    return [own - other for own, other in pairs if own is not None and other is not None]


def summary(groups: Sequence[dict[str, Any]], methods: Sequence[str]) -> list[str]:
    """Return the table of means over all cells, and of differences to the best classical model as the service runs it."""
    rows = []
    for name in methods:
        ssim, psnr = (differences(groups, name, AS_SERVED, figure) for figure in ("ssim_object", "psnr_object"))
        if not ssim:
            continue
        means = [
            float(np.mean([found for entries in groups if (found := value(entries, name, figure)) is not None]))
            for figure in ("ssim_object", "psnr_object", "ssim", "psnr", "wrong_detail")
        ]
        won = sum(one > 0 for one in ssim)
        rows.append(
            [
                name,
                str(len(ssim)),
                f"{means[0]:.3f} / {means[1]:.1f}",
                f"{means[2]:.3f} / {means[3]:.1f}",
                f"{np.mean(ssim):+.3f} / {np.mean(psnr):+.2f}",
                f"{min(ssim):+.3f} / {min(psnr):+.2f}",
                "-" if name in AS_SERVED else f"{won} of {len(ssim)}",
                f"{100 * means[4]:.1f}",
            ]
        )
    head = [
        "",
        "cells",
        "in the object",
        "over the picture",
        f"above the {BEST_CLASSICAL}, in the object",
        "the same, worst cell",
        "cells won",
        "wrong detail, %",
    ]
    return text_table(head, rows)


def networks_by(
    kept: Sequence[tuple[str, dict[str, Any]]], networks: Sequence[str], rivals: Sequence[str]
) -> list[str]:
    """Return how far networks are above some rivals for each group of cells."""
    rows = []
    for name in networks:
        for group in dict.fromkeys(group for group, _ in kept):
            entries = [one for other, one in kept if other == group]
            ssim, psnr = (differences(entries, name, rivals, figure) for figure in ("ssim_object", "psnr_object"))
            if ssim:
                rows.append(
                    [
                        f"{name}, {group}",
                        str(len(ssim)),
                        f"{np.mean(ssim):+.3f}",
                        f"{min(ssim):+.3f}",
                        f"{np.mean(psnr):+.2f}",
                        f"{min(psnr):+.2f}",
                    ]
                )
    head = ["", "cells", "SSIM, mean", "SSIM, worst cell", "PSNR, mean (dB)", "PSNR, worst cell (dB)"]
    return text_table(head, rows)


def twice(
    kept: Sequence[tuple[str, dict[str, Any]]],
    methods: Sequence[str],
    figure: str,
    form: str,
    better: Callable[..., Any],
) -> list[str]:
    """Return a table with a row a cell: the figure in the object, and over the picture in brackets; the best is bold."""
    rows = []
    for label, entries in kept:
        inside = [value(entries, name, f"{figure}_object") for name in methods]
        known = [one for one in inside if one is not None]
        row = [label]
        for name, one in zip(methods, inside, strict=True):
            if one is None:
                row.append("refused" if "refused" in entries.get(name, {}) else "-")
                continue
            shown = format(one, form)
            shown = f"**{shown}**" if one == better(known) else shown
            row.append(f"{shown} ({value(entries, name, figure):{form}})")
        rows.append(row)
    return text_table(["", *methods], rows)


def plain(
    kept: Sequence[tuple[str, dict[str, Any]]], methods: Sequence[str], figure: str, form: str, factor: float = 1
) -> list[str]:
    """Return a table of a figure with a row a cell."""
    rows = []
    for label, entries in kept:
        values = [value(entries, name, figure) for name in methods]
        rows.append([label, *("-" if one is None else format(factor * one, form) for one in values)])
    return text_table(["", *methods], rows)


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows)]
