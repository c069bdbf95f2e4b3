import io
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from follow_up_phantoms import CENTRE, SHAPE, SPACING, ellipsoid, grid_of, head, visit
from PIL import Image

from recond_models.follow_up import (
    HeadResult,
    Registration,
    Visit,
    VisitError,
    compare,
    picture,
    plot,
    read_clinical,
    timeline,
)
from recond_models.follow_up.display import page
from recond_models.follow_up.picture import COLOURS
from recond_models.follow_up.quality import Quality
from recond_models.heads.measurements import Grid

GRID = grid_of(SPACING, SHAPE)
STILL = Registration(np.eye(4), Quality(1.0, 1.0, 0.7, None, 0.0))


def scan(day, name, *parts):
    mask = np.zeros(SHAPE, dtype=bool)
    for at, radius in parts:
        mask |= ellipsoid(GRID, SHAPE, CENTRE + np.array(at), radius)
    return visit(mask, day, name, GRID, "P1", head(GRID, SHAPE))


BEFORE = scan(date(2024, 1, 1), "prior", ((-30, 0, 20), 10), ((25, 20, 20), 9))
AFTER = scan(date(2024, 4, 1), "current", ((-30, 0, 20), 16), ((0, -45, -10), 10))


def opened(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def pixels_of(image, status):
    """Count the pixels of the colour of a status in an image."""
    colour = [int(COLOURS[status][place : place + 2], 16) for place in (1, 3, 5)]
    return int((np.abs(image - colour).max(axis=-1) < 40).sum())


def test_both_scans_stand_side_by_side_with_outlines_by_status():
    image = opened(picture(compare(BEFORE, AFTER, registration=STILL)))
    assert image.shape[1] > 800
    left, right = image[:-60, : image.shape[1] // 2], image[:-60, image.shape[1] // 2 :]
    assert pixels_of(left, "grown") > 30
    assert pixels_of(right, "grown") > pixels_of(left, "grown")
    assert pixels_of(left, "vanished") > 30
    assert pixels_of(right, "vanished") == 0
    assert pixels_of(right, "new") > 30
    assert pixels_of(left, "new") == 0
    assert left.max() > 200


def test_the_moved_scan_shows_the_same_place():
    """The current scan lies 20 mm higher; moved onto the prior one it looks like it."""
    affine = GRID.affine.copy()
    affine[2, 3] += 20
    moved = Registration(np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -20], [0, 0, 0, 1.0]]), STILL.quality)
    shifted = visit(None, date(2024, 4, 1), "current", Grid(affine), image=head(GRID, SHAPE))
    plain = visit(None, date(2024, 1, 1), "prior", GRID, image=head(GRID, SHAPE))
    image = opened(picture(compare(plain, shifted, registration=moved)))
    half = image.shape[1] // 2
    left, right = image[60:-20, :half], image[60:-20, -half:]
    best = min(np.abs(left[:, 30:-30] - np.roll(right, shift, axis=1)[:, 30:-30]).mean() for shift in range(-30, 31))
    assert best < 6


def test_without_a_prior_the_scan_stands_alone():
    alone = opened(picture(compare(None, AFTER)))
    assert alone.shape[1] < 520
    assert pixels_of(alone, "stable") > 30


def test_scans_that_were_not_registered_stand_side_by_side_each_in_its_own_slices():
    """Structures alone are compared without a registration; here in slices of another number and size."""
    low = scan(date(2024, 1, 1), "prior", ((-30, 0, 0), 10))
    coarse = Grid(GRID.affine @ np.diag([2.0, 1, 1, 1]))
    shape = (SHAPE[0] // 2, *SHAPE[1:])
    structures = visit(None, date(2024, 4, 1), "current", coarse, image=head(coarse, shape))
    found = compare(visit(None, date(2024, 1, 1), "prior", GRID, image=low.image), structures, registration=STILL)
    image = opened(picture(replace(found, registration=None)))
    left, right = image[60:-20, : image.shape[1] // 2], image[60:-20, image.shape[1] // 2 :]
    assert image.shape[1] > 800
    assert (left > 100).mean() == pytest.approx((right > 100).mean(), rel=0.2)


def test_a_head_that_found_nothing_is_refused_by_name():
    with pytest.raises(VisitError, match="'tissue' found no lesions to outline; those that did: lesion"):
        picture(compare(None, AFTER), "tissue")


def test_slices_are_upright_whatever_the_way_they_were_scanned():
    """The nose is up in axial slices and the patient's right on the left; sagittal slices look to the left."""
    axial = page(GRID)
    assert axial.letters == ("R", "L", "A", "P")
    assert not axial.is_transposed
    upside = Grid(GRID.affine @ np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]]))
    turned = page(upside)
    assert turned.letters == ("R", "L", "A", "P")
    assert turned.is_transposed
    marker = np.zeros((6, 8))
    # The voxel that lies most to the front right goes to the top left of the page.
    corners = [(row, column) for row in (0, 5) for column in (0, 7)]
    front_right = max(corners, key=lambda one: upside.positions(np.array([[0, *one]]))[0] @ [1, 1, 0])
    marker[front_right] = 1
    assert turned.turned(marker)[0, 0] == 1
    sagittal = Grid(np.array([[2.0, 0, 0, 0], [0, 0, 1, 0], [0, -3.0, 0, 0], [0, 0, 0, 1]]))
    assert page(sagittal).letters == ("A", "P", "H", "F")
    assert page(sagittal).aspect == pytest.approx(3)
    coronal = Grid(np.array([[0, 0, 1.0, 0], [4.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]))
    assert page(coronal).letters == ("R", "L", "H", "F")


def test_the_plot_shows_volumes_and_therapies(monkeypatch):
    monkeypatch.setattr("recond_models.follow_up.comparison.register", lambda *_, **__: STILL)
    rows = read_clinical(b"patient,date,therapy\nP1,2024-02-01,SRS\n").rows
    without, with_rows = (opened(plot(timeline([BEFORE, AFTER], some))) for some in ((), rows))
    assert with_rows.shape[0] > without.shape[0]
    bar = [0x7C, 0x9C, 0xC4]
    faded = np.array(bar) * 0.6 + 255 * 0.4
    assert (np.abs(with_rows - faded).max(axis=-1) < 8).sum() > 500
    assert (np.abs(without - faded).max(axis=-1) < 8).sum() < 50
    with pytest.raises(VisitError, match="nothing of head None to draw"):
        plot(timeline([visit(None, date(2024, 1, 1))]))


def test_without_lesions_the_structures_are_drawn(monkeypatch):
    """A scan whose contrast the search for lesions refuses still has its structures."""
    monkeypatch.setattr("recond_models.follow_up.comparison.register", lambda *_, **__: STILL)
    visits = [
        Visit(
            each.name,
            each.image,
            each.grid,
            {"tissue": HeadResult("structures", (head(GRID, SHAPE) > 100).astype(np.uint8), {"all": 1})},
            each.date,
        )
        for each in (BEFORE, AFTER)
    ]
    course = timeline(visits)
    assert not course.tracks
    coloured = opened(plot(course)).std(axis=-1) > 30
    assert coloured.sum() > 100
    with pytest.raises(VisitError, match="there is of: tissue"):
        plot(course, "lesion")


def test_names_are_drawn_as_they_are(monkeypatch):
    """A dollar sign begins no formula."""
    monkeypatch.setattr("recond_models.follow_up.comparison.register", lambda *_, **__: STILL)
    named = [replace(each, name=f"${{\\frac{number}$") for number, each in enumerate((BEFORE, AFTER))]
    assert opened(picture(compare(*named, registration=STILL))).size
    assert opened(plot(timeline([replace(each, date=None, patient="$\\x") for each in named]))).size
