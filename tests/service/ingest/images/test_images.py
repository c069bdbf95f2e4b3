"""Images of files in their place in the patient: NIfTI, DICOM, MRD, HDF5; and files that are none of these."""

import gzip
import io
from dataclasses import replace

import h5py
import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from recond_service.ingest.images import read_images, read_label_map
from recond_service.results.writers import write_mrd
from recond_service.series import StackNumbers, affine_of, make_series
from recond_service.types import (
    FindingList,
    FinishedImage,
    FrameIndex,
    Geometry,
    InvalidInputError,
    LimitExceededError,
    Limits,
    Part,
    PartFormat,
    PartRole,
)

RANDOM = np.random.default_rng(0)
LIMITS = Limits()


@pytest.fixture
def read(tmp_path):
    """Reads files of these contents."""

    def run(
        *contents: bytes,
        spacing: tuple[float, ...] = (),
        limits: Limits = LIMITS,
        findings: FindingList | None = None,
    ):
        parts = []
        for number, content in enumerate(contents):
            path = tmp_path / f"file-{number}"
            path.write_bytes(content)
            parts.append(Part(PartRole.IMAGES, PartFormat.UNSPECIFIED, path.name, len(content), path=str(path)))
        return read_images(parts, spacing, limits, findings or FindingList())

    return run


def nifti(data: np.ndarray, affine: np.ndarray, *, compressed: bool = True, kind=nibabel.Nifti1Image) -> bytes:
    content = kind(data, affine).to_bytes()
    return gzip.compress(content) if compressed else content


def positions(volume) -> np.ndarray:
    """Return RAS mm of the voxels (rows, columns, slices, 3)."""
    affine = affine_of(volume.images, FindingList())
    rows, columns = volume.images[0].pixels.shape
    grid = np.stack(np.meshgrid(range(rows), range(columns), range(len(volume.images)), indexing="ij"), axis=-1)
    return grid @ affine[:3, :3].T + affine[:3, 3]


AFFINES = {
    "axial": np.diag([-1.0, 1.0, 5.0, 1.0]),
    "sagittal": np.array([[0, 0, 4.0, 3], [1, 0, 0, -20], [0, 1.2, 0, 7], [0, 0, 0, 1]]),
    "coronal stored first": np.array([[0, 1.0, 0, 3], [6.0, 0, 0, -20], [0, 0, -1, 7], [0, 0, 0, 1]]),
    "isotropic": np.diag([1.0, 1.0, 1.0, 1.0]),
}


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("name", AFFINES)
def test_voxels_of_a_nifti_file_stay_where_they_are(read, name, kind):
    data = RANDOM.random((6, 7, 8)).astype(np.float32)
    affine = AFFINES[name]
    volume = read(nifti(data, affine, compressed=kind is nibabel.Nifti1Image, kind=kind))
    where = positions(volume)
    index = np.rint((where - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T).astype(int)
    pixels = np.stack([image.pixels for image in volume.images], axis=-1)
    assert np.array_equal(pixels, data[index[..., 0], index[..., 1], index[..., 2]])
    slices = volume.voxel_order[2]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    assert spacing[slices] == spacing.max()
    if name == "isotropic":
        assert slices == 2


def test_scaled_integers_and_volumes_over_time(read):
    image = nibabel.Nifti1Image(np.arange(4 * 4 * 3 * 2, dtype=np.int16).reshape(4, 4, 3, 2), np.diag([1, 1, 3, 1.0]))
    image.header.set_slope_inter(2.0, 1.0)
    stored = nibabel.Nifti1Image(np.asarray(image.dataobj) * 0 + np.asarray(image.dataobj), image.affine)
    volume = read(nifti(np.asarray(stored.dataobj), image.affine))
    assert [(each.index.slice, each.index.repetition) for each in volume.images] == [
        (place, time) for time in range(2) for place in range(3)
    ]
    assert volume.images[4].pixels[2, 3] == np.asarray(stored.dataobj)[2, 3, 1, 1]


def test_a_label_map_comes_back_in_the_order_of_its_file(read, tmp_path):
    affine = AFFINES["coronal stored first"]
    volume = read(nifti(RANDOM.random((6, 7, 8)).astype(np.float32), affine))
    labels = RANDOM.integers(0, 4, (6, 7, 8)).astype(np.uint8)
    path = tmp_path / "labels.nii.gz"
    path.write_bytes(nifti(labels, affine))
    part = Part(PartRole.LABELS, PartFormat.UNSPECIFIED, "labels", path.stat().st_size, path=str(path))
    shape = (len(volume.images), *volume.images[0].pixels.shape)
    grid = affine_of(volume.images, FindingList())
    found, names = read_label_map(part, volume.voxel_order, shape, grid, Limits())
    assert np.array_equal(found.transpose(1, 2, 0), labels.transpose(volume.voxel_order))
    assert names == {}
    with pytest.raises(InvalidInputError, match="give the label map of these images"):
        read_label_map(part, volume.voxel_order, (1, 2, 3), grid, Limits())


def label_map(path, labels: np.ndarray, affine: np.ndarray) -> Part:
    path.write_bytes(nifti(labels, affine))
    return Part(PartRole.LABELS, PartFormat.UNSPECIFIED, "labels", path.stat().st_size, path=str(path))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("turned", [(), (0,), (1, 2)])
def test_a_label_map_stored_in_other_axes_lies_where_it_says(read, tmp_path, order, turned):
    """Such as one that another program has written for a DICOM series."""
    affine = AFFINES["axial"]
    volume = read(nifti(RANDOM.random((6, 6, 6)).astype(np.float32), affine))
    labels = RANDOM.integers(0, 4, (6, 6, 6)).astype(np.uint8)
    moved = affine.copy()
    for axis in turned:
        moved[:3, 3] += 5 * moved[:3, axis]
        moved[:3, axis] *= -1
    stored = np.flip(labels, turned).transpose(order)
    part = label_map(tmp_path / "labels.nii.gz", stored, moved[:, [*order, 3]])
    grid = affine_of(volume.images, FindingList())
    found, _ = read_label_map(part, volume.voxel_order, (6, 6, 6), grid, Limits())
    assert np.array_equal(found.transpose(1, 2, 0), labels.transpose(volume.voxel_order))


def test_a_label_map_that_lies_elsewhere_is_refused(read, tmp_path):
    affine = AFFINES["axial"]
    volume = read(nifti(RANDOM.random((6, 6, 6)).astype(np.float32), affine))
    shifted, coarse = affine.copy(), affine.copy()
    shifted[0, 3] = 2.0
    coarse[0, 0] = -1.1
    for number, other in enumerate((shifted, coarse)):
        part = label_map(tmp_path / f"labels-{number}.nii.gz", np.ones((6, 6, 6), np.uint8), other)
        with pytest.raises(InvalidInputError, match="does not lie on the voxels"):
            read_label_map(part, None, (6, 6, 6), affine_of(volume.images, FindingList()), Limits())


def test_a_header_extension_that_is_nested_without_end_names_no_labels(tmp_path):
    image = nibabel.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, b"[" * 200_000))
    path = tmp_path / "labels.nii"
    path.write_bytes(image.to_bytes())
    part = Part(PartRole.LABELS, PartFormat.UNSPECIFIED, "labels", path.stat().st_size, path=str(path))
    assert read_label_map(part, None, (3, 3, 3), np.eye(4), Limits())[1] == {}


def test_label_maps_hold_whole_numbers(tmp_path):
    path = tmp_path / "labels.nii"
    for values in (np.float32(0.5), np.int16(-1), np.complex64(1), np.float32(np.nan)):
        part = label_map(path, np.full((3, 3, 3), values), np.eye(4))
        with pytest.raises(InvalidInputError, match="whole numbers"):
            read_label_map(part, None, (3, 3, 3), np.eye(4), Limits())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (gzip.compress(nibabel.Nifti1Image(RANDOM.random((9, 9, 9)), np.eye(4)).to_bytes())[:-900], "NIFTI_DAMAGED"),
        (nibabel.Nifti1Image(np.ones((9, 9, 9), np.float32), np.eye(4)).to_bytes()[:-900], "NIFTI_DAMAGED"),
        (gzip.compress(b"hello" * 100), "NIFTI_DAMAGED"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 400, "NOT_IMAGES"),
        (b"", "NOT_IMAGES"),
        (bytes(128) + b"DICM" + b"\xff" * 64, "NOT_IMAGES"),
    ],
    ids=["cut gzip", "cut", "no nifti", "png", "empty", "broken dicom"],
)
def test_damaged_and_foreign_files_say_what_is_wrong(read, content, reason):
    with pytest.raises(InvalidInputError) as caught:
        read(content)
    assert caught.value.reason == reason


def test_what_unpacks_to_too_much_is_refused(read):
    bomb = gzip.compress(nibabel.Nifti1Image(np.zeros((64, 64, 64), np.float32), np.eye(4)).to_bytes())
    with pytest.raises(LimitExceededError):
        read(bomb, limits=Limits(max_scan_bytes=100_000))


def test_an_affine_that_is_none_is_refused(read):
    image = nibabel.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4))
    content = bytearray(image.to_bytes())
    content[280:284] = np.float32(np.nan).tobytes()  # the first number of the sform
    with pytest.raises(InvalidInputError) as caught:
        read(bytes(content))
    assert caught.value.reason in {"AFFINE", "NIFTI_DAMAGED"}


def dicom(pixels: np.ndarray, position, series: str, **tags) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = pydicom.Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID = series
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.ImagePositionPatient = list(position)
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]  # coronal: columns to the left, rows to the feet
    dataset.PixelSpacing = [1.5, 0.75]
    dataset.SliceThickness = 3
    dataset.PixelData = pixels.astype(np.uint16).tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def test_dicom_images_lie_where_they_say(read):
    series = generate_uid()
    pixels = RANDOM.integers(0, 1000, (4, 6, 5))
    files = [
        dicom(image, (10, -4.0 * number, 30), series, RescaleSlope=2, RescaleIntercept=-7)
        for number, image in enumerate(pixels)
    ]
    volume = read(*files[::-1])
    image = volume.images[3]  # sent last, the first of the series
    assert np.array_equal(image.pixels, pixels[0] * 2.0 - 7)
    geometry = image.geometry
    assert geometry.spacing == (1.5, 0.75, 3)
    # Pixel (0, 0) lies at the position of the file; that of the geometry is that of pixel (3, 2).
    corner = (
        np.array(geometry.position)
        - 3 * 1.5 * np.array(geometry.row_direction)
        - 2 * 0.75 * np.array(geometry.column_direction)
    )
    assert corner == pytest.approx([10, 0, 30])
    assert geometry.row_direction == (0, 0, -1)


def test_dicom_files_of_two_series_are_refused(read):
    files = [dicom(np.ones((4, 4)), (0, 0, 0), generate_uid()) for _ in range(2)]
    with pytest.raises(InvalidInputError) as caught:
        read(*files)
    assert caught.value.reason == "SEVERAL_SERIES"


def test_repetitions_of_a_dicom_series_are_volumes(read):
    series = generate_uid()
    files = [dicom(np.full((4, 4), n), (0, -4.0 * (n % 3), 0), series) for n in range(6)]
    volume = read(*files)
    assert [(image.index.slice, image.index.repetition) for image in volume.images] == [
        (0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)
    ]  # fmt: skip


def test_mrd_images_come_back_as_they_were_written(read):
    geometry = Geometry((1.0, 2.0, 3.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (1.5, 2.0, 4.0))
    made = [
        FinishedImage(
            number,
            FrameIndex(slice=number),
            RANDOM.random((6, 5)).astype(np.float32),
            replace(geometry, position=(1.0 + 4 * number, 2.0, 3.0)),
        )
        for number in range(3)
    ]
    numbers = StackNumbers()
    for image in made:
        numbers.of(image.index, image.geometry, image.pixels.shape, None)
    buffer = io.BytesIO()
    write_mrd(make_series(made, numbers, None, FindingList()), "tv", "1", buffer)
    volume = read(buffer.getvalue())
    for image, expected in zip(volume.images, made, strict=True):
        assert np.array_equal(image.pixels, expected.pixels)
        assert np.allclose(image.geometry.position, expected.geometry.position)
        assert np.allclose(image.geometry.spacing, expected.geometry.spacing)
        assert np.allclose(image.geometry.row_direction, expected.geometry.row_direction)


def test_a_reconstruction_gets_the_spacing_that_comes_along(read):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["reconstruction"] = np.ones((4, 5, 6), np.float32)
    assert all(image.geometry is None for image in read(buffer.getvalue()).images)
    volume = read(buffer.getvalue(), spacing=(5.0, 1.0, 2.0))
    assert [image.geometry.position[2] for image in volume.images] == [-10, -5, 0, 5]
    assert volume.images[0].geometry.spacing == (1.0, 2.0, 5.0)
    for spacing in ((0.0, 1, 1), (1.0, 1), (1.0, 1, float("nan"))):
        with pytest.raises(InvalidInputError, match="spacing"):
            read(buffer.getvalue(), spacing=spacing)


def test_raw_data_are_no_images(read):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["kspace"] = np.ones((1, 2, 4, 4), np.complex64)
    with pytest.raises(InvalidInputError) as caught:
        read(buffer.getvalue())
    assert caught.value.reason == "NO_IMAGES"


def test_several_files_that_are_not_dicom_are_refused(read):
    content = nifti(np.ones((4, 4, 4), np.float32), np.eye(4))
    with pytest.raises(InvalidInputError) as caught:
        read(content, content)
    assert caught.value.reason == "SEVERAL_FILES"
