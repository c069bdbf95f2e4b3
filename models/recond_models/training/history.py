"""The course of a training run: a CSV of losses, one of figures, and a plot of both."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from recond_models.training.evaluation import Figures

LOSSES, FIGURES, PLOT = "losses.csv", "figures.csv", "progress.png"
_LOSS_FIELDS = ("step", "loss", "learning_rate", "seconds")
_FIGURE_FIELDS = ("step", "ssim", "psnr", "ssim_object", "psnr_object")


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV file of numbers that grows.

    Parameters
    ----------
    path
        The file.
    names
        Of its columns; the first is the step.
    """

    path: Path
    names: tuple[str, ...]

    def add(self, values: tuple[float, ...]) -> None:
        """Write a line."""
        fresh = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(self.names)
            writer.writerow([f"{value:.6g}" for value in values])

    def rows(self) -> list[tuple[float, ...]]:
        """Return what was written."""
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return [tuple(float(value) for value in row) for row in list(csv.reader(file))[1:]]

    def forget_after(self, step: int) -> None:
        """Drop what an interrupted run wrote after its last checkpoint."""
        kept = [row for row in self.rows() if row[0] <= step]
        self.path.unlink(missing_ok=True)
        for row in kept:
            self.add(row)


class History:
    """What is written about a run while it runs.

    Parameters
    ----------
    folder
        Of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._losses = Table(folder / LOSSES, _LOSS_FIELDS)
        self._figures = Table(folder / FIGURES, _FIGURE_FIELDS)
        self._plot = folder / PLOT

    def add_loss(self, step: int, loss: float, learning_rate: float, seconds: float) -> None:
        """Write the mean loss of the last few steps and the seconds that they took."""
        self._losses.add((step, loss, learning_rate, seconds))

    def add_figures(self, step: int, figures: Figures) -> None:
        """Write the figures of an evaluation."""
        self._figures.add((step, figures.ssim, figures.psnr, figures.ssim_object, figures.psnr_object))

    def forget_after(self, step: int) -> None:
        """Drop what an interrupted run wrote after its last checkpoint."""
        for table in (self._losses, self._figures):
            table.forget_after(step)

    @property
    def seconds(self) -> float:
        """Time spent in updates so far."""
        return sum(row[3] for row in self._losses.rows())

    @property
    def last_figures(self) -> tuple[int, Figures] | None:
        """Step and figures of the last evaluation."""
        rows = self._figures.rows()
        return _figures_of(rows[-1]) if rows else None

    @property
    def best_figures(self) -> tuple[int, Figures] | None:
        """Step and figures of the evaluation with the best SSIM inside the object."""
        rows = self._figures.rows()
        return _figures_of(max(rows, key=lambda row: row[3])) if rows else None

    def plot(self) -> None:
        """Draw losses and figures."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - heavy, and needed here only

        figure = Figure(figsize=(10, 3.4), layout="constrained")
        axes = figure.subplots(1, 3)
        losses, figures = self._losses.rows(), self._figures.rows()
        axes[0].plot([row[0] for row in losses], [row[1] for row in losses], linewidth=0.4, alpha=0.5)
        width = max(1, len(losses) // 40)
        means = [
            sum(row[1] for row in losses[i : i + width]) / len(losses[i : i + width])
            for i in range(0, len(losses), width)
        ]
        axes[0].plot([losses[min(i + width // 2, len(losses) - 1)][0] for i in range(0, len(losses), width)], means)
        for axis, title, rows, column in zip(
            axes,
            ("training loss", "SSIM in the object, held-out subjects", "PSNR in the object, held-out subjects (dB)"),
            (losses, figures, figures),
            (1, 3, 4),
            strict=True,
        ):
            if rows is figures:
                axis.plot([row[0] for row in rows], [row[column] for row in rows], marker="o", markersize=3)
            axis.set_title(title, fontsize=10)
            axis.set_xlabel("step")
            axis.grid(alpha=0.3)
        figure.savefig(self._plot, dpi=110)


def _figures_of(row: tuple[float, ...]) -> tuple[int, Figures]:
    """Return step and figures of a line of the table."""
    return int(row[0]), Figures(*row[1:])
