"""Files of what came back."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Final

import h5py
import numpy as np
from numpy.typing import NDArray

from recond_gateway.mrd.layouts import IMAGE_HEADER
from recond_gateway.replay.arrivals import ReceivedImage

ENDINGS: Final = (".h5", ".npz", ".png")
_MOST_TILES: Final = 400
_GAP: Final = 2
#: ISMRMRD names the parts of complex numbers otherwise than h5py does.
_COMPLEX: Final = {
    np.dtype("<c8"): np.dtype([("real", "<f4"), ("imag", "<f4")]),
    np.dtype("<c16"): np.dtype([("real", "<f8"), ("imag", "<f8")]),
}


def write_images(path: Path, images: Sequence[ReceivedImage], xml: bytes) -> None:
    """Write images to a file, by its ending: an ISMRMRD image file, arrays of numpy, or one picture of all.

    Parameters
    ----------
    path
        A name that ends in one of `ENDINGS`.
    images
        What came back, with pixels.
    xml
        The MRD header of the scan, which image files hold.

    Raises
    ------
    OSError
        It cannot be written.
    """
    {".h5": _write_hdf5, ".npz": _write_npz, ".png": _write_png}[path.suffix](path, images, xml)


def by_series(images: Sequence[ReceivedImage]) -> dict[str, list[ReceivedImage]]:
    """Gather images by series; those of a series that do not share shape and type become several."""
    groups: dict[tuple[int, tuple[int, ...], str], list[ReceivedImage]] = {}
    for image in images:
        groups.setdefault((image.series, image.shape, image.dtype.str), []).append(image)
    named: dict[str, list[ReceivedImage]] = {}
    for (series, _, _), members in sorted(groups.items(), key=lambda item: item[0][0]):
        name = next(
            name for number in count(1) if (name := f"image_{series}" + f"_{number}" * (number > 1)) not in named
        )
        named[name] = members
    return named


def _write_hdf5(path: Path, images: Sequence[ReceivedImage], xml: bytes) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("dataset")
        group.create_dataset("xml", (1,), h5py.string_dtype())[0] = xml
        for name, members in by_series(images).items():
            pixels = np.stack([image.array for image in members])
            pixels = pixels.view(_COMPLEX.get(pixels.dtype, pixels.dtype))
            series = group.create_group(name)
            series.create_dataset("header", data=_headers(members), maxshape=(None,))
            series.create_dataset("data", data=pixels, maxshape=(None, *pixels.shape[1:]))
            attributes = series.create_dataset("attributes", (len(members),), h5py.string_dtype(), maxshape=(None,))
            for number, image in enumerate(members):
                attributes[number] = image.attributes


def _write_npz(path: Path, images: Sequence[ReceivedImage], _xml: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, members in by_series(images).items():
            for part, array in (("", np.stack([image.array for image in members])), ("_header", _headers(members))):
                stream = io.BytesIO()
                np.save(stream, array, allow_pickle=False)
                archive.writestr(f"{name}{part}.npy", stream.getvalue())


def _headers(images: Sequence[ReceivedImage]) -> NDArray[np.void]:
    headers = np.zeros(len(images), IMAGE_HEADER)
    for number, image in enumerate(images):
        headers[number] = image.header
        headers["attribute_string_len"][number] = len(image.attributes.encode())
    return headers


def _write_png(path: Path, images: Sequence[ReceivedImage], _xml: bytes) -> None:
    rows = [_row(members) for members in by_series(images).values()]
    width = max((row.shape[1] for row in rows), default=1)
    sheet = [np.pad(row, ((0, _GAP), (0, width - row.shape[1]))) for row in rows]
    path.write_bytes(_png(np.concatenate(sheet) if sheet else np.zeros((1, 1), np.uint8)))


def _row(images: Sequence[ReceivedImage]) -> NDArray[np.uint8]:
    """Return the slices of a series as tiles, in one window."""
    tiles = np.concatenate([_grey(image) for image in images[:_MOST_TILES]])[:_MOST_TILES]
    low, high = min(float(tiles.min(initial=0)), 0.0), float(np.percentile(tiles, 99.8)) if tiles.size else 0.0
    window = high - low if high > low else 1.0
    scaled = (((tiles - low) / window).clip(0, 1) * 255).astype(np.uint8)
    number, height, width = scaled.shape
    columns = max(1, min(number, 1600 // (width + _GAP)))
    lines = -(-number // columns)
    padded = np.pad(scaled, ((0, lines * columns - number), (0, _GAP), (0, _GAP)))
    grid = padded.reshape(lines, columns, height + _GAP, width + _GAP)
    return grid.swapaxes(1, 2).reshape(lines * (height + _GAP), columns * (width + _GAP))


def _grey(image: ReceivedImage) -> NDArray[np.float32]:
    """Return magnitudes (z, y, x); coils and colours are averaged."""
    pixels = image.array
    values = np.abs(pixels) if np.iscomplexobj(pixels) else pixels
    means: NDArray[np.float32] = np.nan_to_num(values.mean(axis=0, dtype=np.float64)).astype(np.float32)
    return means


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """Return a grey picture (rows, columns) as PNG."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = pixels.shape
    lines = np.pad(pixels, ((0, 0), (1, 0)))  # each line begins with its filter, 0: none
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines.tobytes()))
        + chunk(b"IEND", b"")
    )
