"""NIfTI-1 and NIfTI-2 files, also gzip-compressed, as slices across their coarsest axis."""

from __future__ import annotations

import gzip
import io
import json
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError, ImageDataError
from numpy.typing import NDArray

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

_MAGIC = {344: (b"n+1\0", b"ni1\0"), 4: (b"n+2\0", b"ni2\0")}
_GZIP = b"\x1f\x8b"
_HEADER_BYTES = 540
_PIECE = 4 << 20
_ALIKE = 1.05  # axes whose voxels differ by less are taken to be equally fine
_SUPERIOR = 2
_LARGEST_LABEL = 65535
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


def is_nifti(part: Part) -> bool:
    """Tell from its first bytes whether a file is NIfTI, or compressed, which nothing else is that is read here."""
    with Path(part.path).open("rb") as file:
        head = file.read(_HEADER_BYTES)
    return head.startswith(_GZIP) or any(head[place : place + 4] in magic for place, magic in _MAGIC.items())


def read_nifti(part: Part, limits: Limits, findings: FindingList) -> ImageVolume:
    """Read a NIfTI file.

    Slices go across the axis whose voxels are largest, and across the one that is nearest to the body axis where all are alike.
    Volumes along the fourth axis count as repetitions.

    Raises
    ------
    InvalidInputError
        It is damaged, has no voxels, more than four axes, or colours.
    LimitExceededError
        It claims more than the limits allow.
    """
    label = part.name or "the NIfTI file"
    image, values = _loaded(part, limits, label)
    shape = values.shape
    if np.iscomplexobj(values):
        values = np.abs(values)
    volume = values.reshape(*shape[:3], -1).astype(np.float32, copy=False)
    affine = np.asarray(image.affine, np.float64)
    known = int(image.header["sform_code"]) > 0 or int(image.header["qform_code"]) > 0
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or spacing.min() <= 0:
        raise InvalidInputError(
            f"{label} has an affine that is none: {affine.tolist()}; correct its sform",
            reason="AFFINE",
            field=part.name,
        )
    if not known:
        findings.info(
            "orientation-unknown",
            "The NIfTI file says how large its voxels are, not how the patient lies: left and right are not known.",
        )
    across = _slice_axis(affine, spacing)
    in_plane = [axis for axis in range(3) if axis != across]
    order = (in_plane[0], in_plane[1], across)
    return ImageVolume(tuple(_slices(volume.transpose(*order, 3), affine[:, [*order, 3]])), voxel_order=order)


def read_label_map(
    part: Part, voxel_order: tuple[int, int, int] | None, shape: tuple[int, int, int], limits: Limits
) -> tuple[NDArray[Any], dict[str, int]]:
    """Read a label map that belongs to images.

    Parameters
    ----------
    part
        A NIfTI file of integers, with the axes of the images.
    voxel_order
        Axes of the file that are rows, columns and slices of the images; None for this order.
    shape
        (slices, rows, columns) of the images.
    limits
        What it may claim.

    Returns
    -------
    labels
        uint16 (slices, rows, columns).
    names
        Of the labels, where its header extension tells them as recond writes it.

    Raises
    ------
    InvalidInputError
        It is damaged, of another shape, or holds other than whole numbers from 0 to 65535.
    LimitExceededError
        It claims more than the limits allow.
    """
    label = part.name or "the label map"
    image, values = _loaded(part, limits, label)
    if values.ndim != 3:
        raise InvalidInputError(
            f"{label} has the shape {values.shape}; a label map is one volume", reason="LABEL_MAP", field=label
        )
    order = voxel_order or (0, 1, 2)
    labels = values.transpose(order[2], order[0], order[1])
    if labels.shape != shape:
        raise InvalidInputError(
            f"{label} has (slices, rows, columns) {labels.shape}, the images {shape}: give the label map of these images",
            reason="LABEL_MAP",
            field=label,
        )
    if not (np.isfinite(labels).all() and labels.min() >= 0 and labels.max() <= _LARGEST_LABEL) or (labels % 1).any():
        raise InvalidInputError(
            f"{label} holds other values than whole numbers from 0 to {_LARGEST_LABEL}: give a label map",
            reason="LABEL_MAP",
            field=label,
        )
    return labels.astype(np.uint16), _names(image)


def _names(image: Any) -> dict[str, int]:  # noqa: ANN401 - nibabel has no types
    """Return the names of labels that a header extension tells; none where there is none that recond wrote."""
    for extension in image.header.extensions:
        try:
            labels = json.loads(extension.get_content())["labels"]
            return {str(name): int(value) for name, value in labels.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return {}


def _loaded(part: Part, limits: Limits, label: str) -> tuple[Any, NDArray[Any]]:
    """Return a NIfTI image and its voxels."""
    with _errors(label):
        # Known by its bytes, whatever its name.
        raw = Path(part.path).read_bytes()
        content = _unpacked(raw, limits, label) if raw.startswith(_GZIP) else raw
        if not any(content[place : place + 4] in magic for place, magic in _MAGIC.items()):
            raise ValueError("what is in it is no NIfTI")
        kind = nibabel.Nifti1Image if content[344:348] in _MAGIC[344] else nibabel.Nifti2Image
        image: Any = kind.from_stream(io.BytesIO(content))
        shape = tuple(int(length) for length in image.shape)
        dtype = image.get_data_dtype()
        _check(shape, dtype, limits, label)
        values = np.asarray(image.dataobj)
    return image, values


def _slices(volume: NDArray[np.float32], affine: NDArray[np.float64]) -> Iterator[FinishedImage]:
    """Yield the images of float32 (rows, columns, slices, volumes); the affine takes (row, column, slice) to RAS mm."""
    rows, columns, slices, volumes = volume.shape
    axes = _RAS_TO_LPS @ affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    row, column, normal = (_vector(axes[:, axis] / spacing[axis]) for axis in range(3))
    number = 0
    for repetition in range(volumes):
        for place in range(slices):
            centre = _RAS_TO_LPS @ (affine @ np.array([rows // 2, columns // 2, place, 1.0]))[:3]
            geometry = Geometry(_vector(centre), row, column, normal, _vector(spacing))
            pixels = np.ascontiguousarray(volume[:, :, place, repetition])
            yield FinishedImage(number, FrameIndex(slice=place, repetition=repetition), pixels, geometry)
            number += 1


def _slice_axis(affine: NDArray[np.float64], spacing: NDArray[np.float64]) -> int:
    """Return the axis across which the slices go."""
    coarsest = int(np.argmax(spacing))
    if spacing[coarsest] > _ALIKE * float(np.sort(spacing)[1]):
        return coarsest
    return int(np.argmax(np.abs(affine[_SUPERIOR, :3]) / spacing))


def _check(shape: tuple[int, ...], dtype: np.dtype[Any], limits: Limits, label: str) -> None:
    if not 2 <= len(shape) <= 4 or math.prod(shape) == 0:
        raise InvalidInputError(
            f"{label} has the shape {shape}; images are (x, y, z), or (x, y, z, volumes): send a file of images",
            reason="IMAGE_SHAPE",
            field=label,
        )
    if dtype.names is not None:
        raise InvalidInputError(f"{label} holds colours; send magnitudes", reason="IMAGE_TYPE", field=label)
    claimed = math.prod(shape) * 4
    images = math.prod(shape[2:])
    if claimed > limits.max_scan_bytes or images > limits.max_images:
        raise LimitExceededError(
            f"{label} claims {images} images and {claimed} bytes; this service takes {limits.max_images} and "
            f"{limits.max_scan_bytes}: send fewer at once",
            reason="IMAGES_TOO_LARGE",
            field=label,
        )


def _unpacked(raw: bytes, limits: Limits, label: str) -> bytes:
    """Return what a gzip file holds, no more than the limits allow."""
    content = bytearray()
    with gzip.GzipFile(fileobj=io.BytesIO(raw)) as stream:
        while piece := stream.read(_PIECE):  # a larger read would claim its memory beforehand
            content += piece
            if len(content) > limits.max_scan_bytes:
                raise LimitExceededError(
                    f"{label} unpacks to more than {limits.max_scan_bytes} bytes, which is what this service takes: send fewer at "
                    "once",
                    reason="IMAGES_TOO_LARGE",
                    field=label,
                )
    return bytes(content)


@contextmanager
def _errors(label: str) -> Iterator[None]:
    """Raise InvalidInputError for what nibabel and zlib make of a damaged file."""
    try:
        yield
    except (OSError, EOFError, zlib.error, HeaderDataError, ImageDataError, ValueError, KeyError) as error:
        raise InvalidInputError(
            f"{label} cannot be read as NIfTI ({error}): it is damaged or cut short; send it again",
            reason="NIFTI_DAMAGED",
            field=label,
        ) from error


def _vector(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
