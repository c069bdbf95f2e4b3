"""A contact sheet of all slices, for a glance."""

from __future__ import annotations

import math
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from recond_service.results.head_maps import HeadMaps
from recond_service.series import Series

_BRIGHTEST = 99.5  # percentile of the volume that becomes white
_LARGEST_SIDE = 8192
_OPACITY = 0.35
_TINTS = np.array(
    [(86, 180, 233), (230, 159, 0), (240, 228, 66), (0, 158, 115), (204, 121, 167), (213, 94, 0), (0, 114, 178)]
)
"""Colours that colour-blind people tell apart (Okabe and Ito 2008), for the labels 1, 2, ..."""

_OUTLINE = (255, 40, 40)


def write_png(series: Series, file: BinaryIO, heads: HeadMaps) -> None:
    """Write all images side by side, in a grid that is about square, in the order of the series, row by row.

    Black is 0, white the 99.5th percentile of all. A sheet of more than 8192 pixels is made smaller by leaving out pixels. Where
    heads have labelled the images, structures are tinted and lesions outlined.

    Parameters
    ----------
    series
        Images of one size.
    file
        Open for writing.
    heads
        Label maps of the images.
    """
    images = series.images
    count, (rows, columns) = len(images), images[0].pixels.shape
    step = 1
    across = max(1, min(count, round(math.sqrt(count * rows / columns))))
    down = -(-count // across)
    while max(across * -(-columns // step), down * -(-rows // step)) > _LARGEST_SIDE:
        step += 1
    height, width = -(-rows // step), -(-columns // step)
    sheet = np.zeros((down * height, across * width), np.float32)
    for number, image in enumerate(images):
        top, left = number // across * height, number % across * width
        sheet[top : top + height, left : left + width] = image.pixels[::step, ::step]
    filled = np.concatenate([image.pixels[::step, ::step].reshape(-1) for image in images])
    white = float(np.percentile(filled, _BRIGHTEST)) or float(filled.max())
    scaled = np.clip(sheet / np.float32(white), 0, 1) if white > 0 else sheet
    grey = np.rint(scaled * 255).astype(np.uint8)
    if not heads.heads:
        Image.fromarray(grey).save(file, format="PNG", optimize=False)
        return
    coloured = np.repeat(grey[..., None], 3, axis=2)
    for number, image in enumerate(images):
        top, left = number // across * height, number % across * width
        tile = coloured[top : top + height, left : left + width]
        for head in sorted(heads.heads, key=lambda head: heads.task(head) == "lesions"):
            labels = heads.label_slice(head, image.number)
            if labels is not None:
                _paint(tile, labels[::step, ::step], outlined=heads.task(head) == "lesions")
    Image.fromarray(coloured).save(file, format="PNG", optimize=False)


def _paint(tile: NDArray[np.uint8], labels: NDArray[Any], *, outlined: bool) -> None:
    """Tint the pixels of structures, or draw the outline of lesions, in place.

    Parameters
    ----------
    tile
        uint8 (rows, columns, 3).
    labels
        Integers (rows, columns).
    outlined
        Draw outlines.
    """
    shown = labels > 0
    if outlined:
        inner = ndimage.binary_erosion(shown)
        tile[shown & ~inner] = _OUTLINE
        return
    colours = _TINTS[(labels[shown].astype(np.int64) - 1) % len(_TINTS)]
    tile[shown] = np.rint((1 - _OPACITY) * tile[shown] + _OPACITY * colours).astype(np.uint8)
