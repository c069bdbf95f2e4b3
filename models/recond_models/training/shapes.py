"""Slices of bodies that nobody has: random outlines, layers, organs, bones and vessels, for networks that know no anatomy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from recond_models.training.fields import smooth_field

_STRUCTURES = 64


def draw(generator: np.random.Generator, shape: tuple[int, int]) -> tuple[NDArray[np.float32], str]:
    """Draw a slice.

    A body, often cut by the edge of the field of view, with layers below its surface; in it organs of uneven outline, shapes in
    shells as bones are, rows of like blocks as in a spine, and winding tubes. Every structure has a signal of its own, two kinds
    of tissue within it, and grain.

    Parameters
    ----------
    generator
        Source of randomness.
    shape
        Rows and columns.

    Returns
    -------
    image
        float32 (rows, columns), not negative, largest value about 1.
    name
        Of the kind.
    """
    labels = np.zeros(shape, dtype=np.uint8)
    body = _body(generator, shape)
    labels[body < 0] = 1
    free = 2
    depth = 0.0
    for _ in range(int(generator.integers(0, 4))):
        depth += float(np.exp(generator.uniform(np.log(1.5), np.log(12))))
        labels[body < -depth] = free
        free += 1
    for kind, most in ((_organ, 8), (_bone, 5), (_row_of_blocks, 2), (_tube, 6)):
        for _ in range(int(generator.integers(0, most))):
            for part in kind(generator, shape):
                labels[(part < 0) & (body < -1)] = free
                free = min(free + 1, _STRUCTURES - 1)
    return _paint(generator, labels), "shapes"


def _paint(generator: np.random.Generator, labels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Give every structure a signal, with mixed pixels at borders."""
    shape = labels.shape
    means = generator.uniform(0.03, 1, _STRUCTURES).astype(np.float32)
    means[0] = 0
    spread = np.abs(generator.normal(0, generator.uniform(0.02, 0.2), _STRUCTURES)).astype(np.float32) * means
    rough = generator.uniform(0, generator.uniform(0.01, 0.15), _STRUCTURES).astype(np.float32) * means
    clusters = smooth_field(generator, shape, int(generator.integers(6, 20)))[0]
    clusters += smooth_field(generator, shape, int(generator.integers(20, 48)))[0]
    grain = ndimage.gaussian_filter(
        generator.standard_normal(shape, dtype=np.float32), generator.uniform(0.4, 1.4), truncate=3
    )
    grain /= np.float32(max(float(grain.std()), 1e-6))
    if generator.random() < 0.4:
        grain += _fibres(generator, shape)
    image = means[labels] + spread[labels] * np.tanh(np.float32(generator.uniform(0.7, 4)) * clusters)
    image += rough[labels] * grain
    # Mixed pixels: labels are sharp, borders of tissue are not.
    image = ndimage.gaussian_filter(image, generator.uniform(0.35, 0.9), truncate=3)
    top = float(np.partition(image, -50, axis=None)[-50])
    painted: NDArray[np.float32] = np.clip(image / np.float32(max(top, 1e-3)), 0, 1.5)
    return painted


def _body(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the distance from the surface in pixels, negative inside; at least a part is in the picture."""
    side = min(shape)
    radii = generator.uniform(0.25, 0.75, 2) * side
    middle = np.asarray(shape) / 2 + generator.normal(0, 0.08, 2) * side
    if generator.random() < 0.25:  # long, out of the picture at both ends
        radii[int(generator.integers(2))] *= 4
    return _blob(generator, shape, middle, radii, 0.12)


def _organ(generator: np.random.Generator, shape: tuple[int, int]) -> list[NDArray[np.float32]]:
    radii = np.exp(generator.uniform(np.log(0.02), np.log(0.25), 2)) * min(shape)
    return [_blob(generator, shape, generator.uniform(0.1, 0.9, 2) * shape, radii, 0.3)]


def _bone(generator: np.random.Generator, shape: tuple[int, int]) -> list[NDArray[np.float32]]:
    """Return a shape and, within a shell of even thickness, its inside."""
    radii = np.exp(generator.uniform(np.log(0.04), np.log(0.22), 2)) * min(shape)
    outer = _blob(generator, shape, generator.uniform(0.1, 0.9, 2) * shape, radii, 0.15)
    return [outer, outer + np.float32(generator.uniform(1.0, 4.0))]


def _row_of_blocks(generator: np.random.Generator, shape: tuple[int, int]) -> list[NDArray[np.float32]]:
    """Return blocks of one signal along a line, and the discs between them of another."""
    rows, columns = _grid(shape)
    turn = generator.uniform(-0.4, 0.4) + (np.pi / 2 if generator.random() < 0.3 else 0)
    offset = generator.uniform(0.3, 0.7, 2) * shape
    along = np.cos(turn) * (rows - offset[0]) + np.sin(turn) * (columns - offset[1])
    across = np.cos(turn) * (columns - offset[1]) - np.sin(turn) * (rows - offset[0])
    bend = generator.normal(0, 0.3) / min(shape)
    across = across + np.float32(bend) * along**2
    pitch, width = generator.uniform(0.06, 0.16) * min(shape), generator.uniform(0.04, 0.1) * min(shape)
    place = np.abs((along / pitch) % 1 - 0.5) * pitch
    column = np.abs(across) - np.float32(width)
    blocks = np.maximum(place - np.float32(generator.uniform(0.3, 0.42) * pitch), column)
    return [column.astype(np.float32), blocks.astype(np.float32)]


def _tube(generator: np.random.Generator, shape: tuple[int, int]) -> list[NDArray[np.float32]]:
    """Return a winding line of one to six pixels, somewhere in the picture."""
    field = smooth_field(generator, shape, int(generator.integers(5, 14)))[0]
    slope = np.hypot(*np.gradient(field)) + np.float32(1e-3)
    distance = np.abs(field - np.float32(generator.normal(0, 0.5))) / slope
    region = _blob(
        generator, shape, generator.uniform(0, 1, 2) * shape, generator.uniform(0.1, 0.4, 2) * min(shape), 0.3
    )
    return [np.maximum(distance - np.float32(generator.uniform(0.5, 3)), region)]


def _fibres(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return stripes as of muscle or tendon, of standard deviation near 1."""
    rows, columns = _grid(shape)
    turn = generator.uniform(0, np.pi) + np.float32(0.6) * smooth_field(generator, shape, 4)[0]
    along = np.cos(turn) * rows + np.sin(turn) * columns
    stripes: NDArray[np.float32] = np.sin(2 * np.pi * along / np.float32(generator.uniform(3, 14))).astype(np.float32)
    return stripes


def _blob(
    generator: np.random.Generator,
    shape: tuple[int, int],
    middle: NDArray[np.float64],
    radii: NDArray[np.float64],
    uneven: float,
) -> NDArray[np.float32]:
    """Return about the distance from an ellipse of uneven outline, pixels, negative inside."""
    rows, columns = _grid(shape)
    turn = generator.uniform(0, np.pi)
    down, across = rows - np.float32(middle[0]), columns - np.float32(middle[1])
    u = (np.cos(turn) * down + np.sin(turn) * across) / np.float32(radii[0])
    v = (np.cos(turn) * across - np.sin(turn) * down) / np.float32(radii[1])
    power = generator.uniform(1.6, 4)
    radius = (np.abs(u) ** power + np.abs(v) ** power + 1e-6) ** (1 / power)
    angle = np.arctan2(v, u)
    for order in range(2, 7):
        size = generator.normal(0, uneven / order)
        radius = radius * (1 + np.float32(size) * np.cos(order * angle + generator.uniform(0, 2 * np.pi)))
    distance: NDArray[np.float32] = ((radius - 1) * np.float32(np.sqrt(radii[0] * radii[1]))).astype(np.float32)
    return distance


def _grid(shape: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rows, columns = np.indices(shape, dtype=np.float32, sparse=True)
    return rows, columns
