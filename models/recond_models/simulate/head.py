"""Axial slices of a head from the MNI152 volumes that ship in the nilearn wheel."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Millimetres along the patient's axes. The middle slice lies at the level of the basal ganglia.
_MIDDLE_RAS = (0.0, -18.0, 12.0)
_LARGEST_STACK_MM = 90.0
# Layers around the brain: thickness in mm and signal relative to white matter. The volumes contain the brain alone.
_LAYERS = ((3.0, 0.18), (5.0, 0.06), (6.0, 0.85))
_TISSUE = {"wm": 0.95, "gm": 0.62}
_FLUID = 0.2
_CLOSING_MM = 30.0
# The average head is symmetric: an oil capsule beside the patient's left temple tells left from right. LPS mm: left, radius.
_CAPSULE_LEFT_MM, _CAPSULE_RADIUS_MM, _CAPSULE_SIGNAL = 102.0, 4.5, 0.9


class HeadNotFoundError(FileNotFoundError):
    """The MNI152 volumes are not installed."""


@dataclass(frozen=True, slots=True)
class HeadSlices:
    """Slices through the head.

    Parameters
    ----------
    images
        float64 (slices, rows, columns), signal of white matter near 1. Rows run to the back, columns to the patient's left.
    positions
        float64 (slices, 3): centre of pixel ``(rows // 2, columns // 2)`` in mm, LPS; from the top of the head downwards.
    spacing
        Distance of the slices, mm.
    """

    images: NDArray[np.float64]
    positions: NDArray[np.float64]
    spacing: float


def head_slices(slices: int, rows: int, columns: int, field_of_view: float, spacing: float = 6.0) -> HeadSlices:
    """Cut axial slices.

    T1-weighted signal of the MNI152 average (Fonov et al. 2009, doi:10.1016/S1053-8119(09)70884-5), with tissue borders sharpened
    by the grey and white matter maps, and synthetic fluid, skull and scalp around it. The average is symmetric, so an oil capsule
    lies beside the patient's left temple.

    Parameters
    ----------
    slices
        Number of slices.
    rows, columns
        Pixels along each side.
    field_of_view
        Length of both sides, mm.
    spacing
        Wanted distance of the slices in mm; less where the stack would leave the brain.

    Returns
    -------
    HeadSlices
        The slices.

    Raises
    ------
    HeadNotFoundError
        nilearn is not installed.
    """
    distance = min(spacing, _LARGEST_STACK_MM / slices)
    heights = _MIDDLE_RAS[2] + distance * ((slices - 1) / 2 - np.arange(slices))
    down = (np.arange(rows) - rows // 2) * (field_of_view / rows)
    across = (np.arange(columns) - columns // 2) * (field_of_view / columns)
    # RAS coordinates of rows (to the back: minus A) and columns (to the left: minus R).
    anterior, right = _MIDDLE_RAS[1] - down, _MIDDLE_RAS[0] - across
    cut = {name: _cut(path, right, anterior, heights) for name, path in _files().items()}
    pixel = (field_of_view / rows, field_of_view / columns)
    images = np.stack([_compose(*parts, pixel) for parts in zip(cut["t1"], cut["gm"], cut["wm"], strict=True)])
    capsule = np.hypot(down[:, None], across[None, :] - _CAPSULE_LEFT_MM) <= _CAPSULE_RADIUS_MM
    images = np.where(capsule, _CAPSULE_SIGNAL, images)
    positions = np.column_stack([np.full(slices, -_MIDDLE_RAS[0]), np.full(slices, -_MIDDLE_RAS[1]), heights])
    return HeadSlices(images, positions, distance)


def _files() -> dict[str, Path]:
    """Return the paths of the volumes without importing nilearn, which would need its dependencies."""
    spec = importlib.util.find_spec("nilearn")
    if spec is None or spec.origin is None:
        raise HeadNotFoundError(
            "the head is made from the MNI152 volumes in the nilearn package, which is not installed: "
            "`pip install --no-deps nilearn`, or use the phantom shepp-logan"
        )
    folder = Path(spec.origin).parent / "datasets" / "data"
    paths = {name: folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz" for name in ("t1", "gm", "wm")}
    missing = [str(path) for path in paths.values() if not path.is_file()]
    if missing:
        raise HeadNotFoundError(
            f"this version of nilearn lacks {', '.join(missing)}: `pip install --no-deps nilearn==0.14.1`"
        )
    return paths


def _cut(
    path: Path,
    right: NDArray[np.floating[Any]],
    anterior: NDArray[np.floating[Any]],
    superior: NDArray[np.floating[Any]],
) -> NDArray[np.float64]:
    """Return float64 (slices, rows, columns) in [0, 1], linear interpolation."""
    volume = nibabel.nifti1.Nifti1Image.from_filename(path)
    slices, rows, columns = np.meshgrid(superior, anterior, right, indexing="ij")
    world = np.stack([columns, rows, slices, np.ones_like(slices)])
    voxels = np.tensordot(np.linalg.inv(volume.affine), world, axes=1)[:3]
    data = np.asarray(volume.dataobj, dtype=np.float32) / 255
    sampled: NDArray[np.float64] = ndimage.map_coordinates(data, voxels, order=1, output=np.float64)
    return sampled


def _compose(
    t1: NDArray[np.float64],
    grey: NDArray[np.float64],
    white: NDArray[np.float64],
    pixel: tuple[float, float],
) -> NDArray[np.float64]:
    """Return the signal of one slice (rows, columns)."""
    inside = ndimage.binary_fill_holes(t1 > 0.1)
    grey_share, white_share = (1 / (1 + np.exp(-12 * (share - 0.5))) for share in (grey, white))
    total = np.maximum(grey_share + white_share, 1)
    grey_share, white_share = grey_share / total, white_share / total
    sharp = _TISSUE["gm"] * grey_share + _TISSUE["wm"] * white_share + _FLUID * (1 - grey_share - white_share)
    signal = np.where(inside, 0.4 * t1 + 0.6 * sharp, 0)
    # Closing: the layers follow the outline of the brain, not its furrows.
    if not inside.any():
        return np.zeros_like(t1)
    outer = ndimage.distance_transform_edt(~inside, sampling=pixel) <= _CLOSING_MM
    envelope = (ndimage.distance_transform_edt(outer, sampling=pixel) > _CLOSING_MM) | inside
    distance = ndimage.distance_transform_edt(~envelope, sampling=pixel)
    signal = np.where(envelope & ~inside, _FLUID, signal)
    start = 0.0
    for thickness, value in _LAYERS:
        signal = np.where((distance > start) & (distance <= start + thickness), value, signal)
        start += thickness
    return signal
