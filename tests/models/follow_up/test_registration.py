import json
import sys

import numpy as np
import pytest
from follow_up_phantoms import SHAPE, SPACING, ellipsoid, grid_of, head, largest_error, pose_of
from scipy.spatial.transform import Rotation

from recond_models.follow_up import (
    HeadResult,
    RegistrationFailedError,
    RegistrationUnavailableError,
    Visit,
    VisitError,
    compare,
    register,
)

GRID = grid_of(SPACING, SHAPE)


@pytest.fixture(scope="module")
def prior():
    pytest.importorskip("SimpleITK", reason="SimpleITK is not installed: pip install 'recond[follow-up]'")
    return head(GRID, SHAPE)


def test_a_turned_head_is_found_and_the_way_back_is_its_inverse(prior):
    pose = pose_of((12, -8, 15), (9, -6, 14))
    current = head(GRID, SHAPE, pose, seed=1)
    there, back = register(prior, GRID, current, GRID), register(current, GRID, prior, GRID)
    assert largest_error(there.matrix, np.linalg.inv(pose)) < 1
    assert largest_error(there.matrix @ back.matrix, np.eye(4)) < 1.5
    assert there.rotation_degrees == pytest.approx(np.degrees(Rotation.from_matrix(pose[:3, :3]).magnitude()), abs=1)
    assert there.quality.failure is None
    assert there.notes == ()
    answer = json.loads(json.dumps(there.to_json()))
    assert answer["overlap"] > 0.95
    assert answer["peak"] > 0.4
    assert answer["brain_dice"] is None


def test_another_contrast_spacing_and_field_of_view(prior):
    """Thick oblique slices of the upper head, bright where the other scan is dark."""
    shape = (20, 46, 45)
    grid = grid_of((6.0, 4.0, 4.0), shape, Rotation.from_euler("x", 12, degrees=True))
    pose = pose_of((-10, 6, 8), (5, 12, -20))
    image = head(grid, shape, pose, seed=2)
    current = np.where(image > 100, 900 - image, image) * 1e9
    found = register(prior, GRID, current, grid)
    assert largest_error(found.matrix, np.linalg.inv(pose)) < 2


def test_a_head_without_skull_on_one_with_it(prior):
    pose = pose_of((8, 5, -10), (-7, 5, 6))
    brain = ellipsoid(GRID, SHAPE, np.array([5.0, -12, 32]), (60, 78, 70), pose)
    current = np.where(brain, head(GRID, SHAPE, pose, seed=3), 0)
    assert largest_error(register(prior, GRID, current, GRID).matrix, np.linalg.inv(pose)) < 2


def test_brain_masks_judge_the_result(prior):
    pose = pose_of((5, 0, -5), (3, 2, 1))
    current = head(GRID, SHAPE, pose, seed=1)
    middle = np.array([5.0, -12, 32])
    brains = [ellipsoid(GRID, SHAPE, middle, (60, 78, 70), one) for one in (None, pose)]
    found = register(prior, GRID, current, GRID, prior_brain=brains[0], current_brain=brains[1])
    assert found.quality.brain_dice > 0.97
    wrong = ellipsoid(GRID, SHAPE, middle + np.array([0, 30, 20]), (45, 50, 40), pose)
    with pytest.raises(RegistrationFailedError, match="brain masks"):
        register(prior, GRID, current, GRID, prior_brain=brains[0], current_brain=wrong)


def test_a_failed_registration_is_a_finding_and_totals_come_all_the_same(prior):
    lesion = ellipsoid(GRID, SHAPE, np.array([25.0, -10, 40]), 10).astype(np.uint8)
    noise = np.random.default_rng(0).random(SHAPE)
    visits = [
        Visit(name, image, GRID, {"lesion": HeadResult("lesions", lesion)})
        for name, image in (("prior", prior), ("current", noise))
    ]
    result = compare(*visits)
    found = result.lesions["lesion"]
    assert result.registration is None
    assert [one.code for one in result.notes] == ["registration-failed"]
    assert "does not fit onto the prior one" in result.notes[0].message
    assert found.changes is None
    assert found.total.absolute == 0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda image: image[:3], "at least 4 slices"),
        (np.zeros_like, "empty"),
        (lambda image: np.where(image > 600, np.nan, image), "not finite"),
        (lambda image: image.astype(np.complex64), "real"),
    ],
)
def test_bad_images_are_refused(prior, change, why):
    with pytest.raises(VisitError, match=why):
        register(prior, GRID, change(prior), GRID)


def test_without_the_library_the_error_says_what_to_install(prior, monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(RegistrationUnavailableError, match="follow-up"):
        register(prior, GRID, prior, GRID)
