"""Registration and planted growth on two real scans of one head: the figures of docs/follow-up.md.

``python bench/heads/follow_up.py --volumes out/volumes [--picture FILE]``, after ``make training-data``; some minutes on one core.
"""

from __future__ import annotations

import argparse
import time
from datetime import date
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from recond_models.follow_up import FollowUpError, HeadResult, Registration, Visit, compare, picture, register
from recond_models.heads.measurements import Grid
from recond_models.training.volumes import SOURCES, Volume

SITES = ((-35.3, 20.4, 20.2), (30.4, -30.2, 25.3), (-20.2, -45.4, 5.3), (25.3, 30.2, 35.4))
"""Lesions from the middle of the brain, mm; off the voxels, where balls lose a part of their volume to the lattice."""
RADII = (12.0, 8.0, 5.0, 3.0)
"""mm; 7.2, 2.1, 0.52 and 0.11 ml."""
GROWTHS = (0.0, 0.1, 0.2, 0.5)


def scan(folder: Path, name: str) -> tuple[np.ndarray, Grid, np.ndarray]:
    """Return image (slices, rows, columns), grid, and the middle of the brain in mm."""
    volume = Volume.load(folder, next(one for one in SOURCES if one.name == name))
    signal = volume.voxels["signal"] if volume.has_tissues else volume.voxels
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *volume.spacing[::-1], 1
    grid = Grid(affine)
    middle = grid.positions(np.array([volume.centre[::-1]]))[0]
    return np.ascontiguousarray(np.asarray(signal).transpose(2, 1, 0)).astype(np.float32), grid, middle


def ball(grid: Grid, shape: tuple[int, ...], centre: np.ndarray, radius: float) -> np.ndarray:
    """Return the voxels of which half lies in a ball, by 27 samples each."""
    middle = np.round(grid.indices(centre[None])[0]).astype(int)
    reach = [int(np.ceil(radius / one)) + 2 for one in grid.spacing]
    box = tuple(slice(max(0, at - more), at + more + 1) for at, more in zip(middle, reach, strict=True))
    mask = np.zeros(shape, dtype=bool)
    places = np.argwhere(np.ones_like(mask[box])) + [one.start for one in box]
    offsets = np.array(list(np.ndindex(3, 3, 3))) / 3 - 1 / 3
    inside = sum(np.linalg.norm(grid.positions(places + one) - centre, axis=1) <= radius for one in offsets)
    mask[box] = (np.asarray(inside) >= 13.5).reshape(mask[box].shape)
    return mask


def corners(middle: np.ndarray) -> np.ndarray:
    """Return the corners of a box of 12 x 14 x 12 cm about the brain, mm."""
    return middle + np.array([(x, y, z) for x in (-60, 60) for y in (-70, 70) for z in (-60, 60)])


def error(matrix: np.ndarray, truth: np.ndarray, middle: np.ndarray) -> float:
    """Return the largest distance of the corners as two transforms place them, mm."""
    first, second = (corners(middle) @ one[:3, :3].T + one[:3, 3] for one in (matrix, truth))
    return float(np.linalg.norm(first - second, axis=1).max())


def two_poses(folder: Path, picture_file: Path | None) -> None:
    """Print how the two scans lie, and planted growth as measured."""
    first, grid, middle = scan(folder, "brainbrowser-1")
    second, other_grid, _ = scan(folder, "brainbrowser-2")
    began = time.process_time()
    there = register(first, grid, second, other_grid)
    seconds = time.process_time() - began
    back = register(second, other_grid, first, grid)
    shift = np.linalg.norm(there.matrix[:3, :3] @ middle + there.matrix[:3, 3] - middle)
    print(
        f"rotation {there.rotation_degrees:.2f} degrees, shift of the middle {shift:.2f} mm, {seconds:.1f} s of one core"
    )
    print(f"there and back: {error(there.matrix @ back.matrix, np.eye(4), middle):.2f} mm at the corners")
    print(f"quality: {there.quality.to_json()}")
    for growth in GROWTHS:
        result = planted(first, grid, second, other_grid, middle, there, growth)
        if growth == 0.5 and picture_file is not None:
            picture_file.write_bytes(picture(result))
        for change in result.lesions["lesion"].changes or ():
            truth = 100 * growth
            print(
                f"| {change.volume.prior:.2f} | {truth:.0f} | {change.volume.percent:.1f} | "
                f"{100 * (change.volume.current / change.volume.prior / (1 + growth) - 1):+.1f} | {change.status} |"
            )
        total = result.lesions["lesion"].total
        print(f"| all {total.prior:.2f} | {100 * growth:.0f} | {total.percent:.1f} | "
              f"{100 * (total.current / total.prior / (1 + growth) - 1):+.1f} | {result.lesions['lesion'].trend} |")  # fmt: skip


def planted(
    first: np.ndarray,
    grid: Grid,
    second: np.ndarray,
    other: Grid,
    middle: np.ndarray,
    there: Registration,
    growth: float,
):
    """Return the comparison of both scans with lesions at the same places of the head, grown by a share in the second."""
    before, after = np.zeros(first.shape, dtype=np.uint8), np.zeros(second.shape, dtype=np.uint8)
    for site, radius in zip(SITES, RADII, strict=True):
        centre = middle + np.array(site)
        before |= ball(grid, first.shape, centre, radius)
        moved = there.inverse[:3, :3] @ centre + there.inverse[:3, 3]
        after |= ball(other, second.shape, moved, radius * (1 + growth) ** (1 / 3))
    visits = [
        Visit(name, image, where, {"lesion": HeadResult("lesions", mask)}, day)
        for name, image, where, mask, day in (
            ("first pose", first, grid, before, date(2024, 1, 1)),
            ("second pose", second, other, after, date(2024, 7, 1)),
        )
    ]
    return compare(*visits, registration=there)


def rescans(folder: Path) -> None:
    """Print errors of known motions: the same scan turned, in other voxels, contrasts and fields of view."""
    image, grid, middle = scan(folder, "brainbrowser-1")
    cases = {
        "turned 14 degrees, 19 mm": ((10, -5, 8), (10, 5, -12), (1.5, 1.5, 1.5), (150, 150, 120), False),
        "turned 36 degrees, 56 mm": ((30, -10, 15), (30, 25, -40), (1.5, 1.5, 1.5), (150, 150, 120), False),
        "slices of 5 mm": ((8, 6, -10), (12, 5, 10), (5, 0.9, 0.9), (30, 240, 200), False),
        "slices of 5 mm, other contrast, lower head missing": (
            (8, 6, -10),
            (12, 5, 30),
            (5, 0.9, 0.9),
            (24, 240, 200),
            True,
        ),
        "half the field of view": ((8, 6, -10), (12, 5, 60), (2, 1.5, 1.5), (60, 150, 120), False),
    }
    for name, (angles, shift, spacing, shape, is_inverted) in cases.items():
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        pose[:3, 3] = middle + shift - pose[:3, :3] @ middle
        affine = np.zeros((4, 4))
        affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *spacing, 1
        affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
        index = np.linalg.inv(grid.affine) @ np.linalg.inv(pose) @ affine
        moved = ndimage.affine_transform(image, index[:3, :3], index[:3, 3], shape, order=1)
        if is_inverted:
            moved = np.where(moved > 2000, moved.max() - moved, 0)
        report(name, image, grid, moved, Grid(affine), np.linalg.inv(pose), middle)


def failures(folder: Path) -> None:
    """Print what becomes of scans that do not belong together."""
    image, grid, middle = scan(folder, "brainbrowser-1")
    noise = np.random.default_rng(0).random((60, 60, 60))
    report("noise", image, grid, noise, Grid.from_spacing((3, 3, 3)), None, middle)
    for name in ("itk-t1", "colin27"):
        other, other_grid, _ = scan(folder, name)
        report(f"another person ({name})", image, grid, other, other_grid, None, middle)


def report(
    name: str,
    image: np.ndarray,
    grid: Grid,
    moved: np.ndarray,
    other: Grid,
    truth: np.ndarray | None,
    middle: np.ndarray,
) -> None:
    """Register, and print a row."""
    try:
        found = register(image, grid, moved, other)
    except FollowUpError as failure:
        print(f"| {name} | refused: {failure} |", flush=True)
        return
    off = "" if truth is None else f"{error(found.matrix, truth, middle):.2f}"
    codes = ", ".join(one.code for one in found.notes)
    print(f"| {name} | {off} | {found.quality.overlap:.2f} | {found.quality.peak:.2f} | {codes} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=Path, default=Path("out/volumes"))
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    two_poses(options.volumes, options.picture)
    rescans(options.volumes)
    failures(options.volumes)


if __name__ == "__main__":
    main()
