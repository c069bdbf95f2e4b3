"""Partial Fourier completed by projections onto convex sets, from the phase of the centre of k-space.

An image of slowly varying phase has a k-space whose two halves tell nearly the same. The phase comes from the part that was
measured on both sides of the centre; what is missing is found by going back and forth between the images that have this phase and
those that fit the samples (Haacke, Lindskog and Lin 1991, doi:10.1016/0022-2364(91)90253-P).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recond_service.conditioning.encoding import is_one_sided
from recond_service.fourier import image_to_kspace, kspace_to_image
from recond_service.types import FindingList, Frame

_ITERATIONS = 20
_SETTLED = 1e-3  # relative change of the completed samples at which the iteration ends
_LEAST_OVERLAP = 4  # samples beyond the centre from which a phase can be estimated


def complete(frame: Frame, findings: FindingList) -> None:
    """Fill in what partial Fourier left out, in place: coil by coil, and in the mask. Nothing happens to frames without it.

    Only samples whose mirror image about the centre was measured are filled in.

    Parameters
    ----------
    frame
        Its mask decides. Along each axis, what was measured must have no gaps: lines left out for acceleration have no phase to be
        completed from.
    findings
        Gets ``"partial-fourier-completed"`` or ``"pocs-not-applicable"``.
    """
    bounds = [_bounds(np.asarray(frame.mask.any(axis=other))) for other in (1, 0)]
    sizes = frame.mask.shape
    axes = [axis for axis in (0, 1) if is_one_sided(*bounds[axis], sizes[axis])]
    if not axes:
        return
    if not all(_without_gaps(frame.mask, axis) for axis in (0, 1)):
        findings.warn(
            "pocs-not-applicable",
            "Partial Fourier data with lines left out for acceleration cannot be completed by POCS: what was not measured is zero.",
        )
        return
    overlap = {axis: _overlap(*bounds[axis], sizes[axis]) for axis in axes}
    if min(overlap.values()) < _LEAST_OVERLAP:
        findings.warn(
            "pocs-not-applicable",
            f"Fewer than {_LEAST_OVERLAP} samples were measured beyond the centre of k-space, too few to tell the phase for POCS: "
            "what was not measured is zero.",
        )
        return
    missing = _mirrored(frame.mask) & ~frame.mask
    # Where all rows, or all columns, were measured alike, the other axis is transformed once and for all.
    alike = [(frame.mask == frame.mask[:1]).all(), (frame.mask == frame.mask[:, :1]).all()]
    constant = [axis for axis in (0, 1) if alike[axis] and axis not in axes]
    moving = tuple(axis - 2 for axis in (0, 1) if axis not in constant)
    window = np.ones(sizes, np.float32)
    for axis in axes:
        window *= np.expand_dims(_hann(sizes[axis], overlap[axis]), 1 - axis)
    kspace = frame.kspace
    for axis in constant:
        kspace = kspace_to_image(kspace, axes=(axis - 2,))
    completed = np.stack([_project(coil, frame.mask, missing, window, moving) for coil in kspace])
    for axis in constant:
        completed = image_to_kspace(completed, axes=(axis - 2,))
    # The measured samples stay what they are, bit for bit.
    frame.kspace = np.ascontiguousarray(np.where(missing, completed, frame.kspace), np.complex64)
    frame.mask = frame.mask | missing
    findings.info(
        "partial-fourier-completed",
        f"{missing.sum() / missing.size:.0%} of k-space was not measured (partial Fourier or asymmetric echo) and was completed by "
        "POCS.",
    )


def _project(
    kspace: NDArray[np.complex64],
    mask: NDArray[np.bool_],
    missing: NDArray[np.bool_],
    window: NDArray[np.float32],
    axes: tuple[int, ...],
) -> NDArray[np.complex64]:
    """Return the k-space (rows, columns) of one coil with its missing samples."""
    smooth = kspace_to_image(kspace * window, axes=axes)
    magnitude = np.abs(smooth)
    phase = np.where(magnitude > 0, smooth / np.where(magnitude > 0, magnitude, 1), 1).astype(np.complex64)
    known = np.where(mask, kspace, np.complex64(0))
    found = np.zeros_like(known)
    for _ in range(_ITERATIONS):
        image = np.abs(kspace_to_image(known + found, axes=axes)) * phase
        new = np.where(missing, image_to_kspace(image, axes=axes), np.complex64(0))
        change, size = np.linalg.norm(new - found), np.linalg.norm(new)
        found = new
        if change <= _SETTLED * size:
            break
    result: NDArray[np.complex64] = known + found
    return result


def _bounds(line: NDArray[np.bool_]) -> tuple[int, int]:
    """Return [first, behind the last) true value; an empty line has the whole."""
    where = np.flatnonzero(line)
    return (int(where[0]), int(where[-1]) + 1) if where.size else (0, len(line))


def _overlap(start: int, stop: int, length: int) -> int:
    """Return how many samples lie on that side of the centre where there are fewer."""
    return min(length // 2 - start, stop - 1 - length // 2)


def _without_gaps(mask: NDArray[np.bool_], axis: int) -> bool:
    """Tell whether the true values of every line along `axis` are next to each other."""
    padded = np.pad(mask.astype(np.int8), [(1, 1) if other == axis else (0, 0) for other in (0, 1)])
    return bool(((np.diff(padded, axis=axis) == 1).sum(axis=axis) <= 1).all())


def _mirrored(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask turned about the centre: sample -k takes the value of sample k, in a periodic k-space."""
    turned = mask[::-1, ::-1]
    return np.roll(turned, [1 - size % 2 for size in mask.shape], axis=(0, 1))


def _hann(length: int, reach: int) -> NDArray[np.float32]:
    """Return a Hann window about ``length // 2`` that is zero farther than `reach` from it."""
    distance = np.abs(np.arange(length) - length // 2)
    window = np.where(distance <= reach, np.cos(np.pi * distance / (2 * (reach + 1))) ** 2, 0)
    return window.astype(np.float32)
