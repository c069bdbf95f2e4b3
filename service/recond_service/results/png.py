"""A contact sheet of all slices, for a glance."""

from __future__ import annotations

import math
from typing import BinaryIO

import numpy as np
from PIL import Image

from recond_service.results.volume import Volumes

_BRIGHTEST = 99.5  # percentile of the volume that becomes white
_LARGEST_SIDE = 8192


def write_png(volumes: Volumes, file: BinaryIO) -> None:
    """Write all images side by side, in a grid that is about square, in the order of the volume, row by row.

    Black is 0, white the 99.5th percentile of the volume. A sheet of more than 8192 pixels is made smaller by leaving out pixels.

    Parameters
    ----------
    volumes
        Sorted images.
    file
        Open for writing.
    """
    count, rows, columns = volumes.shape
    step = 1
    across = max(1, min(count, round(math.sqrt(count * rows / columns))))
    down = -(-count // across)
    while max(across * -(-columns // step), down * -(-rows // step)) > _LARGEST_SIDE:
        step += 1
    height, width = -(-rows // step), -(-columns // step)
    sheet = np.zeros((down * height, across * width), np.float32)
    for number, image in enumerate(volumes.images):
        top, left = number // across * height, number % across * width
        sheet[top : top + height, left : left + width] = image.pixels[::step, ::step]
    filled = np.concatenate([image.pixels[::step, ::step].reshape(-1) for image in volumes.images])
    white = float(np.percentile(filled, _BRIGHTEST)) or float(filled.max())
    scaled = np.clip(sheet / np.float32(white), 0, 1) if white > 0 else sheet
    Image.fromarray(np.rint(scaled * 255).astype(np.uint8)).save(file, format="PNG", optimize=False)
