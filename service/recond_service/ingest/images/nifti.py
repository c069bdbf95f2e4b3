"""NIfTI-1 and NIfTI-2 files, also gzip-compressed, as slices across their coarsest axis."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError, ImageDataError
from numpy.typing import NDArray

from recond_service.types import (
    NIFTI_WITHOUT_SIZES,
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
_PAIRS = (b"ni1\0", b"ni2\0")
_MM = {1: 1000.0, 3: 0.001}  # units of length that are no millimetres: metres and micrometres
_UNIT_BITS = 7
_PLAUSIBLE_MM = (0.01, 100.0)
_DIFFERENT = 0.01  # of the largest voxel; by more than this may sform and qform not differ
_GZIP = b"\x1f\x8b"
_HEADER_BYTES = 540
_PIECE = 4 << 20
_ALIKE = 1.05  # axes whose voxels differ by less are taken to be equally fine
_SUPERIOR = 2
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
        It is damaged, one half of a pair, has no voxels, more than four axes, or colours.
    LimitExceededError
        It claims more than the limits allow.
    """
    label = part.name or "the NIfTI file"
    image, values, sized = load_nifti(part, limits, label)
    if np.iscomplexobj(values):
        values = np.abs(values)
    with np.errstate(over="ignore"):  # heads refuse what is infinite
        volume = values.reshape(*values.shape[:3], -1).astype(np.float32, copy=False)
    affine = affine_in_mm(image, label, findings)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not sized:
        findings.warn("geometry-missing", "The NIfTI file does not say how large its voxels are.")
    elif not is_oriented(image):
        findings.info(
            "orientation-unknown",
            "The NIfTI file says how large its voxels are, not how the patient lies: left and right are not known.",
        )
    across = _slice_axis(affine, spacing)
    in_plane = [axis for axis in range(3) if axis != across]
    order = (in_plane[0], in_plane[1], across)
    slices = _slices(volume.transpose(*order, 3), affine[:, [*order, 3]])
    return ImageVolume(tuple(each if sized else replace(each, geometry=None) for each in slices), voxel_order=order)


def is_oriented(image: Any) -> bool:  # noqa: ANN401 - nibabel has no types
    """Tell whether the file says how the patient lies."""
    return int(image.header["sform_code"]) > 0 or int(image.header["qform_code"]) > 0


def affine_in_mm(image: Any, label: str, findings: FindingList) -> NDArray[np.float64]:  # noqa: ANN401 - nibabel has no types
    """Return the affine of a file in mm.

    Raises
    ------
    InvalidInputError
        It has none that can be.
    """
    affine = np.array(image.affine, np.float64)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or spacing.min() <= 0:
        raise InvalidInputError(
            f"{label} has an affine that is none: {affine.tolist()}; correct its sform",
            reason="AFFINE",
            field=label,
        )
    qform = image.header.get_qform()
    both = int(image.header["sform_code"]) > 0 and int(image.header["qform_code"]) > 0
    if both and np.abs(affine - qform)[:3, :3].max() > _DIFFERENT * spacing.max():
        findings.warn(
            "affines-disagree",
            "The sform and the qform of the NIfTI file say different things about its voxels: the sform is used.",
        )
    factor = _MM.get(int(image.header["xyzt_units"]) & _UNIT_BITS, 1.0)
    if factor != 1.0:
        least, most = _PLAUSIBLE_MM
        if least <= spacing.min() * factor and spacing.max() * factor <= most:
            affine[:3] *= factor
        else:
            findings.warn(
                "units-implausible", "The NIfTI file has units that cannot be: its lengths are taken to be millimetres."
            )
    return affine


def load_nifti(part: Part, limits: Limits, label: str) -> tuple[Any, NDArray[Any], bool]:
    """Return a NIfTI image, its voxels with three axes or four, and whether it says how large they are.

    Raises
    ------
    InvalidInputError, LimitExceededError
        As `read_nifti`.
    """
    with _errors(label):
        # Known by its bytes, whatever its name.
        raw = Path(part.path).read_bytes()
        content = _unpacked(raw, limits, label) if raw.startswith(_GZIP) else raw
        del raw
        if not any(content[place : place + 4] in magic for place, magic in _MAGIC.items()):
            raise ValueError("what is in it is no NIfTI")
        if content[344:348] in _PAIRS or content[4:8] in _PAIRS:
            raise InvalidInputError(
                f"{label} is one of a pair .hdr and .img: convert them to one .nii file",
                reason="NIFTI_PAIR",
                field=label,
            )
        kind: Any = nibabel.Nifti1Image if content[344:348] in _MAGIC[344] else nibabel.Nifti2Image
        image: Any = kind.from_stream(io.BytesIO(content))
        shape = tuple(int(length) for length in image.shape)
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        dtype = image.get_data_dtype()
        _check(shape, dtype, limits, label)
        values = np.asarray(image.dataobj).reshape(shape if len(shape) > 2 else (*shape, 1))
        # What nibabel has read has no zeros any more: it puts 1 in their place.
        header_class: Any = kind.header_class
        told = header_class.from_fileobj(io.BytesIO(content), check=False)["pixdim"][1:4]
    needed = [step for step, length in zip(told, values.shape, strict=False) if length > 1]
    sized = int(image.header["sform_code"]) > 0 or all(step != 0 for step in needed)
    return image, values, sized and bytes(image.header["descrip"]).rstrip(b"\0") != NIFTI_WITHOUT_SIZES


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
    if not 2 <= len(shape) <= 4 or min(shape) < 1:
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
    except (InvalidInputError, LimitExceededError):
        raise
    except (
        OSError,
        EOFError,
        zlib.error,
        HeaderDataError,
        ImageDataError,
        ValueError,
        KeyError,
        OverflowError,
    ) as error:
        raise InvalidInputError(
            f"{label} cannot be read as NIfTI ({error}): it is damaged or cut short; send it again",
            reason="NIFTI_DAMAGED",
            field=label,
        ) from error


def _vector(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
