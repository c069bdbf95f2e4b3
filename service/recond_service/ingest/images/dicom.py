"""DICOM images: single-frame files of one series, or one multi-frame file."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import UID, JPEGExtended12Bit

from recond_service.types import (
    FindingList,
    FinishedImage,
    FrameIndex,
    Geometry,
    ImageVolume,
    InvalidInputError,
    LimitExceededError,
    Limits,
    Part,
)

_PREAMBLE = 128
_BITS_OF_JPEG = 8
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def is_dicom(part: Part) -> bool:
    """Tell from its first bytes whether a file is DICOM with its preamble."""
    with Path(part.path).open("rb") as file:
        return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"


def read_dicom(parts: Sequence[Part], limits: Limits, findings: FindingList) -> ImageVolume:
    """Read the images of one DICOM series: grey values with the rescale slope and intercept applied.

    Raises
    ------
    InvalidInputError
        A file is damaged, no DICOM, in colour, a mosaic, of another series than the first, or in a compression that is not
        decoded here: JPEG of 8 bits, JPEG 2000 and RLE are.
    LimitExceededError
        They claim more than the limits allow.
    """
    images: list[FinishedImage] = []
    series, first = "", ""
    others: list[str] = []
    claimed = 0
    for place, part in enumerate(parts):
        label = part.name or f"file {place}"
        with _errors(label):
            dataset = pydicom.dcmread(part.path)
            if not any(name in dataset for name in _PIXELS):
                others.append(label)
                continue
            _require_grey(dataset, label)
            _require_known_compression(dataset, label)
            uid = str(dataset.get("SeriesInstanceUID", ""))
            if not images:
                series, first = uid, label
            if uid != series:
                raise InvalidInputError(
                    f"{label} belongs to another series than {first}: send one series a call",
                    reason="SEVERAL_SERIES",
                    field=label,
                )
            frames = int(dataset.get("NumberOfFrames", 1) or 1)
            claimed += frames * int(dataset.Rows) * int(dataset.Columns) * 4
            if claimed > limits.max_scan_bytes or len(images) + frames > limits.max_images:
                raise LimitExceededError(
                    f"the series claims more than {limits.max_images} images or {limits.max_scan_bytes} bytes, which is what this "
                    "service takes: send fewer at once",
                    reason="IMAGES_TOO_LARGE",
                    field=label,
                )
            for frame, values in enumerate(_pixels(dataset, frames)):
                geometry = _geometry(_frame_of(dataset, frame), values.shape)
                number = len(images)
                images.append(FinishedImage(number, FrameIndex(slice=number), np.ascontiguousarray(values), geometry))
    if not images:
        raise InvalidInputError(
            f"{others[0]} holds no images: send the images of a series", reason="NOT_IMAGES", field=others[0]
        )
    if others:
        findings.info(
            "files-without-images", f"{len(others)} DICOM files hold no images and were left out, such as {others[0]}."
        )
    if any(image.geometry is None for image in images):
        findings.warn("geometry-missing", "DICOM images do not tell their position and orientation.")
    return ImageVolume(tuple(_as_volumes(images, findings)))


def _require_grey(dataset: Any, label: str) -> None:  # noqa: ANN401 - pydicom has few types
    """Refuse what is no grey image of one slice a frame."""
    colours = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    if int(dataset.get("SamplesPerPixel", 1)) != 1 or colours not in {"MONOCHROME1", "MONOCHROME2"}:
        raise InvalidInputError(
            f"{label} holds no grey images: send the images of the series alone", reason="NOT_IMAGES", field=label
        )
    if "MOSAIC" in (dataset.get("ImageType") or ()):
        raise InvalidInputError(
            f"{label} is a mosaic, with all slices in one picture: convert it, for example by dcm2niix, and send NIfTI",
            reason="DICOM_MOSAIC",
            field=label,
        )


def _require_known_compression(dataset: Any, label: str) -> None:  # noqa: ANN401 - pydicom has few types
    """Refuse pixels that nothing here decodes, by the name of their transfer syntax."""
    syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
    if not syntax.is_transfer_syntax or syntax.is_private or not syntax.is_encapsulated:
        return
    try:
        known = get_decoder(syntax).is_available
    except NotImplementedError:
        known = False
    if known and not (syntax == JPEGExtended12Bit and int(dataset.BitsAllocated) > _BITS_OF_JPEG):
        return
    raise InvalidInputError(
        f"{label} is compressed as {syntax.name} ({syntax}), which is not decoded here; JPEG of 8 bits, JPEG 2000 and RLE are: "
        "decompress it, for example by gdcmconv --raw, dcmdjpeg or dcmdjpls",
        reason="DICOM_COMPRESSION",
        field=label,
    )


def _pixels(dataset: Any, frames: int) -> NDArray[np.float32]:  # noqa: ANN401 - pydicom has few types
    """Return float32 (frames, rows, columns), with the rescale slope and intercept of each frame applied."""
    stored = dataset.pixel_array
    stored = stored.reshape(frames, *stored.shape[-2:])
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":  # the smallest value is shown white
        stored = float(stored.max()) - stored.astype(np.float64)
    scaled = apply_modality_lut(stored, dataset).astype(np.float32)
    for frame in range(frames):
        group = _functional(dataset, frame, "PixelValueTransformationSequence")
        if group is not None and "RescaleSlope" in group:
            scaled[frame] = stored[frame] * float(group.RescaleSlope) + float(group.get("RescaleIntercept", 0.0))
    return scaled


def _as_volumes(images: list[FinishedImage], findings: FindingList) -> Iterator[FinishedImage]:
    """Yield the images with their counters: those that lie at one place are repetitions of each other.

    A copy of an image is left out where only some have one, because the rest would be no volume.
    """
    seen: dict[tuple[float, ...], list[FinishedImage]] = {}
    places: dict[tuple[float, ...], int] = {}
    for image in images:
        if image.geometry is None:
            continue
        seen.setdefault(_place(image.geometry), []).append(image)
    uneven = len({len(alike) for alike in seen.values()}) > 1
    copies = {
        image.number
        for alike in seen.values()
        for image in alike[1:]
        if uneven and np.array_equal(image.pixels, alike[0].pixels)
    }
    if copies:
        findings.warn("images-twice", "Images come twice, with the same pixels at the same place: one of each is used.")
    counts: Counter[tuple[float, ...]] = Counter()
    for number, image in enumerate(image for image in images if image.number not in copies):
        if image.geometry is None:
            yield replace(image, number=number)
            continue
        where = _place(image.geometry)
        index = FrameIndex(slice=places.setdefault(where, len(places)), repetition=counts[where])
        counts[where] += 1
        yield FinishedImage(number, index, image.pixels, image.geometry)


def _place(geometry: Geometry) -> tuple[float, ...]:
    return tuple(round(value, 2) for value in (*geometry.position, *geometry.slice_direction))


def _functional(dataset: Any, frame: int, name: str) -> Any:  # noqa: ANN401 - pydicom has few types
    """Return a functional group of a frame of a multi-frame file, its own or the shared one; None where there is none."""
    for groups, place in (
        (dataset.get("PerFrameFunctionalGroupsSequence"), frame),
        (dataset.get("SharedFunctionalGroupsSequence"), 0),
    ):
        if groups is not None and place < len(groups) and groups[place].get(name):
            return groups[place].get(name)[0]
    return None


def _frame_of(dataset: Any, frame: int) -> dict[str, Any]:  # noqa: ANN401 - pydicom has few types
    """Return what tells the place of a frame: of the file, or of the functional groups of a multi-frame file."""
    found: dict[str, Any] = {}
    groups = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
    sources = [dataset, *(_functional(dataset, frame, name) for name in groups)]
    names = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
    for source in sources:
        if source is not None:
            found |= {name: source.get(name) for name in names if source.get(name) is not None}
    return found


def _geometry(frame: dict[str, Any], shape: tuple[int, ...]) -> Geometry | None:
    """Return the geometry of a frame (DICOM PS3.3 C.7.6.2.1.1); None where it is not told, or is none."""
    try:
        position = np.array([float(value) for value in frame["ImagePositionPatient"]])
        orientation = np.array([float(value) for value in frame["ImageOrientationPatient"]])
        if position.shape != (3,) or orientation.shape != (6,) or not np.isfinite(position).all():
            return None
        down, right = (float(value) for value in frame["PixelSpacing"])
        thickness = float(frame.get("SliceThickness") or 0.0)
    except (KeyError, TypeError, ValueError):
        return None
    along_row, along_column = orientation[:3], orientation[3:]  # increasing column index, increasing row index
    normal = np.cross(along_row, along_column)
    sizes = (down, right, *np.linalg.norm([along_row, along_column, normal], axis=1))
    if not all(math.isfinite(size) and size > 0 for size in sizes):
        return None
    rows, columns = shape
    centre = position + rows // 2 * down * along_column + columns // 2 * right * along_row
    return Geometry(
        _vector(centre), _vector(along_column), _vector(along_row), _vector(normal), (down, right, thickness)
    )


@contextmanager
def _errors(label: str) -> Iterator[None]:
    """Raise InvalidInputError for what pydicom makes of a damaged file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values of tags that nobody looks at here
            yield
    except (InvalidInputError, LimitExceededError):
        raise
    except InvalidDicomError as error:
        raise InvalidInputError(
            f"{label} is no DICOM file: send the images of the series alone", reason="DICOM_UNREADABLE", field=label
        ) from error
    except (
        OSError,
        EOFError,
        ValueError,
        AttributeError,
        KeyError,
        TypeError,
        IndexError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise InvalidInputError(
            f"{label} cannot be read as a DICOM image ({error}): it is damaged, or compressed in a way that is not known; send it "
            "uncompressed (explicit VR little endian)",
            reason="DICOM_UNREADABLE",
            field=label,
        ) from error


def _vector(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
