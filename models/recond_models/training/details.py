"""What averages of heads lack: texture, vessels, lesions, sharp borders; and the phase of the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from recond_models.training.fields import smooth_field

_BACKGROUND = 0.06


def add_detail(generator: np.random.Generator, image: NDArray[np.float32], pixel: float) -> NDArray[np.float32]:
    """Sharpen, add texture, vessels and lesions, each in some images.

    Parameters
    ----------
    generator
        Source of randomness.
    image
        float32 (rows, columns), largest value about 1.
    pixel
        Edge of a pixel, mm.

    Returns
    -------
    ndarray
        float32 (rows, columns), not negative.
    """
    head = np.clip(image / np.float32(_BACKGROUND), 0, 1)
    if generator.random() < 0.6:
        blurred = ndimage.gaussian_filter(image, generator.uniform(0.6, 1.6), truncate=3)
        image = image + np.float32(generator.uniform(0.2, 1.2)) * (image - blurred)
    if generator.random() < 0.85:
        image = image * (1 + _texture(generator, image.shape) * head)
    if generator.random() < 0.4:
        image = _vessels(generator, image, head)
    for _ in range(int(generator.poisson(1.6))):
        image = _lesion(generator, image, pixel)
    return np.maximum(image, 0)


def split_fat(
    generator: np.random.Generator, image: NDArray[np.float32], pixel: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Take the fat below the skin out of a head, and give it a brightness of its own.

    What is bright and lies within a few millimetres of the surface counts as fat. Receive arrays see it brightest of all, and on
    measured heads much of the error of reconstructions lies there.

    Parameters
    ----------
    generator
        Source of randomness.
    image
        float32 (rows, columns), largest value about 1.
    pixel
        Edge of a pixel, mm.

    Returns
    -------
    water, fat
        float32 (rows, columns), not negative.
    """
    head = ndimage.binary_fill_holes(image > _BACKGROUND)
    depth = ndimage.distance_transform_edt(head).astype(np.float32) * np.float32(pixel)
    layer, softness = generator.uniform(5, 16), generator.uniform(1, 3)
    level = generator.uniform(0.25, 0.6)
    share = 1 / (1 + np.exp(np.clip((depth - layer) / softness, -30, 30)))
    share /= 1 + np.exp(np.clip((level - image) / 0.06, -30, 30))
    fat = image * share.astype(np.float32)
    brightness = np.float32(np.exp(np.clip(generator.normal(0.2, 0.5), -1.5, 1.1)))
    return image - fat, fat * brightness


def add_fat(
    generator: np.random.Generator, water: NDArray[np.complex64], fat: NDArray[np.complex64]
) -> NDArray[np.complex64]:
    """Add fat to water as a scanner sees it: moved along the readout, and turned by what its frequency makes of the echo time.

    In half of the scans it is in phase.

    Parameters
    ----------
    generator
        Source of randomness.
    water, fat
        complex64 (rows, columns), readout along the rows.
    """
    # 3.4 ppm at 0.5 to 3 T over bandwidths of 150 to 800 Hz a pixel.
    move = generator.uniform(0, 2.5) * generator.choice((-1, 1))
    turn = generator.uniform(-np.pi, np.pi) if generator.random() < 0.5 else generator.normal(0, 0.15)
    moved = ndimage.shift(fat.real, (move, 0), order=1) + 1j * ndimage.shift(fat.imag, (move, 0), order=1)
    total: NDArray[np.complex64] = water + (np.exp(1j * turn) * moved).astype(np.complex64)
    return total


def phase(generator: np.random.Generator, image: NDArray[np.float32]) -> NDArray[np.complex64]:
    """Draw the phase of an image: a shift of the echo, smooth fields, sometimes a local one and one that follows the tissue.

    Parameters
    ----------
    generator
        Source of randomness.
    image
        float32 (rows, columns).

    Returns
    -------
    ndarray
        complex64 (rows, columns), of magnitude 1.
    """
    rows, columns = image.shape
    shift = generator.normal(0, 0.7, 2).astype(np.float32)
    angle = np.float32(generator.uniform(-np.pi, np.pi)) + (
        np.float32(2 * np.pi) * shift[0] * np.linspace(-0.5, 0.5, rows, dtype=np.float32)[:, None]
        + np.float32(2 * np.pi) * shift[1] * np.linspace(-0.5, 0.5, columns, dtype=np.float32)[None, :]
    )
    angle = angle + np.float32(generator.uniform(0.3, 2.4)) * smooth_field(generator, image.shape, 5)[0]
    if generator.random() < 0.5:
        angle += np.float32(generator.uniform(0, 0.6)) * smooth_field(generator, image.shape, 14)[0]
    if generator.random() < 0.4:
        angle += np.float32(generator.normal(0, 3.0)) * _bump(generator, image.shape)
    if generator.random() < 0.5:
        knots = min(28, min(image.shape) // 4)
        angle += np.float32(generator.uniform(0, 0.25)) * smooth_field(generator, image.shape, knots)[0]
    if generator.random() < 0.4:
        angle += np.float32(generator.normal(0, 0.5)) * image
    turned = np.empty(image.shape, dtype=np.complex64)
    np.cos(angle, out=turned.real)
    np.sin(angle, out=turned.imag)
    return turned


def _texture(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Draw relative fluctuations with a power-law spectrum, uneven in strength over the image."""
    rows, columns = shape
    white = generator.standard_normal(shape, dtype=np.float32)
    frequency = np.hypot(fft.fftfreq(rows)[:, None], fft.rfftfreq(columns)[None, :]).astype(np.float32)
    slope, cutoff = generator.uniform(0, 1.3), generator.uniform(0.02, 0.12)
    envelope = (1 + (frequency / np.float32(cutoff)) ** 2) ** np.float32(-slope / 2) * (frequency > 0.02)
    texture: NDArray[np.float32] = fft.irfft2(fft.rfft2(white) * envelope, s=shape)
    amplitude = np.float32(np.exp(generator.uniform(np.log(0.008), np.log(0.12))) / max(float(texture.std()), 1e-6))
    strength = np.exp(np.float32(0.5) * smooth_field(generator, shape, 8)[0])
    fluctuations: NDArray[np.float32] = np.clip(amplitude * strength * texture, -0.6, 0.8)
    return fluctuations


def _vessels(
    generator: np.random.Generator, image: NDArray[np.float32], head: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Draw thin winding lines: where a smooth random field is nearly zero, in some regions of the head."""
    field = smooth_field(generator, image.shape, int(generator.integers(8, 22)))[0]
    slope_rows, slope_columns = np.gradient(field)
    distance = np.abs(field) / (np.hypot(slope_rows, slope_columns) + np.float32(1e-3))
    width = np.float32(generator.uniform(0.35, 0.9))
    lines = np.exp(-((distance / width) ** 2))
    # Pieces of them, fading in and out.
    pieces = smooth_field(generator, image.shape, int(generator.integers(9, 16)))[0]
    region = np.clip(np.float32(1.5) * pieces - np.float32(generator.uniform(0.8, 1.8)), 0, 1)
    level = np.float32(generator.uniform(0, 0.25) if generator.random() < 0.5 else generator.uniform(0.6, 1.1))
    share = lines * region * head * np.float32(generator.uniform(0.3, 1))
    vessels: NDArray[np.float32] = image + share * (level - image)
    return vessels


def _lesion(generator: np.random.Generator, image: NDArray[np.float32], pixel: float) -> NDArray[np.float32]:
    """Put in one bright or dark blob of 2 to 12 mm, sharp or soft, of uneven outline."""
    rows, columns = np.nonzero(image > 0.15)
    if rows.size == 0:
        return image
    chosen = int(generator.integers(rows.size))
    radius = 0.5 * np.exp(generator.uniform(np.log(2), np.log(12))) / pixel
    reach = int(np.ceil(2.2 * radius)) + 2
    top, left = max(0, int(rows[chosen]) - reach), max(0, int(columns[chosen]) - reach)
    window = (slice(top, int(rows[chosen]) + reach + 1), slice(left, int(columns[chosen]) + reach + 1))
    part = image[window]
    down = (np.arange(part.shape[0], dtype=np.float32) + top - rows[chosen])[:, None]
    across = (np.arange(part.shape[1], dtype=np.float32) + left - columns[chosen])[None, :]
    turn, flat = generator.uniform(0, np.pi), generator.uniform(0.5, 1)
    u = np.cos(turn) * down + np.sin(turn) * across
    v = (np.cos(turn) * across - np.sin(turn) * down) / flat
    outline = np.float32(generator.uniform(0, 0.25) * radius) * smooth_field(generator, part.shape, 6)[0]
    edge = generator.uniform(0.3, 0.6) if generator.random() < 0.5 else generator.uniform(0.6, 0.2 * radius + 1)
    inside = 1 / (1 + np.exp(np.clip((np.hypot(u, v) + outline - radius) / edge, -30, 30)))
    here = float(image[rows[chosen], columns[chosen]])
    contrast = generator.uniform(0.05, 0.7) * (1 if generator.random() < 0.6 else -1)
    changed = image.copy()
    changed[window] = part + np.float32(contrast * max(here, 0.2)) * inside.astype(np.float32)
    return changed


def _bump(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return a Gaussian at a random place, as the field beside an air cavity."""
    down = np.linspace(-1, 1, shape[0], dtype=np.float32) - np.float32(generator.uniform(-0.7, 0.7))
    across = np.linspace(-1, 1, shape[1], dtype=np.float32) - np.float32(generator.uniform(-0.7, 0.7))
    width = np.float32(generator.uniform(0.1, 0.35))
    bump: NDArray[np.float32] = np.exp(-((down / width) ** 2))[:, None] * np.exp(-((across / width) ** 2))[None, :]
    return bump
