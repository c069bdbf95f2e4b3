"""MRD (ISMRMRD version 1) images in an HDF5 file, as the ISMRMRD libraries write them. The x axis is the readout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO
from xml.sax.saxutils import escape

import h5py
import numpy as np
from numpy.typing import NDArray

from recond_service.series import Series, Stack
from recond_service.types import FinishedImage, Geometry

IMAGE_HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("data_type", "<u2"),
        ("flags", "<u8"),
        ("measurement_uid", "<u4"),
        ("matrix_size", "<u2", (3,)),
        ("field_of_view", "<f4", (3,)),
        ("channels", "<u2"),
        ("position", "<f4", (3,)),
        ("read_dir", "<f4", (3,)),
        ("phase_dir", "<f4", (3,)),
        ("slice_dir", "<f4", (3,)),
        ("patient_table_position", "<f4", (3,)),
        ("average", "<u2"),
        ("slice", "<u2"),
        ("contrast", "<u2"),
        ("phase", "<u2"),
        ("repetition", "<u2"),
        ("set", "<u2"),
        ("acquisition_time_stamp", "<u4"),
        ("physiology_time_stamp", "<u4", (3,)),
        ("image_type", "<u2"),
        ("image_index", "<u2"),
        ("image_series_index", "<u2"),
        ("user_int", "<i4", (8,)),
        ("user_float", "<f4", (8,)),
        ("attribute_string_len", "<u4"),
    ]
)
"""The packed MRD image header, 198 bytes."""

_FLOAT, _COMPLEX_FLOAT = 5, 7  # data types
_MAGNITUDE, _COMPLEX = 1, 5  # image types
_COMPLEX_PART, _UNCERTAINTY_PART = "complex", "uncertainty"
_COMPLEX_PIXEL = np.dtype([("real", "<f4"), ("imag", "<f4")])
_NOWHERE = Geometry((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0))


def write_mrd(series: Series, model: str, version: str, file: BinaryIO) -> None:
    """Write MRD images, a series for each stack.

    The groups `dataset/image_0`, `dataset/image_1`, ... have `header`, `data` (images, 1, 1, columns, rows) and `attributes`.
    Images with their phase follow as series of their own, complex, and after them the uncertainty, whose `DataRole` is ``Image``
    and ``Uncertainty``.

    `dataset/xml` is a minimal ISMRMRD header with an encoding for each stack: its matrix, field of view and counters. It
    does not repeat the header of the scan, which may identify a person; the resonance frequency is 0 for not known.

    Images without geometry get unit directions at the origin and say so in their attribute `GeometryMissing`.

    Parameters
    ----------
    series
        All images, of any sizes.
    model, version
        What made them, for the attribute `ImageComments`.
    file
        Seekable, open for reading and writing.
    """
    with h5py.File(file, "w") as handle:
        dataset = handle.create_group("dataset")
        xml = dataset.create_dataset("xml", (1,), h5py.special_dtype(vlen=bytes), track_times=False)
        xml[0] = _scan_header(series).encode("ascii")
        written = [(stack, "") for stack in series.stacks]
        for part, name in ((_COMPLEX_PART, "complex_pixels"), (_UNCERTAINTY_PART, "uncertainty")):
            written += [
                (stack, part)
                for stack in series.stacks
                if all(getattr(image, name) is not None for image in stack.images)
            ]
        for number, (stack, part) in enumerate(written):
            group = dataset.create_group(f"image_{number}")
            _write_stack(group, stack, number, f"{model} {version}".strip(), part)


def _scan_header(series: Series) -> str:
    """Return an ISMRMRD header that says of the images what it can."""
    encodings = []
    for stack in series.stacks:
        _, rows, columns = stack.shape
        spacing = (stack.images[0].geometry or _NOWHERE).spacing
        view = (rows * spacing[0], columns * spacing[1], spacing[2])
        space = (
            f"<matrixSize><x>{rows}</x><y>{columns}</y><z>1</z></matrixSize>"
            f"<fieldOfView_mm><x>{view[0]:.6g}</x><y>{view[1]:.6g}</y><z>{view[2]:.6g}</z></fieldOfView_mm>"
        )
        limits = "".join(_range(stack, name) for name in ("slice", "contrast", "phase", "repetition", "set"))
        encodings.append(
            f"<encoding><encodedSpace>{space}</encodedSpace><reconSpace>{space}</reconSpace>"
            f"<encodingLimits>{limits}</encodingLimits><trajectory>cartesian</trajectory></encoding>"
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><experimentalConditions>'
        "<H1resonanceFrequency_Hz>0</H1resonanceFrequency_Hz></experimentalConditions>"
        f"{''.join(encodings)}</ismrmrdHeader>\n"
    )


def _range(stack: Stack, name: str) -> str:
    numbers = [int(getattr(image.index, name)) for image in stack.images]
    first, last = min(numbers), max(numbers)
    return f"<{name}><minimum>{first}</minimum><maximum>{last}</maximum><center>{(first + last + 1) // 2}</center></{name}>"


def _write_stack(group: h5py.Group, stack: Stack, number: int, model: str, part: str) -> None:
    count, rows, columns = stack.shape
    is_complex = part == _COMPLEX_PART
    data = group.create_dataset(
        "data",
        (count, 1, 1, columns, rows),
        _COMPLEX_PIXEL if is_complex else "<f4",
        chunks=(1, 1, 1, columns, rows),
        maxshape=(None, 1, 1, columns, rows),
        track_times=False,
    )
    headers = np.zeros(count, IMAGE_HEADER)
    attributes = []
    for place, image in enumerate(stack.images):
        whole = np.ascontiguousarray(_pixels(image, part).T)
        data[place, 0, 0] = whole.view(_COMPLEX_PIXEL) if is_complex else whole
        attributes.append(_attributes(image, stack.name, model, part))
        headers[place] = _header(image, place, number, len(attributes[-1]), is_complex=is_complex)
    group.create_dataset("header", data=headers, maxshape=(None,), track_times=False)
    group.create_dataset("attributes", data=attributes, dtype=h5py.string_dtype(), maxshape=(None,), track_times=False)


def _header(
    image: FinishedImage, number: int, series: int, attribute_length: int, *, is_complex: bool = False
) -> np.void:
    rows, columns = image.pixels.shape
    geometry = image.geometry or _NOWHERE
    header = np.zeros(1, IMAGE_HEADER)
    header["version"] = 1
    header["data_type"] = _COMPLEX_FLOAT if is_complex else _FLOAT
    header["matrix_size"] = rows, columns, 1
    header["field_of_view"] = rows * geometry.spacing[0], columns * geometry.spacing[1], geometry.spacing[2]
    header["channels"] = 1
    header["position"] = geometry.position
    header["read_dir"] = geometry.row_direction
    header["phase_dir"] = geometry.column_direction
    header["slice_dir"] = geometry.slice_direction
    for name in ("slice", "contrast", "phase", "repetition", "set"):
        header[name] = getattr(image.index, name)
    header["image_type"] = _COMPLEX if is_complex else _MAGNITUDE
    header["image_index"] = (number + 1) % 65536
    header["image_series_index"] = series
    header["attribute_string_len"] = attribute_length
    packed: np.void = header[0]
    return packed


def _pixels(image: FinishedImage, part: str) -> NDArray[np.float32] | NDArray[np.complex64]:
    """Return what is written of an image, (rows, columns)."""
    if part == _COMPLEX_PART and image.complex_pixels is not None:
        return image.complex_pixels
    return image.uncertainty if part == _UNCERTAINTY_PART and image.uncertainty is not None else image.pixels


def _attributes(image: FinishedImage, stack: str, model: str, part: str) -> str:
    values: dict[str, list[str]] = {
        "DataRole": ["Image", "Uncertainty"] if part == _UNCERTAINTY_PART else ["Image"],
        "ImageProcessingHistory": ["recond", model],
        "ImageComments": [f"Reconstructed by recond with {model}"],
        "SeriesDescription": [stack],
    }
    if image.geometry is None:
        values["GeometryMissing"] = ["1"]
    else:
        values["Keep_image_geometry"] = ["1"]
        for name, direction in (
            ("ImageRowDir", image.geometry.row_direction),
            ("ImageColumnDir", image.geometry.column_direction),
            ("ImageSliceDir", image.geometry.slice_direction),
        ):
            values[name] = [f"{component:.9f}" for component in direction]
    return _meta(values)


def _meta(values: Mapping[str, list[str]]) -> str:
    entries = "".join(
        f"<meta><name>{escape(name)}</name>{''.join(f'<value>{_ascii(text)}</value>' for text in texts)}</meta>"
        for name, texts in values.items()
    )
    return f"<ismrmrdMeta>{entries}</ismrmrdMeta>"


def _ascii(text: str) -> str:
    return escape(text).encode("ascii", "xmlcharrefreplace").decode()
