"""Scans of two people: told by how alike they are after registration, on measured heads."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from recond_models.follow_up import register
from recond_models.follow_up.quality import Quality
from recond_models.heads.measurements import Grid

IMAGES = Path(__file__).resolve().parents[4] / "shared" / "data" / "train" / "images"
CODE = "registration-another-person"


def scan(name: str) -> tuple[np.ndarray, Grid]:
    """Return image (slices, rows, columns) and grid."""
    pytest.importorskip("SimpleITK", reason="SimpleITK is not installed: pip install 'recond[follow-up]'")
    path = IMAGES / f"ms_long_{name}.nii.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    image = nibabel.as_closest_canonical(nibabel.load(path))
    return image.get_fdata(dtype=np.float32).transpose(2, 1, 0), Grid(image.affine[:, [2, 1, 0, 3]])


@pytest.mark.parametrize(
    ("prior", "current", "told"),
    [
        ("patient04_study1_T1W", "patient04_study1_FLAIR", False),
        ("patient03_study1_T2W", "patient03_study2_T1W", False),  # two visits
        ("patient04_study1_T1W", "patient01_study1_T1W", True),
        ("patient04_study1_FLAIR", "patient01_study1_FLAIR", True),
    ],
)
def test_people_are_told_apart(prior, current, told):
    found = register(*scan(prior), *scan(current))
    assert (CODE in {note.code for note in found.notes}) == told, found.quality


@pytest.mark.parametrize(
    ("peak", "codes"),
    [(0.6, []), (0.38, []), (0.33, [CODE]), (0.25, ["registration-weak", CODE])],
)
def test_what_is_said_of_scans_that_are_little_alike(peak, codes):
    notes = Quality(0.95, 0.6, peak, None, 8.0).notes
    assert [note.code for note in notes] == codes
    assert all(f"{peak:.0%}" in note.message for note in notes)
