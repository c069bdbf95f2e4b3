"""What all plots and pages have in common."""

from __future__ import annotations

import io
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: Okabe and Ito's colours, which colour-blind people can tell apart too.
COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D31", "#555555")
GOOD: Final = "#009E73"
BAD: Final = "#C0392B"
MUTED: Final = "#8A93A0"
INK: Final = "#1F2933"

_RC: Final[dict[Any, Any]] = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.edgecolor": "#B8C0CA",
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E8ED",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "xtick.color": "#52606D",
    "ytick.color": "#52606D",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "path",
    "svg.hashsalt": "recond",
}


def new_plot(title: str, x: str, y: str, *, height: float = 3.3) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes, 6.6 inches wide."""
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(6.6, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set(title=title, xlabel=x, ylabel=y)
    return figure, axes


def svg_of(figure: Figure) -> str:
    """Return a figure as an SVG element to put into a page."""
    buffer = io.StringIO()
    with mpl.rc_context(_RC):
        figure.savefig(buffer, format="svg", dpi=130, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def legend_below(figure: Figure, axes: Axes, columns: int = 4, *, marker_scale: float = 1.0) -> None:
    """Put the legend under the axes, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        with mpl.rc_context(_RC):
            figure.legend(
                handles, labels, loc="outside lower center", ncols=min(columns, len(labels)), markerscale=marker_scale
            )
