"""The kernels themselves. Complex numbers are pairs of float32, real part first; a program handles a run of pixels.

A frame's sum over coils is one loop over its coils in their order, so its rounding does not depend on the other frames.
"""
# Triton compiles the text of these functions: annotations other than its own, and keyword-only flags, are not part of its language.
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _load(pointer, places, inside):
    """Load complex numbers: places are pixel numbers, the result real and imaginary parts."""
    pairs = tl.load(
        pointer + places.to(tl.int64)[:, None] * 2 + tl.arange(0, 2)[None, :], mask=inside[:, None], other=0.0
    )
    return tl.split(pairs)


@triton.jit
def _store(pointer, places, real, imaginary, inside):
    """Store complex numbers."""
    pairs = tl.join(real, imaginary)
    tl.store(pointer + places.to(tl.int64)[:, None] * 2 + tl.arange(0, 2)[None, :], pairs, mask=inside[:, None])


@triton.jit
def reduce_program(
    coil_images, sensitivities, ramp, offsets, images, pixels, ramped: tl.constexpr, block: tl.constexpr
):
    """images[b] = conj(ramp) * sum over the coils c of frame b of conj(sensitivities[c]) * coil_images[c]."""
    frame = tl.program_id(1)
    places = tl.program_id(0) * block + tl.arange(0, block)
    inside = places < pixels
    real = tl.zeros((block,), dtype=tl.float32)
    imaginary = tl.zeros((block,), dtype=tl.float32)
    for coil in range(tl.load(offsets + frame), tl.load(offsets + frame + 1)):
        start = coil * pixels
        x, y = _load(coil_images, start + places, inside)
        s, t = _load(sensitivities, start + places, inside)
        real += s * x + t * y
        imaginary += s * y - t * x
    if ramped:
        u, v = _load(ramp, places, inside)
        real, imaginary = u * real + v * imaginary, u * imaginary - v * real
    _store(images, frame.to(tl.int64) * pixels + places, real, imaginary, inside)


@triton.jit
def expand_program(
    images, sensitivities, ramp, offsets, coil_images, pixels, ramped: tl.constexpr, block: tl.constexpr
):
    """coil_images[c] = sensitivities[c] * ramp * images[b] for the coils c of frame b; the image is read once."""
    frame = tl.program_id(1)
    places = tl.program_id(0) * block + tl.arange(0, block)
    inside = places < pixels
    x, y = _load(images, frame.to(tl.int64) * pixels + places, inside)
    if ramped:
        u, v = _load(ramp, places, inside)
        x, y = u * x - v * y, u * y + v * x
    for coil in range(tl.load(offsets + frame), tl.load(offsets + frame + 1)):
        start = coil * pixels
        s, t = _load(sensitivities, start + places, inside)
        _store(coil_images, start + places, s * x - t * y, s * y + t * x, inside)


@triton.jit
def approach_measured_program(
    estimate,
    measured,
    masks,
    ramp,
    weight,
    offsets,
    result,
    pixels,
    ramped: tl.constexpr,
    block: tl.constexpr,
):
    """result[c] = k - weight * where(mask, k - measured[c], 0) with k = ramp * estimate[c]; mask and ramp are read once a frame."""
    frame = tl.program_id(1)
    places = tl.program_id(0) * block + tl.arange(0, block)
    inside = places < pixels
    known = tl.load(masks + frame.to(tl.int64) * pixels + places, mask=inside, other=0) != 0
    strength = tl.load(weight)
    if ramped:
        u, v = _load(ramp, places, inside)
    for coil in range(tl.load(offsets + frame), tl.load(offsets + frame + 1)):
        start = coil * pixels
        x, y = _load(estimate, start + places, inside)
        if ramped:
            x, y = u * x - v * y, u * y + v * x
        p, q = _load(measured, start + places, inside)
        # Selection: what is not a number outside the mask of the measured samples does no harm.
        x -= strength * tl.where(known, x - p, 0.0)
        y -= strength * tl.where(known, y - q, 0.0)
        _store(result, start + places, x, y, inside)


@triton.jit
def root_sum_of_squares_program(coil_images, offsets, images, pixels, block: tl.constexpr):
    """images[b] = sqrt(sum over the coils c of frame b of |coil_images[c]|^2)."""
    frame = tl.program_id(1)
    places = tl.program_id(0) * block + tl.arange(0, block)
    inside = places < pixels
    total = tl.zeros((block,), dtype=tl.float32)
    for coil in range(tl.load(offsets + frame), tl.load(offsets + frame + 1)):
        x, y = _load(coil_images, coil * pixels + places, inside)
        total += x * x + y * y
    tl.store(images + frame.to(tl.int64) * pixels + places, tl.sqrt(total), mask=inside)
