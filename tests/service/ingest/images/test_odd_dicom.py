"""DICOM folders as they come from hospitals: other objects among the images, copies, enhanced files, odd pixels."""

import io

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from recond_service.ingest.images import read_images
from recond_service.types import FindingList, InvalidInputError, Limits, Part, PartFormat, PartRole

PIXELS = np.random.default_rng(0).integers(1, 1000, (4, 6, 5)).astype(np.uint16)


@pytest.fixture
def read(tmp_path):
    """Reads files of these contents; returns the images and the codes of the findings."""

    def run(*contents: bytes):
        parts = []
        for number, content in enumerate(contents):
            path = tmp_path / f"file-{number}"
            path.write_bytes(content)
            parts.append(Part(PartRole.IMAGES, PartFormat.UNSPECIFIED, path.name, len(content), path=str(path)))
        findings = FindingList()
        return read_images(parts, (), Limits(), findings).images, {finding.code for finding in findings}

    return run


def dataset(number: int = 0, **changes: object) -> pydicom.Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.SeriesInstanceUID = "1.2.3"
    made.Rows, made.Columns = PIXELS.shape[1:]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, 0
    made.PixelSpacing, made.SliceThickness = [1.0, 1.0], 4.0
    made.ImageOrientationPatient, made.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 4.0 * number]
    made.PixelData = PIXELS[number].tobytes()
    for name, value in changes.items():
        if value is None:
            delattr(made, name)
        else:
            setattr(made, name, value)
    return made


def stored(made: pydicom.Dataset) -> bytes:
    content = io.BytesIO()
    made.save_as(content, enforce_file_format=True)
    return content.getvalue()


SERIES = [stored(dataset(number)) for number in range(4)]


def test_objects_without_pixels_are_left_out(read):
    """DICOMDIR and structured reports lie in the same folder; they are of other series."""
    report = stored(dataset(0, PixelData=None, SeriesInstanceUID="9"))
    images, codes = read(report, *SERIES)
    assert len(images) == 4
    assert "files-without-images" in codes
    with pytest.raises(InvalidInputError, match="no images"):
        read(report)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "DICOM_UNREADABLE"),
        (b"hello", "DICOM_UNREADABLE"),
        (stored(dataset(3, PhotometricInterpretation="PALETTE COLOR")), "NOT_IMAGES"),
        (stored(dataset(3, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])), "DICOM_MOSAIC"),
        (stored(dataset(3, SeriesInstanceUID="1.2.4")), "SEVERAL_SERIES"),
        (stored(dataset(3, Rows=600)), "DICOM_UNREADABLE"),
    ],
    ids=["empty", "text", "palette", "mosaic", "series", "short"],
)
def test_what_is_no_image_of_the_series_is_named(read, content, reason):
    with pytest.raises(InvalidInputError) as caught:
        read(*SERIES[:3], content)
    assert (caught.value.reason, caught.value.field) == (reason, "file-3")


def test_a_copy_of_a_slice_does_not_spoil_the_volume(read):
    images, codes = read(*SERIES, SERIES[1])
    assert [image.index.slice for image in images] == [0, 1, 2, 3]
    assert "images-twice" in codes
    images, codes = read(*SERIES, *SERIES)
    assert [image.index.repetition for image in images] == [0] * 4 + [1] * 4
    assert "images-twice" not in codes
    images, _ = read(*SERIES, stored(dataset(1, PixelData=PIXELS[2].tobytes())))
    assert len(images) == 5, "measured pixels were dropped"


def test_frames_of_an_enhanced_file_have_their_own_scale_and_place(read):
    groups = []
    for number in range(4):
        group, place, scale = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, 7.0 * number]
        scale.RescaleSlope, scale.RescaleIntercept = number + 1, 10 * number
        group.PlanePositionSequence, group.PixelValueTransformationSequence = [place], [scale]
        groups.append(group)
    made = dataset(0, NumberOfFrames=4, PixelData=PIXELS.tobytes(), PerFrameFunctionalGroupsSequence=groups)
    images, _ = read(stored(made))
    for number, image in enumerate(images):
        assert np.array_equal(image.pixels, PIXELS[number] * np.float32(number + 1) + 10 * number)
        assert image.geometry.position[2] == 7.0 * number


def test_inverted_grey_values_are_turned_back(read):
    (image,), _ = read(stored(dataset(0, PhotometricInterpretation="MONOCHROME1")))
    assert np.array_equal(
        np.argsort(image.pixels, axis=None), np.argsort(-image.pixels.max() + image.pixels, axis=None)
    )
    assert image.pixels.flat[PIXELS[0].argmin()] == image.pixels.max()


def test_a_position_that_is_no_number_is_no_geometry(read):
    (image,), codes = read(stored(dataset(0, ImagePositionPatient=[float("nan"), 0, 0])))
    assert image.geometry is None
    assert "geometry-missing" in codes


def compressed(number: int, syntax: str, codestream: bytes, **changes: object) -> bytes:
    made = dataset(number, PixelData=encapsulate([codestream]), **changes)
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = syntax
    return stored(made)


def encoded(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, **options)
    return content.getvalue()


def test_compressed_images_are_decoded(read):
    smooth = np.add.outer(np.arange(6), np.arange(5)).astype(np.uint8) * 20
    eight = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    run_length = dataset(0)
    run_length.compress(RLELossless)
    images, _ = read(
        stored(run_length),
        compressed(1, JPEG2000Lossless, encoded(PIXELS[1], "JPEG2000", no_jp2=True)),
        compressed(2, JPEGBaseline8Bit, encoded(smooth, "JPEG", quality=98), **eight),
        compressed(3, JPEGExtended12Bit, encoded(smooth, "JPEG", quality=98), **eight),
    )
    assert np.array_equal(images[0].pixels, PIXELS[0])
    assert np.array_equal(images[1].pixels, PIXELS[1])
    assert np.abs(images[2].pixels - smooth).max() <= 3
    assert np.abs(images[3].pixels - smooth).max() <= 3


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        (JPEGLosslessSV1, "JPEG Lossless"),
        (JPEGLSLossless, "JPEG-LS"),
        (JPEGExtended12Bit, "JPEG Extended"),  # of 12 bits
        (MPEG2MPML, "MPEG2"),
    ],
)
def test_a_compression_that_is_not_decoded_is_named(read, syntax, name):
    with pytest.raises(InvalidInputError, match=f"{name}.*{syntax}.*decompress it") as caught:
        read(*SERIES[:2], compressed(2, syntax, b"\xff\xd8\xff\xd9"))
    assert (caught.value.reason, caught.value.field) == ("DICOM_COMPRESSION", "file-2")


@pytest.mark.parametrize(
    "codestream", [b"\0\0", b"\xff\x4f\xff\x51" + bytes(40), encoded(PIXELS[0].repeat(9, 0), "JPEG2000")]
)
def test_compressed_pixels_that_are_damaged_or_of_another_size(read, codestream):
    with pytest.raises(InvalidInputError) as caught:
        read(compressed(0, JPEG2000Lossless, codestream))
    assert (caught.value.reason, caught.value.field) == ("DICOM_UNREADABLE", "file-0")
