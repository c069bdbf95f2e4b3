import numpy as np
import pytest
from follow_up_phantoms import CENTRE, ellipsoid, grid_of
from scipy.spatial.transform import Rotation

from recond_models.heads.measurements import Grid, LabelMapError, diameters


def test_a_block_of_the_size_of_the_digital_phantom_of_ibsi():
    """Five columns, four rows and four slices of 2 mm: the reference value of the maximum 3D diameter (L0JK) is 13.1 mm."""
    found = diameters(np.ones((4, 4, 5), dtype=bool), Grid.from_spacing((2, 2, 2)))
    assert found.longest_mm == pytest.approx(13.1, abs=0.1)


def test_a_single_voxel_has_the_size_of_its_pixel():
    mask = np.zeros((3, 3, 3), dtype=bool)
    mask[1, 1, 1] = True
    found = diameters(mask, Grid.from_spacing((5, 1, 0.5)), (10, 0, 0))
    assert found.longest_mm == pytest.approx(1)
    assert found.in_plane_mm == pytest.approx(1)
    assert found.perpendicular_mm == pytest.approx(0.5)
    assert found.slice_index == 11


def test_the_thickness_of_slices_does_not_make_a_ball_longer():
    shape, spacing = (14, 60, 60), (5, 0.6, 0.6)
    grid = grid_of(spacing, shape)
    for shift in (0, 1.2, 2.5):
        found = diameters(ellipsoid(grid, shape, CENTRE + np.array([0, 0, shift]), 9.0), grid)
        assert found.longest_mm == pytest.approx(18, abs=0.7)
        assert found.longest_mm >= found.in_plane_mm


@pytest.mark.parametrize(
    ("spacing", "turn"),
    [
        ((1, 1, 1), None),
        ((3, 0.8, 0.6), None),
        ((1.5, 0.9, 0.9), Rotation.from_euler("xyz", [25, -15, 30], degrees=True)),
    ],
)
def test_an_ellipsoid_has_its_diameters_whatever_the_grid(spacing, turn):
    shape = tuple(int(60 / one) for one in spacing)
    grid = grid_of(spacing, shape, turn)
    mask = ellipsoid(grid, shape, CENTRE, (10, 18, 7))
    assert diameters(mask, grid).longest_mm == pytest.approx(36, abs=1.2)


def test_in_plane_diameters_of_an_ellipse_that_lies_across():
    shape, spacing = (9, 90, 120), (3, 0.8, 0.6)
    grid = grid_of(spacing, shape)
    turn = Rotation.from_euler("z", 40, degrees=True).as_matrix()
    mask = np.zeros(shape, dtype=bool)
    places = (grid.positions(np.argwhere(~mask)) - CENTRE) @ turn
    mask[:] = (((places / (20, 9, 10)) ** 2).sum(axis=1) <= 1).reshape(shape)
    found = diameters(mask, grid)
    assert found.slice_index == 4
    assert found.in_plane_mm == pytest.approx(40, abs=0.5)
    assert found.perpendicular_mm == pytest.approx(18, abs=0.6)


def test_the_perpendicular_is_a_line_across_and_no_projection():
    """A parallelogram: no line at right angles to its diagonal is as long as its width between two parallels, 30.9 mm."""
    rows, columns = np.indices((60, 60))
    along = (rows - 10) / 30
    mask = (along >= 0) & (along <= 1) & (columns >= 5 + 20 * along) & (columns <= 35 + 20 * along)
    found = diameters(mask[None], Grid.from_spacing((1, 1, 1)))
    assert found.in_plane_mm == pytest.approx(np.hypot(30, 50), abs=1.2)
    assert found.perpendicular_mm == pytest.approx(27.6, abs=1.2)


def test_an_empty_mask_has_none():
    with pytest.raises(LabelMapError, match="empty"):
        diameters(np.zeros((2, 2, 2), dtype=bool), Grid.from_spacing((1, 1, 1)))
