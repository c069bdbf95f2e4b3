"""Slices that show no head: limbs, joints, spines and phantoms from simple shapes, bodies of random shapes, everyday pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from recond_models.training import shapes
from recond_models.training.fields import smooth_field
from recond_models.training.heads.signal_equations import Contrast, signals

_AIR, _FAT, _MUSCLE, _CORTEX, _MARROW, _FLUID, _CORD, _DISC = range(8)
_CONTRASTS: tuple[Contrast, ...] = ("t1", "t2", "pd", "t2*", "flair")


def everyday_pictures() -> list[NDArray[np.float32]]:
    """Return the pictures that come with scikit-image, grey, 0 to 1; none where that is not installed."""
    try:
        from skimage import color, data  # noqa: PLC0415
    except ImportError:
        return []
    names = (
        "astronaut",
        "camera",
        "coins",
        "moon",
        "page",
        "text",
        "coffee",
        "rocket",
        "brick",
        "grass",
        "gravel",
        "chelsea",
    )
    found = []
    for name in names:
        picture = np.asarray(getattr(data, name)())
        grey = color.rgb2gray(picture) if picture.ndim == 3 else picture / 255
        found.append(np.asarray(grey, dtype=np.float32))
    return found


def draw_other(
    generator: np.random.Generator, shape: tuple[int, int], pictures: tuple[NDArray[np.float32], ...] = ()
) -> NDArray[np.float32]:
    """Draw a slice that shows something else than a head.

    Parameters
    ----------
    generator
        Source of randomness.
    shape
        Rows and columns.
    pictures
        float32 (rows, columns): pictures of anything; some of the slices are parts of them.

    Returns
    -------
    ndarray
        float32 (rows, columns), not negative.
    """
    choice = generator.random()
    if pictures and choice < 0.08:
        return _part_of(generator, pictures[int(generator.integers(len(pictures)))], shape)
    if choice < 0.25:
        return shapes.draw(generator, shape)[0]
    kinds: tuple[Callable[[np.random.Generator, tuple[int, int]], NDArray[np.uint8]], ...] = (
        _limb,
        _joint,
        _spine,
        _torso,
    )
    if choice < 0.45:
        return _phantom(generator, shape)
    labels = kinds[int(generator.choice(4, p=(0.2, 0.4, 0.25, 0.15)))](generator, shape)
    if generator.random() < 0.5:
        labels = np.rot90(labels, 2)
    return _painted(generator, labels)


def _painted(generator: np.random.Generator, labels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Give tissues the signals of a contrast, with texture and mixed pixels."""
    level = signals(generator, _CONTRASTS[int(generator.integers(len(_CONTRASTS)))])
    table = np.array(
        [0, level["fat"], level["soft"], level["bone"], level["fat"] * generator.uniform(0.6, 1.1), level["fluid"], 1.0,
         generator.uniform(0.3, 1.2) * level["soft"]], dtype=np.float32,
    )  # fmt: skip
    fields = smooth_field(generator, labels.shape, int(generator.integers(6, 40)), 2)
    grain = ndimage.gaussian_filter(generator.standard_normal(labels.shape, dtype=np.float32), 0.8)
    image = table[labels] * (1 + np.float32(0.12) * fields[0] + np.float32(generator.uniform(0, 0.3)) * grain)
    # Receive coils on the surface are bright beside them.
    image *= np.exp(np.float32(generator.uniform(0, 0.6)) * smooth_field(generator, labels.shape, 4)[0])
    painted: NDArray[np.float32] = ndimage.gaussian_filter(np.maximum(image, 0), generator.uniform(0.4, 1.0))
    return painted


def _limb(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Cut through one or two legs or arms: fat, muscle, one or two bones each."""
    labels = np.zeros(shape, dtype=np.uint8)
    side = min(shape)
    two = generator.random() < 0.35
    radius = side * (generator.uniform(0.16, 0.23) if two else generator.uniform(0.25, 0.45))
    for place in (-0.5, 0.5) if two else (0.0,):
        middle = np.array([shape[0] / 2, shape[1] / 2 + place * 2.2 * radius]) + generator.normal(0, 0.02 * side, 2)
        away = _ellipse(generator, shape, middle, radius, 0.15)
        labels[away < 0] = _FAT
        labels[away < -radius * generator.uniform(0.05, 0.3)] = _MUSCLE
        for _ in range(int(generator.integers(1, 3))):
            bone = _ellipse(
                generator,
                shape,
                middle + generator.normal(0, 0.25 * radius, 2),
                radius * generator.uniform(0.1, 0.3),
                0.1,
            )
            _bone(labels, bone, side * generator.uniform(0.006, 0.02))
    return labels


def _joint(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Cut along a joint: two shafts with round ends, cartilage between them, muscle and fat around; often beyond the picture."""
    labels = np.zeros(shape, dtype=np.uint8)
    rows, columns = np.indices(shape, dtype=np.float32)
    side = min(shape)
    middle = np.array(shape) / 2 + generator.normal(0, 0.08 * side, 2)
    width = side * generator.uniform(0.28, 0.6)
    bend = smooth_field(generator, shape, 5)[0] * np.float32(0.05 * side)
    body = np.abs(columns - np.float32(middle[1]) + bend) - np.float32(width)
    labels[body < 0] = _FAT
    labels[body < -width * generator.uniform(0.05, 0.25)] = _MUSCLE
    end = side * generator.uniform(0.13, 0.24)
    gap = side * generator.uniform(0.01, 0.05)
    ball = generator.random() < 0.35
    for direction in (-1, 1):
        tip = middle + np.array([direction * (gap + end), generator.normal(0, 0.05 * side)])
        size = end * (generator.uniform(0.75, 1.2) if not ball or direction < 0 else generator.uniform(1.2, 1.9))
        bone = _ellipse(generator, shape, tip, size, 0.12)
        lean = generator.normal(0, 0.25)
        line = np.abs(columns - np.float32(tip[1]) - np.float32(lean) * (rows - np.float32(tip[0])))
        shaft = np.where(direction * (rows - np.float32(tip[0])) > 0, line - np.float32(0.6 * size), np.float32(side))
        _bone(labels, np.minimum(bone, shaft), side * generator.uniform(0.005, 0.015))
    if generator.random() < 0.5:
        fluid = _ellipse(generator, shape, middle + generator.normal(0, 0.1 * side, 2), gap + 0.05 * side, 0.3)
        labels[(fluid < 0) & (labels == _MUSCLE)] = _FLUID
    turned: NDArray[np.uint8] = (
        labels
        if generator.random() < 0.7
        else np.ascontiguousarray(ndimage.rotate(labels, generator.uniform(-40, 40), reshape=False, order=0))
    )
    return turned


def _spine(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Cut along a spine: blocks and discs in a row, the canal behind them, muscle and fat; or across it."""
    labels = np.full(shape, _MUSCLE, dtype=np.uint8)
    rows, columns = np.indices(shape, dtype=np.float32)
    side = min(shape)
    bend = (
        smooth_field(generator, shape, 4)[0] + np.float32(generator.normal(0, 1)) * (rows / side - 0.5) ** 2
    ) * np.float32(0.1 * side)
    across = columns - np.float32(shape[1] * generator.uniform(0.35, 0.6)) + bend
    height = side * generator.uniform(0.09, 0.2)
    half = height * generator.uniform(0.4, 0.8)
    along = np.mod(
        rows + np.float32(0.15) * across + np.float32(generator.uniform(0, height)), np.float32(height)
    ) / np.float32(height)
    disc = generator.uniform(0.12, 0.3)
    column = np.abs(across) < half
    labels[column] = np.where(along < disc, _DISC, _MARROW)[column]
    labels[(np.abs(np.abs(across) - half) < 0.012 * side) | (column & (np.abs(along - disc) < 0.04))] = _CORTEX
    canal = across - np.float32(half + 0.05 * side)
    labels[np.abs(canal) < 0.045 * side] = _FLUID
    labels[np.abs(canal) < generator.uniform(0.012, 0.03) * side] = _CORD
    labels[(across > half + 0.13 * side) & (along < 0.5) & (across < half + 0.3 * side)] = _MARROW
    skin = half + side * generator.uniform(0.3, 0.5)
    labels[across > skin] = _FAT
    labels[across > skin + side * generator.uniform(0.03, 0.15)] = _AIR
    front = -half - side * generator.uniform(0.2, 0.5)
    labels[across < front] = _FAT
    labels[across < front - side * generator.uniform(0.02, 0.2)] = _AIR
    return labels


def _torso(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Cut across a trunk or a neck: a wide oval with organs, and a vertebra with its canal."""
    labels = np.zeros(shape, dtype=np.uint8)
    side = min(shape)
    middle = np.array(shape) / 2
    away = _ellipse(generator, shape, middle, side * generator.uniform(0.3, 0.5), 0.3)
    labels[away < 0] = _FAT
    labels[away < -side * generator.uniform(0.02, 0.1)] = _MUSCLE
    for _ in range(int(generator.integers(2, 8))):
        organ = _ellipse(
            generator, shape, middle + generator.normal(0, 0.15 * side, 2), side * generator.uniform(0.04, 0.15), 0.25
        )
        labels[(organ < 0) & (labels == _MUSCLE)] = int(generator.choice([_AIR, _FLUID, _DISC, _CORD, _FAT]))
    vertebra = middle + np.array([side * generator.uniform(0.08, 0.2), 0])
    _bone(labels, _ellipse(generator, shape, vertebra, side * generator.uniform(0.05, 0.09), 0.15), 0.01 * side)
    canal = _ellipse(generator, shape, vertebra + np.array([0.12 * side, 0]), side * 0.035, 0.1)
    labels[canal < 0] = _FLUID
    labels[canal < -0.012 * side] = _CORD
    return labels


def _phantom(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Draw a bottle, with inserts, bars or a grid in it, or nothing."""
    rows, columns = np.indices(shape, dtype=np.float32)
    side = min(shape)
    middle = np.array(shape) / 2 + generator.normal(0, 0.04 * side, 2)
    half = side * generator.uniform(0.2, 0.45)
    down, across = rows - np.float32(middle[0]), columns - np.float32(middle[1])
    if generator.random() < 0.6:
        away = np.hypot(down, across) - np.float32(half)
    else:
        away = np.maximum(
            np.abs(down) - np.float32(half), np.abs(across) - np.float32(half * generator.uniform(0.5, 1))
        )
    image = (away < 0).astype(np.float32)
    kind = int(generator.integers(4))
    if kind == 1:
        for _ in range(int(generator.integers(2, 14))):
            place = middle + generator.uniform(-0.7, 0.7, 2) * half
            inside = np.hypot(rows - np.float32(place[0]), columns - np.float32(place[1])) < half * generator.uniform(
                0.05, 0.22
            )
            image[inside & (away < 0)] = np.float32(generator.uniform(0, 1.5))
    elif kind == 2:
        period = np.float32(side * generator.uniform(0.02, 0.12))
        lines = (np.mod(down, period) < 0.25 * period) | (np.mod(across, period) < 0.25 * period)
        image[lines & (away < -0.2 * half)] = 0
    elif kind == 3:
        period = np.float32(side * generator.uniform(0.02, 0.06))
        image[(np.mod(across, period) < 0.5 * period) & (np.abs(down) < 0.3 * half)] *= np.float32(0.2)
    image *= np.exp(np.float32(generator.uniform(0, 0.4)) * smooth_field(generator, shape, 4)[0])
    drawn: NDArray[np.float32] = ndimage.gaussian_filter(image, generator.uniform(0.4, 1.2))
    return drawn


def _part_of(
    generator: np.random.Generator, picture: NDArray[np.float32], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Cut a part out of a picture."""
    share = generator.uniform(0.4, 1)
    size = [max(8, int(share * side)) for side in picture.shape]
    top, left = (int(generator.integers(0, side - part + 1)) for side, part in zip(picture.shape, size, strict=True))
    part = picture[top : top + size[0], left : left + size[1]]
    cut: NDArray[np.float32] = ndimage.zoom(part, np.array(shape) / np.array(part.shape), order=1)
    return np.maximum(cut, 0)


def _bone(labels: NDArray[np.uint8], away: NDArray[np.float32], thickness: float) -> None:
    """Put in a bone, in place: a dark shell with marrow in it."""
    labels[away < 0] = _CORTEX
    labels[away < -max(thickness, 1.0)] = _MARROW


def _ellipse(
    generator: np.random.Generator, shape: tuple[int, int], middle: NDArray[np.floating], radius: float, uneven: float
) -> NDArray[np.float32]:
    """Return about the distance from an uneven ellipse in pixels, negative inside."""
    rows, columns = np.indices(shape, dtype=np.float32)
    turn = generator.uniform(0, np.pi)
    down, across = rows - np.float32(middle[0]), columns - np.float32(middle[1])
    ratio = np.float32(np.exp(generator.normal(0, 0.15)))
    u = (np.cos(turn) * down + np.sin(turn) * across) * ratio
    v = (np.cos(turn) * across - np.sin(turn) * down) / ratio
    angle = np.arctan2(v, u)
    distance = np.hypot(u, v)
    for order in (2, 3, 5):
        distance = distance * (
            1 + np.float32(generator.normal(0, uneven / order)) * np.cos(order * angle + generator.uniform(0, 6.3))
        )
    return np.asarray(distance - np.float32(radius), dtype=np.float32)
