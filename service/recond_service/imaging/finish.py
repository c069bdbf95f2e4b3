"""From a reconstruction to the finished image: cut out the wanted field of view, interpolate to the wanted matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recond_service.imaging.fourier import image_to_kspace, kspace_to_image
from recond_service.types import Window


def centred_start(length: int, wanted: int) -> int:
    """Return where `wanted` of `length` pixels begin, so that pixel ``length // 2`` becomes pixel ``wanted // 2``."""
    return length // 2 - wanted // 2


def cut(image: NDArray[np.float32], shape: tuple[int, int], window: Window | None) -> NDArray[np.float32]:
    """Return a view of the part of (rows, columns) `image` that `window` names; see `Frame.window`."""
    if window is None:
        rows, columns = (min(wanted, length) for wanted, length in zip(shape, image.shape, strict=True))
        window = Window(centred_start(image.shape[0], rows), centred_start(image.shape[1], columns), rows, columns)
    return image[
        window.first_row : window.first_row + window.rows, window.first_column : window.first_column + window.columns
    ]


def resample(image: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Resample a magnitude image to another matrix over the same field of view.

    The centred Fourier transform of the image is padded with zeros, or cut, about its centre; the values keep their size. What
    rings below zero is clipped, since a magnitude cannot be negative.

    Parameters
    ----------
    image
        (rows, columns).
    shape
        (rows, columns) wanted.

    Returns
    -------
    ndarray
        float32 of `shape`.
    """
    if image.shape == shape:
        return image
    spectrum = image_to_kspace(image.astype(np.complex64))
    wanted = np.zeros(shape, np.complex64)
    source, target = [], []
    for length, goal in zip(image.shape, shape, strict=True):
        common = min(length, goal)
        source.append(slice(centred_start(length, common), centred_start(length, common) + common))
        target.append(slice(centred_start(goal, common), centred_start(goal, common) + common))
    wanted[tuple(target)] = spectrum[tuple(source)]
    gain = np.float32(np.sqrt(shape[0] * shape[1] / (image.shape[0] * image.shape[1])))
    magnitude: NDArray[np.float32] = np.maximum(kspace_to_image(wanted).real * gain, 0).astype(np.float32)
    return magnitude


def finish_magnitude(
    image: NDArray[np.float32], shape: tuple[int, int], window: Window | None, scale: float
) -> NDArray[np.float32]:
    """Return the finished image of a reconstruction.

    Parameters
    ----------
    image
        Magnitudes (rows, columns) as the model made them.
    shape
        (rows, columns) of the finished image.
    window
        What to cut out first; see `Frame.window`.
    scale
        Power of two by which k-space was multiplied; the image is divided by it.

    Returns
    -------
    ndarray
        float32 of `shape`, C order, in the units of the measured data; infinite where these go beyond float32.
    """
    finished = resample(cut(image, shape, window), shape)
    # ldexp, because a scale of 2**140 is no float32 while image / 2**140 is one.
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(np.ldexp(finished, 1 - np.frexp(scale)[1]), dtype=np.float32)
