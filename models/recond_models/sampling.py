"""What a model needs to know about the sampling of a frame, small enough to cross a process boundary as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Pattern = Literal["full", "uniform", "irregular", "two-dimensional"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a frame was sampled.

    Parameters
    ----------
    coils
        Number of receive coils.
    rows, columns
        Size of k-space: readout, phase encode.
    acceleration
        Grid points per measured point; rows before the first and after the last with a sample (asymmetric echo) do not count.
        Unmeasured edges of columns (partial Fourier, zero-filled phase resolution) do.
    pattern
        ``"full"``: no line is missing between the first and the last. ``"uniform"``: every `spacing`-th line, and a filled centre
        or not. ``"irregular"``: other whole lines. ``"two-dimensional"``: not made of whole lines. Lines are columns, or rows where
        some of those are missing in between and no column is: frames of 3-D scans have two phase encodes.
    spacing
        Distance of the lines of a uniform pattern, 1 for a full one, 0 for the others.
    calibration
        (rows, columns) of the calibration data around the centre of k-space, (0, 0) if none.
    whitened
        The noise of the coils is white.
    """

    coils: int
    rows: int
    columns: int
    acceleration: float
    pattern: Pattern
    spacing: int
    calibration: tuple[int, int]
    whitened: bool = False

    @classmethod
    def of(
        cls, mask: NDArray[np.bool_], calibration_extent: tuple[int, int], coils: int, *, whitened: bool = False
    ) -> Sampling:
        """Describe a mask.

        Parameters
        ----------
        mask
            bool (rows, columns), true where measured.
        calibration_extent
            (rows, columns) of the calibration data, whether part of the mask or measured beside it; (0, 0) if none.
        coils
            Number of receive coils.
        whitened
            The noise of the coils is white.

        Returns
        -------
        Sampling
            The description.

        Raises
        ------
        ValueError
            The mask is not a non-empty two-dimensional array, or nothing was measured.
        """
        if mask.ndim != 2 or mask.size == 0:
            raise ValueError(f"mask must have the shape (rows, columns), got {mask.shape}")
        measured = int(np.count_nonzero(mask))
        if measured == 0:
            raise ValueError("the mask is false everywhere: nothing was measured")
        rows, columns = mask.shape
        used_rows: NDArray[np.bool_] = np.any(mask, axis=1)
        used_columns: NDArray[np.bool_] = np.any(mask, axis=0)
        pattern: Pattern
        if measured != int(used_rows.sum()) * int(used_columns.sum()):
            pattern, spacing = "two-dimensional", 0
        else:
            pattern, spacing = _classify_lines(used_columns)
            along_rows, distance = _classify_lines(used_rows)
            if along_rows != "full":  # both directions are phase encodes, as in a frame of a 3-D scan
                pattern, spacing = (along_rows, distance) if pattern == "full" else ("two-dimensional", 0)
        between = np.flatnonzero(used_rows)
        acceleration = int(between[-1] - between[0] + 1) * columns / measured
        extent = (int(calibration_extent[0]), int(calibration_extent[1]))
        return cls(int(coils), rows, columns, acceleration, pattern, spacing, extent, whitened)

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of plain values."""
        return asdict(self) | {"calibration": list(self.calibration)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Sampling:
        """Return what `to_json` described.

        Raises
        ------
        ValueError
            A field is missing or the pattern is unknown.
        """
        try:
            pattern, (calibration_rows, calibration_columns) = data["pattern"], data["calibration"]
            if pattern not in get_args(Pattern):
                raise ValueError(f"unknown sampling pattern {pattern!r}, expected one of {get_args(Pattern)}")
            return cls(
                int(data["coils"]),
                int(data["rows"]),
                int(data["columns"]),
                float(data["acceleration"]),
                pattern,
                int(data["spacing"]),
                (int(calibration_rows), int(calibration_columns)),
                bool(data["whitened"]),
            )
        except KeyError as error:
            raise ValueError(f"the sampling lacks the field {error}") from error


def centre_block(kspace: NDArray[np.complex64], extent: tuple[int, int]) -> NDArray[np.complex64]:
    """Cut the calibration block out of k-space.

    Parameters
    ----------
    kspace
        complex64 (coils, rows, columns), origin at ``n // 2``.
    extent
        (rows, columns) of the block.

    Returns
    -------
    ndarray
        complex64 (coils, *extent), origin at ``n // 2`` of the block; a view.

    Raises
    ------
    ValueError
        The block is empty or larger than k-space.
    """
    starts = [size // 2 - wanted // 2 for size, wanted in zip(kspace.shape[1:], extent, strict=True)]
    if (
        min(extent) < 1
        or min(starts) < 0
        or any(s + w > n for s, w, n in zip(starts, extent, kspace.shape[1:], strict=True))
    ):
        raise ValueError(f"no centred block of {extent} in k-space of {kspace.shape[1:]}")
    return kspace[:, starts[0] : starts[0] + extent[0], starts[1] : starts[1] + extent[1]]


def _classify_lines(lines: NDArray[np.bool_]) -> tuple[Pattern, int]:
    """Return the pattern and the spacing of bool (columns,) with at least one true."""
    indices = np.flatnonzero(lines)
    first, last = int(indices[0]), int(indices[-1])
    if indices.size == last - first + 1:
        return "full", 1
    start, end = _run_around(lines, lines.size // 2)
    outside = indices[(indices < start) | (indices >= end)]
    # Distances within each side of the centre; the step across the centre tells nothing.
    gaps = np.concatenate([np.diff(outside[outside < start]), np.diff(outside[outside >= end])])
    if gaps.size == 0:
        return "irregular", 0
    spacing = int(gaps.min())
    lattice = np.zeros_like(lines)
    lattice[int(outside[0]) % spacing :: spacing] = True
    lattice[:first] = lattice[last + 1 :] = False
    lattice[start:end] = True
    if spacing >= 2 and np.array_equal(lattice, lines):
        return "uniform", spacing
    return "irregular", 0


def _run_around(lines: NDArray[np.bool_], centre: int) -> tuple[int, int]:
    """Return ``[start, end)`` of the lines around `centre` without a gap; empty at `centre` if it is missing."""
    if not lines[centre]:
        return centre, centre
    missing = np.flatnonzero(~lines)
    below, above = missing[missing < centre], missing[missing > centre]
    return (int(below[-1]) + 1 if below.size else 0), (int(above[0]) if above.size else lines.size)
