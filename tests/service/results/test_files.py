"""Output files, each read back by something else than what wrote it."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from pathlib import Path

import h5py
import ismrmrd
import nibabel
import numpy as np
import pytest
from PIL import Image
from raw_builders import added, codes, file_request

from recond_service.ingest import read_scan
from recond_service.ingest.images import read_images
from recond_service.results import ResultWriter
from recond_service.types import (
    FindingList,
    Frame,
    FrameIndex,
    Geometry,
    InvalidInputError,
    Limits,
    OutputFormat,
    Part,
    PartFormat,
    PartRole,
    ScanRequest,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # nibabel calls its DICOM readers experimental
    from nibabel.nicom.dicomwrappers import Wrapper

ROWS, COLUMNS = 14, 10


def rotation(seed: int) -> np.ndarray:
    """Three orthonormal columns, right-handed."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    return q * np.linalg.det(q)


def oblique(seed: int, slices: int, gap: float = 4.5, *, left_handed: bool = False) -> list[Geometry]:
    axes = rotation(seed)
    normal = -axes[:, 2] if left_handed else axes[:, 2]
    centre = np.array([12.5, -33.0, 71.0])
    return [
        Geometry(
            tuple(centre + normal * gap * number),
            tuple(axes[:, 0]),
            tuple(axes[:, 1]),
            tuple(normal),
            (1.25, 0.75, 3.0),
        )
        for number in range(slices)
    ]


def finished(
    geometries: list[Geometry | None], volumes: int = 1, order: list[int] | None = None
) -> tuple[ResultWriter, FindingList, np.ndarray]:
    findings = FindingList()
    results = ResultWriter(ScanRequest(), findings)
    images = np.random.default_rng(5).random((volumes * len(geometries), ROWS, COLUMNS)).astype(np.float32)
    plan = [(repetition, number) for repetition in range(volumes) for number in range(len(geometries))]
    for count, place in enumerate(order or range(len(plan))):
        repetition, number = plan[place]
        frame = Frame(
            index=FrameIndex(slice=number, repetition=repetition),
            kspace=np.zeros((0, 0, 0), np.complex64),
            mask=np.zeros((0, 0), np.bool_),
            calibration_extent=(0, 0),
            scale=1.0,
            image_shape=(ROWS, COLUMNS),
            geometry=geometries[number],
        )
        added(results, count, frame, images[place])
    results.finish([None] * len(plan), "cg-sense", "1")
    return results, findings, images


def write(results: ResultWriter, kind: OutputFormat, path: Path) -> Path:
    with path.open("w+b") as file:
        results.write(kind, file)
    return path


def test_fastmri_files(tmp_path: Path) -> None:
    results, _, images = finished(oblique(0, 3), order=[2, 0, 1])
    path = write(results, OutputFormat.FASTMRI_HDF5, tmp_path / "out.h5")
    with h5py.File(path) as file:
        assert set(file) == {"reconstruction", "index"}
        assert file["index"].attrs["stacks"].tolist() == [b"sagittal"]
        assert file["index"]["slice"].tolist() == [0, 1, 2]
        assert not file["index"]["stack"].any()
        assert not file.attrs
        assert file["reconstruction"].dtype == np.float32
        np.testing.assert_array_equal(file["reconstruction"][:], images)


def test_mrd_files_are_read_by_the_ismrmrd_package(tmp_path: Path) -> None:
    geometries = oblique(1, 3)
    results, _, images = finished(list(geometries), volumes=2)
    path = write(results, OutputFormat.MRD, tmp_path / "out.mrd")
    dataset = ismrmrd.Dataset(str(path), mode="r")
    assert dataset.number_of_images("image_0") == 6
    for number in range(6):
        image = dataset.read_image("image_0", number)
        geometry = geometries[number % 3]
        np.testing.assert_array_equal(image.data[0, 0], images[number].T)
        head = image.getHead()
        assert tuple(head.matrix_size) == (ROWS, COLUMNS, 1)
        np.testing.assert_allclose(head.field_of_view, (ROWS * 1.25, COLUMNS * 0.75, 3.0))
        np.testing.assert_allclose(head.position, geometry.position, rtol=1e-6)
        np.testing.assert_allclose(head.read_dir, geometry.row_direction, rtol=1e-6)
        np.testing.assert_allclose(head.phase_dir, geometry.column_direction, rtol=1e-6)
        np.testing.assert_allclose(head.slice_dir, geometry.slice_direction, rtol=1e-6)
        assert (head.slice, head.repetition) == (number % 3, number // 3)
        assert (head.data_type, head.image_type) == (ismrmrd.DATATYPE_FLOAT, ismrmrd.IMTYPE_MAGNITUDE)
        assert (head.image_index, head.image_series_index) == (number + 1, 0)
        assert image.meta["ImageComments"] == "Reconstructed by recond with cg-sense 1"
        assert [float(value) for value in image.meta["ImageRowDir"]] == pytest.approx(geometry.row_direction)
        assert head.attribute_string_len > 0
    dataset.close()


def test_mrd_files_have_a_header_of_their_images(tmp_path: Path) -> None:
    results, _, _ = finished(list(oblique(1, 3)), volumes=2)
    path = write(results, OutputFormat.MRD, tmp_path / "out.mrd")
    dataset = ismrmrd.Dataset(str(path), mode="r")
    header = ismrmrd.xsd.CreateFromDocument(dataset.read_xml_header())
    dataset.close()
    (encoding,) = header.encoding
    for space in (encoding.encodedSpace, encoding.reconSpace):
        assert (space.matrixSize.x, space.matrixSize.y, space.matrixSize.z) == (ROWS, COLUMNS, 1)
        view = space.fieldOfView_mm
        assert (view.x, view.y, view.z) == pytest.approx((ROWS * 1.25, COLUMNS * 0.75, 3.0))
    limits = encoding.encodingLimits
    assert (limits.slice.minimum, limits.slice.maximum, limits.repetition.maximum) == (0, 2, 1)
    assert encoding.trajectory is ismrmrd.xsd.trajectoryType.CARTESIAN


def test_images_are_still_no_raw_data(tmp_path: Path) -> None:
    results, _, _ = finished([None])
    path = write(results, OutputFormat.MRD, tmp_path / "out.mrd")
    with pytest.raises(InvalidInputError) as caught:
        read_scan(file_request(path), FindingList())
    assert caught.value.reason == "NOT_RAW_DATA"


def test_mrd_images_without_geometry_say_so(tmp_path: Path) -> None:
    results, _, _ = finished([None])
    path = write(results, OutputFormat.MRD, tmp_path / "out.mrd")
    dataset = ismrmrd.Dataset(str(path), mode="r")
    image = dataset.read_image("image_0", 0)
    assert image.meta["GeometryMissing"] == "1"
    assert tuple(image.getHead().read_dir) == (1, 0, 0)
    dataset.close()


class _Slice(Wrapper):
    """nibabel's DICOM geometry of one slice, fed from values."""

    def __init__(self, geometry: Geometry) -> None:
        row, column = np.array(geometry.row_direction), np.array(geometry.column_direction)
        # DICOM's "row cosine" points along increasing column index; nibabel's array index (i, j) is (row, column) of the pixel
        # array. Here pixel arrays have our rows as rows, so the DICOM row cosine is our column direction.
        position = (
            np.array(geometry.position)
            - ROWS // 2 * geometry.spacing[0] * row
            - COLUMNS // 2 * geometry.spacing[1] * column
        )
        super().__init__(
            {
                "ImageOrientationPatient": [*column, *row],
                "ImagePositionPatient": list(position),
                "PixelSpacing": [geometry.spacing[0], geometry.spacing[1]],
                "Rows": ROWS,
                "Columns": COLUMNS,
            }
        )


@pytest.mark.parametrize("seed", [2, 3, 4])
@pytest.mark.parametrize("left_handed", [False, True])
def test_the_affine_of_oblique_slices_agrees_with_nibabels_dicom_geometry(
    tmp_path: Path, seed: int, *, left_handed: bool
) -> None:
    geometries = oblique(seed, 4, left_handed=left_handed)
    results, findings, images = finished(list(geometries), order=[3, 1, 0, 2])
    nifti = nibabel.load(write(results, OutputFormat.NIFTI, tmp_path / "out.nii.gz"))
    assert nifti.shape == (ROWS, COLUMNS, 4)
    for number, geometry in enumerate(geometries):
        np.testing.assert_array_equal(nifti.dataobj[..., number], images[number])
        lps = _Slice(geometry).affine
        for row, column in ((0, 0), (ROWS - 1, 0), (3, COLUMNS - 1)):
            wanted = np.diag([-1, -1, 1, 1]) @ lps @ [row, column, 0, 1]
            np.testing.assert_allclose(nifti.affine @ [row, column, number, 1], wanted, atol=1e-4)
    centre = nifti.affine @ [ROWS // 2, COLUMNS // 2, 0, 1]
    np.testing.assert_allclose(centre[:3], np.array(geometries[0].position) * [-1, -1, 1], atol=1e-4)
    assert (nifti.header["qform_code"], nifti.header["sform_code"]) == (1, 1)
    np.testing.assert_allclose(nifti.get_qform(), nifti.get_sform(), atol=1e-3)
    assert np.linalg.norm(nifti.affine[:3, 2]) == pytest.approx(4.5, abs=1e-4)
    assert not codes(findings)


def test_orientation_of_an_axial_slice(tmp_path: Path) -> None:
    axial = Geometry((0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1), (1.0, 1.0, 5.0))
    results, _, _ = finished([axial])
    nifti = nibabel.load(write(results, OutputFormat.NIFTI, tmp_path / "out.nii.gz"))
    # Rows run to posterior (+y in LPS), columns to left (+x in LPS).
    assert nibabel.aff2axcodes(nifti.affine) == ("P", "L", "S")
    assert np.linalg.norm(nifti.affine[:3, 2]) == pytest.approx(5.0)


def test_several_volumes_are_the_fourth_axis(tmp_path: Path) -> None:
    results, _, images = finished(list(oblique(6, 3)), volumes=2)
    nifti = nibabel.load(write(results, OutputFormat.NIFTI, tmp_path / "out.nii.gz"))
    assert nifti.shape == (ROWS, COLUMNS, 3, 2)
    np.testing.assert_array_equal(np.asarray(nifti.dataobj)[:, :, 2, 1], images[5])


def test_no_geometry_gives_the_identity_and_a_finding(tmp_path: Path) -> None:
    results, findings, _ = finished([None, None])
    nifti = nibabel.load(write(results, OutputFormat.NIFTI, tmp_path / "out.nii.gz"))
    np.testing.assert_array_equal(nifti.affine, np.eye(4))
    assert "geometry-missing" in findings


@pytest.mark.parametrize(("spacing", "sized"), [((), False), ((5.0, 2.0, 2.0), True)])
def test_placeholder_of_one_millimetre_is_not_measured_with(
    tmp_path: Path, spacing: tuple[float, ...], sized: bool
) -> None:
    """Heads would give volumes of images whose pixels nobody knows."""
    results, _, images = finished([None, None])
    path = write(results, OutputFormat.NIFTI, tmp_path / "out.nii.gz")
    assert nibabel.load(path).header.get_xyzt_units()[0] == "unknown"
    part = Part(PartRole.IMAGES, PartFormat.UNSPECIFIED, path.name, path.stat().st_size, path=str(path))
    found = read_images([part], spacing, Limits(), FindingList())
    assert all((image.geometry is not None) is sized for image in found.images)
    np.testing.assert_array_equal(found.images[1].pixels, images[1])


def test_uneven_slices_are_said(tmp_path: Path) -> None:
    geometries = oblique(7, 3)
    geometries[2] = replace(geometries[2], position=tuple(np.array(geometries[2].position) * 1.2))
    results, findings, _ = finished(list(geometries))
    write(results, OutputFormat.NIFTI, tmp_path / "out.nii.gz")
    assert "slices-uneven" in findings


def test_volumes_of_different_slices_are_stacked_and_said() -> None:
    findings = FindingList()
    results = ResultWriter(ScanRequest(), findings)
    for number, index in enumerate((FrameIndex(0), FrameIndex(1), FrameIndex(0, repetition=1))):
        frame = Frame(
            index, np.zeros((0, 0, 0), np.complex64), np.zeros((0, 0), np.bool_), (0, 0), 1.0, (ROWS, COLUMNS)
        )
        added(results, number, frame, np.ones((ROWS, COLUMNS), np.float32))
    results.finish([None] * 3, "rss", "1")
    buffer = io.BytesIO()
    results.write(OutputFormat.NIFTI, buffer)
    assert "volumes-differ" in findings


@pytest.mark.parametrize("images", [1, 3, 7])
def test_png_sheets(tmp_path: Path, images: int) -> None:
    results, _, pixels = finished([None] * images)
    with Image.open(write(results, OutputFormat.PNG, tmp_path / "out.png")) as sheet:
        assert sheet.mode == "L"
        shown = np.asarray(sheet)
    across = shown.shape[1] // COLUMNS
    assert across * COLUMNS == shown.shape[1]
    assert across * (shown.shape[0] // ROWS) >= images
    white = np.percentile(pixels, 99.5)
    for number in range(images):
        top, left = number // across * ROWS, number % across * COLUMNS
        wanted = np.clip(pixels[number] / white, 0, 1) * 255
        np.testing.assert_allclose(shown[top : top + ROWS, left : left + COLUMNS], wanted, atol=0.51)


def test_a_png_of_zeros_is_black() -> None:
    findings = FindingList()
    results = ResultWriter(ScanRequest(), findings)
    frame = Frame(
        FrameIndex(), np.zeros((0, 0, 0), np.complex64), np.zeros((0, 0), np.bool_), (0, 0), 1.0, (ROWS, COLUMNS)
    )
    added(results, 0, frame, np.zeros((ROWS, COLUMNS), np.float32))
    results.finish([None], "rss", "1")
    buffer = io.BytesIO()
    results.write(OutputFormat.PNG, buffer)
    with Image.open(buffer) as sheet:
        assert not np.asarray(sheet).any()


@pytest.mark.parametrize("kind", list(OutputFormat))
def test_equal_images_give_equal_bytes(kind: OutputFormat) -> None:
    written = []
    for _ in range(2):
        results, _, _ = finished(list(oblique(8, 3)))
        buffer = io.BytesIO()
        results.write(kind, buffer)
        written.append(buffer.getvalue())
    assert written[0] == written[1]
