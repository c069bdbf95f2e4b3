"""Both time points side by side, the same slice after registration, with the outlines of the lesions."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from recond_models.follow_up.comparison import Comparison
from recond_models.follow_up.display import Page, page, plain_text
from recond_models.follow_up.errors import VisitError
from recond_models.follow_up.lesion_changes import LesionChange
from recond_models.follow_up.moving import image_onto, labels_onto
from recond_models.follow_up.visit import Visit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Final = {
    "stable": "#56b4e9",
    "grown": "#ff5a3c",
    "shrunk": "#35c98f",
    "new": "#ff4fd8",
    "vanished": "#f0e442",
    "merged": "#ffa126",
    "split": "#ffa126",
    "not_covered": "#bbbbbb",
}
"""Of the outlines, by status; legible on grey, also for people who see red and green alike."""

_SIGNAL: Final = 0.1
_WIDTH: Final = 4.2


@plain_text()
def picture(comparison: Comparison, head: str | None = None, *, slices: int = 3) -> bytes:
    """Draw both scans with the outlines of their lesions.

    A row is a slice of the prior scan, and on its right the same place in the current scan, moved onto it. Shown are the slices
    of the lesions that changed most; without lesions the middle one. Without a registration, which structures alone do not need,
    each scan is shown in its own slices, at the same part of its height. Without a prior scan the current one stands alone.

    Parameters
    ----------
    comparison
        What `compare` returned.
    head
        Whose lesions are outlined; the first that finds lesions if None.
    slices
        At most so many rows.

    Returns
    -------
    bytes
        PNG.

    Raises
    ------
    VisitError
        No such head found lesions.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - heavy, and needed here only

    name = next(iter(comparison.lesions), None) if head is None else head
    if name is not None and name not in comparison.lesions:
        known = ", ".join(comparison.lesions) or "none"
        raise VisitError(f"head {name!r} found no lesions to outline; those that did: {known}")
    panels = _panels(comparison, name)
    changes = () if name is None else comparison.lesions[name].changes or ()
    apart = comparison.registration is None  # each panel has slices of its own
    rows = _slices(changes, panels[-1 if apart else 0][2], panels[-1][2], slices)
    shares = [row / max(1, panels[-1 if apart else 0][1].shape[0] - 1) for row in rows]
    layouts = [page(visit.grid) for *_, visit in panels]
    boxes = [
        _box(layout, panel[1]) for layout, panel in zip(layouts, panels if apart else panels[:1] * 2, strict=False)
    ]
    height = max(_WIDTH * box[2] * layout.aspect / box[3] for layout, box in zip(layouts, boxes, strict=False))
    figure = Figure(figsize=(_WIDTH * len(panels), height * len(rows) + 0.7), layout="constrained", facecolor="black")
    axes = figure.subplots(len(rows), len(panels), squeeze=False)
    for row, share in enumerate(shares):
        for column, (title, image, labels, _) in enumerate(panels):
            axis = axes[row, column]
            index = round(share * (len(image) - 1))
            _draw(
                axis,
                image,
                labels,
                index,
                layouts[column],
                boxes[column],
                _outlines(changes, labels, is_prior=len(panels) == 2 and not column),
            )
            if row == 0:
                axis.set_title(title, color="white", fontsize=10)
            if column == 0 or apart:
                axis.set_ylabel(f"slice {index}", color="white", fontsize=8)
    used = list(dict.fromkeys(one.status for one in changes))
    if used:
        from matplotlib.lines import Line2D  # noqa: PLC0415

        handles = [Line2D([], [], color=COLOURS[one], label=one.replace("_", " ")) for one in used]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=len(used), frameon=False, labelcolor="white", fontsize=9
        )
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, facecolor="black")
    return stream.getvalue()


_Panel = tuple[str, NDArray[Any], NDArray[Any], Visit]


def _panels(comparison: Comparison, head: str | None) -> list[_Panel]:
    """Return title, image, lesion labels and visit of each panel: all on the grid of the first, if there is a registration."""
    prior, current, registration = comparison.prior, comparison.current, comparison.registration
    found = None if head is None else comparison.lesions[head]
    labels = np.zeros(current.image.shape, dtype=np.int32) if found is None else found.current.labels
    if prior is None:
        return [(_title(current), current.image, labels, current)]
    before = np.zeros(prior.image.shape, dtype=np.int32) if found is None or found.prior is None else found.prior.labels
    if registration is None:
        return [(_title(prior), prior.image, before, prior), (_title(current), current.image, labels, current)]
    image = image_onto(current.image, current.grid, registration.matrix, prior.grid, prior.image.shape)
    moved = labels_onto(labels, current.grid, registration.matrix, prior.grid, prior.image.shape)
    return [(_title(prior), prior.image, before, prior), (_title(current), image, moved, prior)]


def _title(visit: Visit) -> str:
    """Return what stands above a panel."""
    return visit.name if visit.date is None else f"{visit.name}, {visit.date.isoformat()}"


def _slices(changes: Sequence[LesionChange], before: NDArray[Any], after: NDArray[Any], count: int) -> list[int]:
    """Return the slices that show most: for each lesion that of its greatest outline, those that changed most first.

    Without a comparison the lesions count by their size; without lesions it is the middle slice.
    """
    ordered = sorted(changes, key=lambda one: -abs(one.volume.absolute or 0.0))
    groups = [([one.number for one in change.prior], [one.number for one in change.current]) for change in ordered]
    if not changes:
        sizes = np.bincount(after.ravel().astype(np.int64))
        groups = [([], [int(one)]) for one in np.argsort(-sizes) if one and sizes[one]]
    chosen: list[int] = []
    apart = max(1, before.shape[0] // 40)
    for olds, news in groups:
        areas = np.isin(before, olds).sum(axis=(1, 2)) + np.isin(after, news).sum(axis=(1, 2))
        best = int(areas.argmax())
        if areas[best] and all(abs(best - one) >= apart for one in chosen):
            chosen.append(best)
        if len(chosen) == count:
            break
    return sorted(chosen) or [before.shape[0] // 2]


def _box(layout: Page, image: NDArray[Any]) -> tuple[int, int, int, int]:
    """Return first row and column, rows and columns on the page of what has signal anywhere in the volume."""
    bright = np.abs(image).max(axis=0)
    shown = layout.turned(bright > _SIGNAL * np.quantile(bright, 0.98))
    edges = []
    for axis in (0, 1):
        found = np.flatnonzero(shown.any(axis=1 - axis))
        margin = max(2, shown.shape[axis] // 40)
        first = max(0, int(found[0]) - margin) if found.size else 0
        last = min(shown.shape[axis], int(found[-1]) + 1 + margin) if found.size else shown.shape[axis]
        edges.append((first, last - first))
    return edges[0][0], edges[1][0], edges[0][1], edges[1][1]


def _outlines(changes: tuple[LesionChange, ...], labels: NDArray[Any], *, is_prior: bool) -> dict[int, tuple[str, str]]:
    """Return colour and text of each lesion of a panel, by its number."""
    if not changes:
        return {int(one): (COLOURS["stable"], "") for one in np.unique(labels) if one}
    found = {}
    for change in changes:
        percent = change.volume.percent
        text = change.status.replace("_", " ") if percent is None or not change.current else f"{percent:+.0f} %"
        for lesion in change.prior if is_prior else change.current:
            words = f"{lesion.volume_ml:.2f} ml" if is_prior else f"{lesion.volume_ml:.2f} ml, {text}"
            found[lesion.number] = (COLOURS[change.status], words)
    return found


def _draw(
    axis: Axes,
    image: NDArray[Any],
    labels: NDArray[Any],
    index: int,
    layout: Page,
    box: tuple[int, int, int, int],
    outlines: dict[int, tuple[str, str]],
) -> None:
    """Draw a slice with its outlines."""
    from matplotlib.patheffects import withStroke  # noqa: PLC0415 - heavy, and needed here only

    rows, columns = slice(box[0], box[0] + box[2]), slice(box[1], box[1] + box[3])
    shown = layout.turned(np.abs(image[index]))[rows, columns]
    low, high = np.quantile(np.abs(image), [0.02, 0.998])
    axis.imshow(
        shown, cmap="gray", vmin=low, vmax=max(high, low + 1e-30), aspect=layout.aspect, interpolation="bilinear"
    )
    numbers = layout.turned(labels[index])[rows, columns]
    for number, (colour, words) in outlines.items():
        mask = numbers == number
        if not mask.any():
            continue
        axis.contour(np.pad(mask, 1).astype(float)[1:-1, 1:-1], levels=[0.5], colors=[colour], linewidths=1.4)
        places = np.argwhere(mask)
        right = places[:, 1].mean() < mask.shape[1] / 2
        axis.annotate(
            words,
            (float(places[:, 1].max() if right else places[:, 1].min()), float(places[:, 0].mean())),
            xytext=(5 if right else -5, 0),
            textcoords="offset points",
            ha="left" if right else "right",
            va="center",
            color=colour,
            fontsize=8,
            path_effects=[withStroke(linewidth=2, foreground="black")],
        )
    for text, place in zip(layout.letters, ((0.02, 0.5), (0.98, 0.5), (0.5, 0.98), (0.5, 0.02)), strict=True):
        axis.text(*place, text, transform=axis.transAxes, color="#cccccc", fontsize=8, ha="center", va="center")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
