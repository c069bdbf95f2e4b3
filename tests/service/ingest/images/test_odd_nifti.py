"""NIfTI files whose header is odd: each is read as it is meant, or refused."""

import struct

import nibabel
import numpy as np
import pytest

from recond_service.ingest.images import read_images
from recond_service.series import affine_of
from recond_service.types import FindingList, ImageVolume, InvalidInputError, Limits, Part, PartFormat, PartRole

AFFINE = np.diag([1.0, 2.0, 5.0, 1.0])
DATA = np.random.default_rng(0).random((6, 7, 8)).astype(np.float32)
DIMENSIONS, PIXDIM, UNITS, FORMS, MAGIC = 40, 76, 123, 252, 344


@pytest.fixture
def read(tmp_path):
    """Reads one file of this content; returns the images and the codes of the findings."""

    def run(content: bytes) -> tuple[ImageVolume, set[str]]:
        path = tmp_path / "file.nii"
        path.write_bytes(content)
        findings = FindingList()
        part = Part(PartRole.IMAGES, PartFormat.UNSPECIFIED, path.name, len(content), path=str(path))
        volume = read_images([part], (), Limits(), findings)
        return volume, {finding.code for finding in findings}

    return run


def content(data: np.ndarray = DATA, affine: np.ndarray = AFFINE) -> bytes:
    return nibabel.Nifti1Image(data, affine).to_bytes()


def changed(original: bytes, place: int, layout: str, *values: float) -> bytes:
    edited = bytearray(original)
    struct.pack_into(layout, edited, place, *values)
    return bytes(edited)


def spacing(volume: ImageVolume) -> list[float]:
    """Return mm of rows, columns, slices."""
    return list(np.linalg.norm(affine_of(volume.images, FindingList())[:3, :3], axis=0).round(4))


def test_a_picture_is_one_slice(read):
    volume, _ = read(content(DATA[:, :, 0]))
    assert [image.pixels.shape for image in volume.images] == [(6, 7)]


def test_axes_of_one_at_the_end_do_not_count(read):
    volume, _ = read(content(DATA[..., None, None]))
    assert len(volume.images) == 8


@pytest.mark.parametrize("pixdim", [(0, 0, 0), (1, 2, 0)])
@pytest.mark.parametrize("qform", [0, 1])
def test_voxels_of_size_zero_have_no_known_size(read, pixdim, qform):
    """nibabel takes them to be 1 mm."""
    volume, codes = read(changed(changed(content(), FORMS, "<2h", qform, 0), PIXDIM, "<4f", 1, *pixdim))
    assert all(image.geometry is None for image in volume.images)
    assert "geometry-missing" in codes


@pytest.mark.parametrize(("unit", "factor"), [(1, 0.001), (3, 1000.0), (2, 1.0), (0, 1.0)])
def test_lengths_in_metres_and_micrometres(read, unit, factor):
    affine = AFFINE.copy()
    affine[:3] *= factor
    volume, _ = read(changed(content(affine=affine), UNITS, "<b", unit))
    assert spacing(volume) == pytest.approx([1, 2, 5])


def test_units_that_cannot_be_are_not_believed(read):
    volume, codes = read(changed(content(), UNITS, "<b", 1))
    assert spacing(volume) == pytest.approx([1, 2, 5])
    assert "units-implausible" in codes


def test_two_affines_that_disagree_are_said(read):
    image = nibabel.Nifti1Image(DATA, AFFINE)
    image.set_qform(np.diag([-1.0, 2.0, 5.0, 1.0]), 1)
    assert "affines-disagree" in read(image.to_bytes())[1]
    image.set_qform(AFFINE, 1)
    assert "affines-disagree" not in read(image.to_bytes())[1]


@pytest.mark.parametrize("magic", [b"ni1\0"])
def test_one_half_of_a_pair_says_so(read, magic):
    with pytest.raises(InvalidInputError) as caught:
        read(changed(content()[:352], MAGIC, "<4s", magic))
    assert caught.value.reason == "NIFTI_PAIR"


def test_lengths_that_no_machine_holds(read):
    large = nibabel.Nifti2Image(DATA, AFFINE).to_bytes()
    with pytest.raises(InvalidInputError) as caught:
        read(changed(large, 16, "<4q", 3, -(2**63), 2, 2))
    assert caught.value.reason == "IMAGE_SHAPE"
