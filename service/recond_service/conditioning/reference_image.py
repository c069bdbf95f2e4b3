"""The finished root-sum-of-squares image of fully sampled k-space, which undersampled reconstructions are scored against.

The same steps as `recond_models.finishing`, in NumPy: the processes that read scans load no torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recond_service.fourier import image_to_kspace, kspace_to_image
from recond_service.types import Frame, Window


def reference_image(frame: Frame) -> NDArray[np.float32]:
    """Return the root sum of squares of the coil images of a frame: cut out, interpolated and scaled as its image will be.

    Parameters
    ----------
    frame
        Its k-space is fully sampled.

    Returns
    -------
    ndarray
        float32 of its `image_shape`, C order, in the units of the measured data; infinite where these go beyond float32.
    """
    coils = cut(kspace_to_image(frame.kspace), frame.image_shape, frame.window)
    coils = interpolate(coils, frame.image_shape)
    energy = np.einsum("crk,crk->rk", coils.real, coils.real) + np.einsum("crk,crk->rk", coils.imag, coils.imag)
    # ldexp, because a scale of 2**140 is no float32 while image / 2**140 is one.
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(np.ldexp(np.sqrt(energy), 1 - np.frexp(frame.scale)[1]), dtype=np.float32)


def cut(images: NDArray[np.complex64], shape: tuple[int, int], window: Window | None) -> NDArray[np.complex64]:
    """Return a view of the part of (..., rows, columns) that `window` names; see `Frame.window`."""
    if window is None:
        rows, columns = (min(wanted, length) for wanted, length in zip(shape, images.shape[-2:], strict=True))
        window = Window(
            _centred_start(images.shape[-2], rows), _centred_start(images.shape[-1], columns), rows, columns
        )
    return images[
        ...,
        window.first_row : window.first_row + window.rows,
        window.first_column : window.first_column + window.columns,
    ]


def interpolate(images: NDArray[np.complex64], shape: tuple[int, int]) -> NDArray[np.complex64]:
    """Bring complex images to another matrix over the same field of view: their k-space is padded with zeros, or cut.

    Parameters
    ----------
    images
        complex64 (..., rows, columns); pixel ``n // 2`` stays at the centre.
    shape
        (rows, columns) wanted.

    Returns
    -------
    ndarray
        complex64 (..., *shape). The values keep their size.
    """
    if images.shape[-2:] == shape:
        return images
    kspace = image_to_kspace(np.ascontiguousarray(images))
    wanted = np.zeros((*images.shape[:-2], *shape), np.complex64)
    source, target = [], []
    for length, goal in zip(images.shape[-2:], shape, strict=True):
        common = min(length, goal)
        source.append(slice(_centred_start(length, common), _centred_start(length, common) + common))
        target.append(slice(_centred_start(goal, common), _centred_start(goal, common) + common))
    wanted[..., target[0], target[1]] = kspace[..., source[0], source[1]]
    gain = np.float32(np.sqrt(shape[0] * shape[1] / (images.shape[-2] * images.shape[-1])))
    return np.asarray(kspace_to_image(wanted) * gain, np.complex64)


def _centred_start(length: int, wanted: int) -> int:
    """Return where `wanted` of `length` pixels begin, so that pixel ``length // 2`` becomes pixel ``wanted // 2``."""
    return length // 2 - wanted // 2
