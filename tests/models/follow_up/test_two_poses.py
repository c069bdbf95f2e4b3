"""Two real scans of one head in two poses; skipped where `make training-data` has not put them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from follow_up_phantoms import ellipsoid

from recond_models.follow_up import HeadResult, Registration, Visit, compare, register
from recond_models.heads.measurements import Grid
from recond_models.training.volumes import SOURCES, Volume, is_saved

FOLDER = Path(os.environ.get("TRAINING_VOLUMES", Path(__file__).parents[3] / "out" / "volumes"))
POSES = [one for one in SOURCES if one.subject == "brainbrowser"]
STEP = 2

pytestmark = pytest.mark.skipif(
    not all(is_saved(FOLDER, one) for one in POSES),
    reason=f"the two scans are not in {FOLDER}: `make training-data` fetches them, TRAINING_VOLUMES names another folder",
)


@pytest.fixture(scope="module")
def scans():
    """Return image and grid of both, every other voxel, and the middle of the brain in mm."""
    found = []
    for source in POSES:
        volume = Volume.load(FOLDER, source)
        image = np.asarray(volume.voxels)[::STEP, ::STEP, ::STEP].transpose(2, 1, 0).astype(np.float32)
        affine = np.zeros((4, 4))
        affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = STEP, STEP, STEP, 1
        found.append((np.ascontiguousarray(image), Grid(affine), np.array(volume.centre)))
    return found


@pytest.fixture(scope="module")
def there(scans) -> Registration:
    pytest.importorskip("SimpleITK", reason="SimpleITK is not installed: pip install 'recond[follow-up]'")
    (first, grid, _), (second, other, _) = scans
    return register(first, grid, second, other)


def test_there_and_back_is_where_it_began(scans, there):
    (first, grid, middle), (second, other, _) = scans
    back = register(second, other, first, grid)
    corners = middle + np.array([(x, y, z) for x in (-60, 60) for y in (-70, 70) for z in (-60, 60)])
    both = there.matrix @ back.matrix
    assert np.linalg.norm(corners @ both[:3, :3].T + both[:3, 3] - corners, axis=1).max() < 1.0
    assert there.quality.peak > 0.5
    assert 0.3 < there.rotation_degrees < 3


@pytest.mark.parametrize("growth", [0.0, 0.1, 0.2, 0.5])
def test_planted_growth_is_measured_within_five_per_cent(scans, there, growth):
    """Lesions of 14 and 7 ml at the same places of the head, the second scan in its own pose."""
    (first, grid, middle), (second, other, _) = scans
    masks = []
    pose = there.inverse
    for image, where, moved, factor in ((first, grid, None, 1.0), (second, other, pose, (1 + growth) ** (1 / 3))):
        mask = np.zeros(image.shape, dtype=bool)
        for site, radius in (((-35.3, 20.4, 20.2), 15.0), ((30.4, -30.2, 25.3), 12.0)):
            mask |= near(where, image.shape, middle + np.array(site), radius * factor, moved)
        masks.append(mask.astype(np.uint8))
    visits = [
        Visit(name, image, where, {"lesion": HeadResult("lesions", mask)})
        for name, (image, where, _), mask in zip(("first", "second"), scans, masks, strict=True)
    ]
    found = compare(*visits, registration=there).lesions["lesion"]
    assert len(found.changes) == 2
    expected = "grown" if growth > 0.15 else "stable"
    for change in found.changes:
        assert change.volume.current / change.volume.prior == pytest.approx(1 + growth, rel=0.05)
        assert change.status == expected


def near(grid, shape, centre, radius, pose):
    """Return a ball about a place of the head, computed in a box around it."""
    place = centre if pose is None else pose[:3, :3] @ centre + pose[:3, 3]
    low = np.maximum(np.round(grid.indices(place[None])[0]).astype(int) - 14, 0)
    affine = grid.affine.copy()
    affine[:3, 3] = grid.positions(low[None])[0]
    mask = np.zeros(shape, dtype=bool)
    box = tuple(slice(int(one), int(one) + 29) for one in low)
    mask[box] = ellipsoid(Grid(affine), (29, 29, 29), place, radius, samples=3)
    return mask
