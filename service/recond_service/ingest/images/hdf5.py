"""Images in HDF5: those of MRD (ISMRMRD version 1), and reconstructions in fastMRI's layout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from recond_service.ingest.hdf5 import (
    child_dataset,
    child_group,
    child_names,
    h5py_errors,
    has_child,
    is_group,
    open_file,
)
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

_RECONSTRUCTIONS = ("reconstruction", "reconstruction_rss", "reconstruction_esc")
_VECTORS = ("field_of_view", "position", "read_dir", "phase_dir", "slice_dir")
_COUNTERS = ("slice", "contrast", "phase", "repetition", "set")
_MOST = 65535  # of a counter, as MRD has it


def read_hdf5_images(part: Part, limits: Limits, findings: FindingList) -> ImageVolume:
    """Read MRD images (``dataset/image_0/data``, ...), or a reconstruction in fastMRI's layout, which tells no geometry.

    Of several MRD series the first is read.

    Raises
    ------
    InvalidInputError
        There are no images in it, or they are damaged.
    LimitExceededError
        They claim more than the limits allow.
    """
    with open_file(part.path, part.name) as file:
        for name in _RECONSTRUCTIONS:
            if has_child(file, name):
                return ImageVolume(tuple(_reconstruction(file, name, limits)))
        for group in (child_group(file, name) for name in child_names(file) if is_group(file, name)):
            series = [name for name in child_names(group) if name.startswith("image") and is_group(group, name)]
            if series:
                if len(series) > 1:
                    findings.info(
                        "first-series", f"The file has {len(series)} series of images; heads run on {series[0]}."
                    )
                return ImageVolume(tuple(_mrd(child_group(group, series[0]), limits)))
    raise InvalidInputError(
        f"{part.name or 'the file'} has no images: send MRD images, or a dataset {', '.join(_RECONSTRUCTIONS)}; raw data are for "
        "recond reconstruct",
        reason="NO_IMAGES",
        field=part.name,
    )


def _reconstruction(file: h5py.File, name: str, limits: Limits) -> Iterator[FinishedImage]:
    dataset = child_dataset(file, name, limits)
    if dataset.ndim not in (2, 3) or dataset.dtype.kind not in "fiuc" or 0 in dataset.shape:
        raise InvalidInputError(
            f"{name} has the shape {dataset.shape} and the type {dataset.dtype}; images are numbers (slices, rows, columns)",
            reason="IMAGE_SHAPE",
            field=name,
        )
    with h5py_errors(name):
        values = _magnitudes(dataset[()]).reshape(-1, *dataset.shape[-2:])
    _check_count(len(values), limits, name)
    for number, pixels in enumerate(values):
        yield FinishedImage(number, FrameIndex(slice=number), np.ascontiguousarray(pixels))


def _mrd(group: h5py.Group, limits: Limits) -> Iterator[FinishedImage]:
    headers_of, data_of = child_dataset(group, "header", limits), child_dataset(group, "data", limits)
    with h5py_errors("image/header"):
        headers = headers_of[()]
    if not _are_headers(headers) or data_of.ndim != 5:
        raise InvalidInputError(
            "the images are not laid out as MRD has them: header, and data (images, channels, z, y, x)",
            reason="MRD_IMAGES",
            field=group.name or "image",
        )
    if len(headers) != data_of.shape[0] or data_of.shape[1] != 1 or 0 in data_of.shape:
        raise InvalidInputError(
            f"{len(headers)} headers and data of the shape {data_of.shape}: send combined images, one header each",
            reason="MRD_IMAGES",
            field=group.name or "image",
        )
    _check_count(len(headers) * data_of.shape[2], limits, group.name or "image")
    number = 0
    for place, header in enumerate(headers):
        with h5py_errors(f"image/data[{place}]"):
            values = _magnitudes(data_of[place])[0]  # z, y, x; x is the readout
        for partition, plane in enumerate(values):
            index = FrameIndex(**{name: int(header[name]) for name in _COUNTERS if name in headers.dtype.names})
            geometry = _geometry(header, values.shape, partition)
            yield FinishedImage(number, index, np.ascontiguousarray(plane.T), geometry)
            number += 1


def _are_headers(headers: Any) -> bool:  # noqa: ANN401 - as h5py returns it
    """Tell whether they are a list of MRD image headers, as far as their fields are read here."""
    kinds = headers.dtype
    if headers.ndim != 1 or kinds.names is None or not set(kinds.names) >= {"slice", "repetition", *_VECTORS}:
        return False
    counted = [name for name in _COUNTERS if name in kinds.names]
    return (
        all(kinds[name].base.kind in "fiu" and kinds[name].shape == (3,) for name in _VECTORS)
        and all(kinds[name].kind in "iu" for name in counted)
        and all(int(headers[name].min()) >= 0 and int(headers[name].max()) <= _MOST for name in counted if len(headers))
    )


def _geometry(header: np.void, shape: tuple[int, ...], partition: int) -> Geometry | None:
    """Return the geometry of an MRD image; None where its directions are none. Rows are x, columns y."""
    partitions, columns, rows = shape
    directions = [np.asarray(header[name], np.float64) for name in ("read_dir", "phase_dir", "slice_dir")]
    extent = np.asarray(header["field_of_view"], np.float64)
    position = np.asarray(header["position"], np.float64)
    finite = all(np.isfinite(vector).all() for vector in (*directions, extent, position))
    if not finite or not all(0.9 < float(np.linalg.norm(each)) < 1.1 for each in directions) or extent.min() <= 0:
        return None
    spacing = (float(extent[0] / rows), float(extent[1] / columns), float(extent[2] / partitions))
    along = (partition - partitions // 2) * spacing[2]
    return Geometry(
        _vector(position + along * directions[2]),
        _vector(directions[0]),
        _vector(directions[1]),
        _vector(directions[2]),
        spacing,
    )


def _magnitudes(values: Any) -> NDArray[np.float32]:  # noqa: ANN401 - as h5py returns it
    if values.dtype.names is not None and set(values.dtype.names) >= {"real", "imag"}:
        magnitudes: NDArray[np.float32] = np.hypot(values["real"], values["imag"]).astype(np.float32)
        return magnitudes
    if values.dtype.kind not in "fiuc":
        raise InvalidInputError(
            f"images of the type {values.dtype}; they must be numbers", reason="IMAGE_TYPE", field="data"
        )
    real: NDArray[np.float32] = (np.abs(values) if np.iscomplexobj(values) else values).astype(np.float32)
    return real


def _check_count(count: int, limits: Limits, place: str) -> None:
    if count > limits.max_images:
        raise LimitExceededError(
            f"{place} holds {count} images; this service takes {limits.max_images}: send fewer at once",
            reason="TOO_MANY_IMAGES",
            field=place,
        )


def _vector(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
