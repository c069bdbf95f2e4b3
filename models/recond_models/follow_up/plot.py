"""Volumes over time, with the therapies below."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import date as Date  # noqa: N812
from typing import TYPE_CHECKING, Final

from recond_models.follow_up.display import plain_text
from recond_models.follow_up.errors import VisitError
from recond_models.follow_up.timeline import Timeline
from recond_models.follow_up.tracks import Track

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#7f7f7f")
_BARS: Final = {"therapy": "#7c9cc4", "medication": "#c9a66b"}
_NAMED: Final = 12


@plain_text()
def plot(timeline: Timeline, head: str | None = None) -> bytes:
    """Draw the total volume and that of each lesion over time, and therapies as bars; without lesions the structures.

    Parameters
    ----------
    timeline
        What `timeline` returned. Visits without dates are drawn at equal distances, without therapies.
    head
        Whose lesions or structures are drawn; the first that finds lesions if None, else the first that labels structures.

    Returns
    -------
    bytes
        PNG.

    Raises
    ------
    VisitError
        No such head found lesions or structures.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - heavy, and needed here only

    structured = dict.fromkeys(name for one in timeline.comparisons for name in one.structures)
    known = [*timeline.tracks, *structured]
    name = next(iter(known), None) if head is None else head
    if name not in known:
        raise VisitError(f"there is nothing of head {name!r} to draw; there is of: {', '.join(known) or 'none'}")
    dates = [one.date for one in timeline.visits]
    dated = all(one is not None for one in dates)
    shown = timeline.therapies if dated else ()
    lanes = list(dict.fromkeys((one.kind, one.name) for one in shown))
    figure = Figure(figsize=(9, 4 + (0.4 + 0.28 * len(lanes) if lanes else 0)), layout="constrained")
    grid = figure.add_gridspec(2 if lanes else 1, 1, height_ratios=[4, 0.4 + 0.28 * len(lanes)] if lanes else [1])
    axis = figure.add_subplot(grid[0])
    places: list[Date] | list[int] = [one for one in dates if one] if dated else list(range(len(dates)))
    if name in timeline.tracks:
        for index, track in enumerate(timeline.tracks[name]):
            _line(axis, places, track, _COLOURS[index % len(_COLOURS)], is_named=index < _NAMED)
        totals = [float("nan") if one is None else one for one in timeline.totals(name)]
        axis.plot(places, totals, color="black", linewidth=2, marker="o", markersize=4, label="all lesions")  # type: ignore[arg-type]
    else:
        _structures(axis, places, timeline, name)
    axis.set_ylabel("volume (ml)")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    if not dated:
        axis.set_xticks(list(range(len(dates))), [one.name for one in timeline.visits])
    if timeline.visits[0].patient:
        axis.set_title(timeline.visits[0].patient, fontsize=10)
    if lanes:
        _bars(figure.add_subplot(grid[1], sharex=axis), timeline, lanes)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def _line(axis: Axes, places: list[Date] | list[int], track: Track, colour: str, *, is_named: bool) -> None:
    """Draw one lesion."""
    values = [float("nan") if one is None or one.volume.current is None else one.volume.current for one in track.points]
    axis.plot(places, values, color=colour, linewidth=1.2, marker=".", label=track.name if is_named else None)  # type: ignore[arg-type]
    for place, point, value in zip(places, track.points, values, strict=True):
        if point is not None and point.status in {"new", "vanished", "merged", "split"}:
            axis.annotate(
                point.status,
                (place, value),
                xytext=(0, 5),
                textcoords="offset points",
                fontsize=7,
                color=colour,
                ha="center",
            )


def _structures(axis: Axes, places: list[Date] | list[int], timeline: Timeline, head: str) -> None:
    """Draw the structures of a head."""
    volumes = [{one.name: one.volume.current for one in each.structures.get(head, ())} for each in timeline.comparisons]
    for index, name in enumerate(dict.fromkeys(name for each in volumes for name in each)):
        values = [float("nan") if each.get(name) is None else each[name] for each in volumes]
        axis.plot(places, values, color=_COLOURS[index % len(_COLOURS)], linewidth=1.2, marker=".", label=name)  # type: ignore[arg-type]


def _bars(axis: Axes, timeline: Timeline, lanes: Sequence[tuple[str, str]]) -> None:
    """Draw therapies; those without an end run to the last visit and fade."""
    dates = [one.date for one in timeline.visits if one.date]
    last = max([*dates, *(one.end or one.start for one in timeline.therapies)])
    for one in timeline.therapies:
        lane = lanes.index((one.kind, one.name))
        days = ((one.end or last) - one.start).days
        axis.barh(
            lane, max(days, 1), left=one.start.toordinal() - Date(1970, 1, 1).toordinal(), height=0.6,
            color=_BARS[one.kind], alpha=1.0 if one.end else 0.6,
        )  # fmt: skip
    axis.set_yticks(range(len(lanes)), [name for _, name in lanes], fontsize=8)
    axis.invert_yaxis()
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(alpha=0.3, axis="x")
