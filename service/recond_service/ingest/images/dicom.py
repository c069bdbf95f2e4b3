"""DICOM images: single-frame files of one series, or one multi-frame file."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from pydicom.pixels.processing import apply_modality_lut

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


def is_dicom(part: Part) -> bool:
    """Tell from its first bytes whether a file is DICOM with its preamble."""
    with Path(part.path).open("rb") as file:
        return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"


def read_dicom(parts: Sequence[Part], limits: Limits, findings: FindingList) -> ImageVolume:
    """Read the images of one DICOM series: grey values with the rescale slope and intercept applied.

    Raises
    ------
    InvalidInputError
        A file is damaged, no image, in colour, compressed in a way that is not known, or of another series than the first.
    LimitExceededError
        They claim more than the limits allow.
    """
    images: list[FinishedImage] = []
    series = ""
    claimed = 0
    for place, part in enumerate(parts):
        label = part.name or f"file {place}"
        with _errors(label):
            dataset = pydicom.dcmread(part.path)
            if "PixelData" not in dataset or int(dataset.get("SamplesPerPixel", 1)) != 1:
                raise InvalidInputError(
                    f"{label} holds no grey images: send the images of the series alone",
                    reason="NOT_IMAGES",
                    field=label,
                )
            uid = str(dataset.get("SeriesInstanceUID", ""))
            series = series or uid
            if uid != series:
                raise InvalidInputError(
                    f"{label} belongs to another series than {parts[0].name or 'the first file'}: send one series a call",
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
            pixels = apply_modality_lut(dataset.pixel_array, dataset).astype(np.float32)
            for frame, values in enumerate(pixels.reshape(frames, *pixels.shape[-2:])):
                geometry = _geometry(_frame_of(dataset, frame), values.shape)
                number = len(images)
                images.append(FinishedImage(number, FrameIndex(slice=number), np.ascontiguousarray(values), geometry))
    if any(image.geometry is None for image in images):
        findings.warn("geometry-missing", "DICOM images do not tell their position and orientation.")
    return ImageVolume(tuple(_as_volumes(images)))


def _as_volumes(images: list[FinishedImage]) -> Iterator[FinishedImage]:
    """Yield the images with their counters: those that lie at one place are repetitions of each other."""
    seen: dict[tuple[float, ...], int] = {}
    for image in images:
        if image.geometry is None:
            yield image
            continue
        geometry = image.geometry
        where = tuple(round(value, 2) for value in (*geometry.position, *geometry.slice_direction))
        repetition = seen.get(where, 0)
        seen[where] = repetition + 1
        slice_number = list(seen).index(where) if repetition else len(seen) - 1
        yield FinishedImage(image.number, FrameIndex(slice=slice_number, repetition=repetition), image.pixels, geometry)


def _frame_of(dataset: Any, frame: int) -> dict[str, Any]:  # noqa: ANN401 - pydicom has few types
    """Return what tells the place of a frame: of the file, or of the functional groups of a multi-frame file."""
    found: dict[str, Any] = {}
    sources = [dataset]
    for name, place in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", frame)):
        groups = dataset.get(name)
        if groups is not None and place < len(groups):
            for group in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
                items = groups[place].get(group)
                if items:
                    sources.append(items[0])
    names = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
    for source in sources:
        found |= {name: source.get(name) for name in names if source.get(name) is not None}
    return found


def _geometry(frame: dict[str, Any], shape: tuple[int, ...]) -> Geometry | None:
    """Return the geometry of a frame (DICOM PS3.3 C.7.6.2.1.1); None where it is not told, or is none."""
    try:
        position = np.array([float(value) for value in frame["ImagePositionPatient"]])
        orientation = np.array([float(value) for value in frame["ImageOrientationPatient"]])
        down, right = (float(value) for value in frame["PixelSpacing"])
        thickness = float(frame.get("SliceThickness") or 0.0)
    except (KeyError, TypeError, ValueError):
        return None
    along_row, along_column = orientation[:3], orientation[3:]  # increasing column index, increasing row index
    normal = np.cross(along_row, along_column)
    sizes = (down, right, *np.linalg.norm([along_row, along_column, normal], axis=1))
    if (
        position.shape != (3,)
        or orientation.shape != (6,)
        or not all(math.isfinite(size) and size > 0 for size in sizes)
    ):
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
    except (
        InvalidDicomError,
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
