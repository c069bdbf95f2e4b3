import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from recond_models.heads.measurements import Grid, GridError, SpacingUnknownError


def test_a_nifti_affine_is_read_in_the_order_of_the_volume():
    """Files have the axes rows, columns, slices; volumes have slices, rows, columns."""
    nifti = np.array([[0, -0.5, 0, 90], [-0.8, 0, 0, 120], [0, 0, 3, -40], [0, 0, 0, 1.0]])
    grid = Grid.from_nifti(nifti)
    assert grid.spacing == (3.0, 0.8, 0.5)
    row, column, slice_index = 7, 11, 5
    expected = (nifti @ [row, column, slice_index, 1])[:3]
    assert np.allclose(grid.positions(np.array([[slice_index, row, column]])), [expected])
    assert np.allclose(grid.indices(expected[None]), [[slice_index, row, column]])


def test_an_oblique_and_sheared_grid_has_the_volume_of_its_determinant():
    axes = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix() @ np.diag([4.0, 0.5, 0.7])
    affine = np.eye(4)
    affine[:3, :3] = axes
    assert Grid(affine).voxel_ml == pytest.approx(4.0 * 0.5 * 0.7 / 1000)
    affine[:3, 0] += axes[:, 1] * 3  # a tilted gantry: slices are sheared along the rows
    sheared = Grid(affine)
    assert sheared.voxel_ml == pytest.approx(4.0 * 0.5 * 0.7 / 1000)
    assert sheared.spacing[0] > 4


def test_a_left_handed_grid_is_a_grid():
    assert Grid(np.diag([-2.0, 1, 1, 1])).voxel_ml == pytest.approx(0.002)


def test_spacing_alone_lies_as_axial_slices_are_looked_at():
    grid = Grid.from_spacing((5, 1, 2))
    assert grid.spacing == (5.0, 1.0, 2.0)
    assert np.allclose(grid.positions(np.eye(3)), [[0, 0, 5], [0, -1, 0], [-2, 0, 0]])


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, -1, 1), (1, 1, float("nan"))])
def test_an_unknown_spacing_is_refused(spacing):
    with pytest.raises(SpacingUnknownError, match="says nothing"):
        Grid.from_spacing(spacing)


@pytest.mark.parametrize(
    ("affine", "why"),
    [
        (np.eye(3), "4 x 4"),
        (np.diag([1, 1, np.nan, 1]), "finite"),
        (np.diag([1, 1, 1e-4, 1]), "spacing"),
        (np.diag([1000.0, 1, 1, 1]), "spacing"),
        (np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1.0]]), "one plane|spacing"),
    ],
)
def test_what_is_no_geometry_is_refused(affine, why):
    with pytest.raises(GridError, match=why):
        Grid(affine)


def test_the_affine_cannot_be_changed_behind_its_back():
    affine = np.eye(4)
    grid = Grid(affine)
    affine[0, 0] = 5
    assert grid.voxel_ml == pytest.approx(0.001)
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 2
    assert grid.is_same(Grid(np.eye(4)))
    assert not grid.is_same(Grid(np.diag([2, 1, 1, 1])))
