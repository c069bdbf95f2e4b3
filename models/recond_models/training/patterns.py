"""Sampling patterns to train on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_TEXTURE = 176
_TEXTURE_WIDTH = 1.9
_TEXTURE_START = 0.03
KINDS = ("random", "equispaced", "equispaced_fraction", "poisson", "gaussian", "grid", "full")
"""Kinds of patterns."""
_SHARES = (0.16, 0.19, 0.14, 0.30, 0.09, 0.08, 0.04)
_LARGEST_CALIBRATION = 24
_SMALLEST_CALIBRATION = 8
_PARTIAL_FOURIER_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class SamplingPattern:
    """Which positions are measured.

    Parameters
    ----------
    mask
        bool (rows, columns).
    calibration
        Rows and columns of the fully sampled block around ``n // 2``, at most 24 x 24; it may be measured apart from the mask.
    kind
        Name of the pattern.
    acceleration
        Positions over measured positions.
    """

    mask: NDArray[np.bool_]
    calibration: tuple[int, int]
    kind: str
    acceleration: float

    @property
    def lines(self) -> bool:
        """Whether whole lines are measured."""
        return bool((self.mask == self.mask[:1]).all())


def draw_pattern(
    generator: np.random.Generator,
    shape: tuple[int, int],
    accelerations: tuple[float, float] = (2.0, 12.0),
    kinds: tuple[str, ...] = (),
) -> SamplingPattern:
    """Draw a pattern of lines or of points.

    Parameters
    ----------
    generator
        Source of randomness.
    shape
        Rows (readout) and columns (phase encode).
    accelerations
        Smallest and largest acceleration that is aimed at.
    kinds
        Equally likely, all of `accelerations` and never cut off; empty for all in the usual mixture.

    Returns
    -------
    SamplingPattern
        With a calibration block of at least 8 x 8.
    """
    kind = str(generator.choice(kinds)) if kinds else str(generator.choice(KINDS, p=_SHARES))
    wanted = float(np.exp(generator.uniform(*np.log(accelerations))))
    if kind == "full":
        mask = np.ones(shape, dtype=np.bool_)
        block = (_LARGEST_CALIBRATION, _LARGEST_CALIBRATION)
    elif kind == "poisson":
        mask, block = _points(generator, shape, wanted, _blue_noise(generator, shape))
    elif kind == "gaussian":
        mask, block = _points(generator, shape, wanted, generator.random(shape, dtype=np.float32))
    elif kind == "grid":
        mask, block = _grid(generator, shape, wanted)
    else:
        # The centre must leave room for other lines.
        wanted = min(wanted, shape[1] / (_SMALLEST_CALIBRATION * 1.4))
        lines, centre = _lines(generator, shape[1], wanted, kind)
        mask, block = np.broadcast_to(lines, shape).copy(), (_LARGEST_CALIBRATION, centre)
    extent = (min(block[0], shape[0], _LARGEST_CALIBRATION), min(block[1], shape[1], _LARGEST_CALIBRATION))
    if not kinds and generator.random() < _PARTIAL_FOURIER_SHARE:
        _cut_off(generator, mask, extent)
        kind = f"{kind}, partial Fourier"
    return SamplingPattern(mask, extent, kind, mask.size / max(1, int(mask.sum())))


def variable_density(
    generator: np.random.Generator,
    shape: tuple[int, int],
    acceleration: float,
    block: int = 24,
    *,
    corners: bool = False,
) -> NDArray[np.bool_]:
    """Draw points that keep apart from each other, denser towards the centre, around a full block.

    A threshold on blue noise (Ulichney 1988, doi:10.1109/5.3288) takes the place of throwing darts: it is a hundred times faster.

    Parameters
    ----------
    generator
        Source of randomness.
    shape
        Rows and columns.
    acceleration
        Positions over measured positions.
    block
        Edge of the full block in the centre.
    corners
        Measure in the corners of k-space too.

    Returns
    -------
    ndarray
        bool (rows, columns).
    """
    return _threshold(_blue_noise(generator, shape), acceleration, block, 1.5, corners=corners)


def _points(
    generator: np.random.Generator, shape: tuple[int, int], wanted: float, texture: NDArray[np.float32]
) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Draw a two-dimensional pattern and its block."""
    # The block alone may not take more than half of the samples.
    largest = int(np.sqrt(0.5 * shape[0] * shape[1] / wanted))
    block = max(_SMALLEST_CALIBRATION, min(int(generator.integers(10, 33)), largest, *shape))
    power = float(generator.uniform(0.3, 2.2))
    mask = _threshold(texture, wanted, block, power, corners=bool(generator.random() < 0.4))
    return mask, (block, block)


def _grid(
    generator: np.random.Generator, shape: tuple[int, int], wanted: float
) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Draw a regular two-dimensional pattern, shifted from line to line, within an ellipse (Breuer et al. 2006, CAIPIRINHA)."""
    rows, columns = shape
    down = int(generator.integers(1, max(2, round(np.sqrt(wanted)) + 1)))
    across = max(1, round(wanted / down))
    shift = int(generator.integers(across))
    lines = np.arange(rows)[:, None] + int(generator.integers(down))
    positions = np.arange(columns)[None, :] + int(generator.integers(across)) + shift * (lines // down)
    mask: NDArray[np.bool_] = (lines % down == 0) & (positions % across == 0)
    if generator.random() < 0.6:
        height, width = ((np.arange(size) - size // 2) / (size / 2) for size in shape)
        mask &= np.hypot(height[:, None], width[None, :]) <= 1
    largest = int(np.sqrt(0.5 * rows * columns / wanted))
    block = max(_SMALLEST_CALIBRATION, min(int(generator.integers(16, 33)), largest, *shape))
    top, left = rows // 2 - block // 2, columns // 2 - block // 2
    mask[top : top + block, left : left + block] = True
    return mask, (block, block)


def _threshold(
    texture: NDArray[np.float32], wanted: float, block: int, power: float, *, corners: bool
) -> NDArray[np.bool_]:
    """Measure where the texture, uniform in [0, 1), is below a density that falls from the centre and meets the acceleration."""
    rows, columns = texture.shape
    down = (np.arange(rows, dtype=np.float32) - rows // 2)[:, None] / (rows / 2)
    across = (np.arange(columns, dtype=np.float32) - columns // 2)[None, :] / (columns / 2)
    radius = np.hypot(down, across)
    density = (0.12 + radius) ** np.float32(-power)
    if not corners:
        density *= radius <= 1
    top, left = rows // 2 - block // 2, columns // 2 - block // 2
    centre = (slice(top, top + block), slice(left, left + block))
    budget = max(rows * columns / wanted - block * block, 1.0)
    density[centre] = 0
    low, high = 0.0, 1.0 / float(density[density > 0].min())
    for _ in range(14):
        middle = (low * high) ** 0.5 if low > 0 else high / 64
        if float(np.minimum(middle * density, 1).sum()) > budget:
            high = middle
        else:
            low = middle
    mask: NDArray[np.bool_] = texture < np.float32(high) * density
    mask[centre] = True
    return mask


def _lines(generator: np.random.Generator, columns: int, wanted: float, kind: str) -> tuple[NDArray[np.bool_], int]:
    """Draw whole lines and the number of them in the centre."""
    fraction = float(generator.uniform(0.04, 0.12))
    centre = max(_SMALLEST_CALIBRATION, round(fraction * columns))
    # At least a third of the lines lie outside the centre.
    centre = max(_SMALLEST_CALIBRATION, min(centre, int(0.67 * columns / wanted)))
    lines = np.zeros(columns, dtype=np.bool_)
    if kind == "random":
        lines |= generator.random(columns) < (columns / wanted - centre) / (columns - centre)
    else:
        spacing = float(max(2, round(wanted)))
        if kind == "equispaced_fraction":
            spacing = min(wanted * (centre - columns) / (centre * wanted - columns), columns / 4)
        offset = generator.uniform(0, spacing)
        lines[np.arange(offset, columns - 0.5, spacing).astype(np.int64)] = True
    apart = generator.random() < 0.1
    if not apart:
        start = columns // 2 - centre // 2
        lines[start : start + centre] = True
    return lines, centre


def _cut_off(generator: np.random.Generator, mask: NDArray[np.bool_], block: tuple[int, int]) -> None:
    """Leave out 15 to 35 percent on one side, never of the calibration block; changes the mask."""
    axis = int(generator.random() < 0.7)
    size = mask.shape[axis]
    cut = min(int(generator.uniform(0.15, 0.35) * size), max(0, size // 2 - block[axis]))
    part = slice(0, cut) if generator.random() < 0.5 else slice(size - cut, size)
    mask[(slice(None), part) if axis else (part, slice(None))] = False


def _blue_noise(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return uniform noise without low frequencies, float32 (rows, columns): one large texture, moved, turned and tiled."""
    texture = _texture()
    if generator.random() < 0.5:
        texture = texture.T
    texture = texture[:: int(generator.choice((-1, 1))), :: int(generator.choice((-1, 1)))]
    rows = (np.arange(shape[0]) + generator.integers(_TEXTURE)) % _TEXTURE
    columns = (np.arange(shape[1]) + generator.integers(_TEXTURE)) % _TEXTURE
    tiled: NDArray[np.float32] = texture[np.ix_(rows, columns)]
    return tiled


@lru_cache(maxsize=1)
def _texture() -> NDArray[np.float32]:
    """Make blue noise by voids and clusters (Ulichney 1993, doi:10.1117/12.152707); periodic, uniform in [0, 1)."""
    generator = np.random.default_rng(_TEXTURE)
    size = _TEXTURE * _TEXTURE
    distance = np.minimum(np.arange(_TEXTURE), _TEXTURE - np.arange(_TEXTURE))
    profile = np.exp(-0.5 * (distance / _TEXTURE_WIDTH) ** 2)
    # Twice as large: the kernel about any place is a slice.
    kernel = np.tile(np.outer(profile, profile), (2, 2)).astype(np.float32)

    def around(place: int) -> NDArray[np.float32]:
        row, column = divmod(place, _TEXTURE)
        return kernel[_TEXTURE - row : 2 * _TEXTURE - row, _TEXTURE - column : 2 * _TEXTURE - column]

    crowding = np.zeros((_TEXTURE, _TEXTURE), dtype=np.float32)
    taken = np.zeros(size, dtype=np.bool_)
    start = generator.choice(size, int(_TEXTURE_START * size), replace=False)
    for place in start:
        crowding += around(int(place))
    taken[start] = True
    # Points move from where they are crowded to the largest void until none moves, so that they keep apart.
    for _ in range(10 * start.size):
        crowded = int(np.argmax(np.where(taken, crowding.ravel(), -np.inf)))
        crowding -= around(crowded)
        taken[crowded] = False
        void = int(np.argmin(np.where(taken, np.inf, crowding.ravel())))
        crowding += around(void)
        taken[void] = True
        if void == crowded:
            break
    ranks = np.zeros(size, dtype=np.float32)
    settled = crowding.copy()
    left = taken.copy()
    for rank in range(start.size - 1, -1, -1):
        crowded = int(np.argmax(np.where(left, settled.ravel(), -np.inf)))
        settled -= around(crowded)
        left[crowded] = False
        ranks[crowded] = rank
    free = crowding
    free.ravel()[taken] = np.inf
    for rank in range(start.size, size):
        void = int(np.argmin(free))
        free += around(void)
        free.ravel()[void] = np.inf
        ranks[void] = rank
    return np.asarray(ranks / size, dtype=np.float32).reshape(_TEXTURE, _TEXTURE)
