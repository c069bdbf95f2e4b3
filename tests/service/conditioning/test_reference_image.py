"""The finished image of fully sampled data: field of view, matrix, units."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recond_service.conditioning.reference_image import cut, interpolate, reference_image
from recond_service.fourier import image_to_kspace
from recond_service.types import Frame, FrameIndex, Window

RNG = np.random.default_rng(0)


def frame(coil_images: np.ndarray, **changes: object) -> Frame:
    kspace = image_to_kspace(coil_images.astype(np.complex64))
    shape = kspace.shape[1:]
    fields = {"scale": 1.0, "image_shape": shape, "calibration_extent": shape} | changes
    return Frame(index=FrameIndex(), kspace=kspace, mask=np.ones(shape, np.bool_), **fields)


def noise(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape) + 1j * RNG.standard_normal(shape)


@pytest.mark.parametrize("exponent", [-120, -20, 0, 7, 140])
def test_the_scale_is_undone_exactly(exponent: int) -> None:
    coils = noise(3, 16, 12)
    plain, scaled = reference_image(frame(coils)), reference_image(frame(coils, scale=2.0**exponent))
    np.testing.assert_array_equal(scaled, np.ldexp(plain, -exponent))
    assert scaled.dtype == np.float32
    assert scaled.flags.c_contiguous


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))
def test_the_crop_keeps_the_centre_pixel(rows: int, columns: int, wanted_rows: int, wanted_columns: int) -> None:
    image = np.zeros((1, rows, columns), np.complex64)
    image[0, rows // 2, columns // 2] = 1
    part = cut(image, (wanted_rows, wanted_columns), None)
    assert part.shape == (1, min(rows, wanted_rows), min(columns, wanted_columns))
    assert part[0, part.shape[1] // 2, part.shape[2] // 2] == 1


def test_a_window_is_cut_out() -> None:
    coils = noise(2, 5, 6)
    found = reference_image(frame(coils, image_shape=(2, 3), window=Window(1, 2, 2, 3)))
    np.testing.assert_allclose(found, np.sqrt((abs(coils) ** 2).sum(0))[1:3, 2:5], rtol=1e-5)


@pytest.mark.parametrize("shape", [(32, 24), (40, 36), (33, 25), (16, 30)])
def test_interpolation_keeps_band_limited_images(shape: tuple[int, int]) -> None:
    def wave(rows: int, columns: int) -> np.ndarray:
        x, y = np.arange(rows) - rows // 2, np.arange(columns) - columns // 2
        return np.exp(2j * np.pi * x / rows)[:, None] * (1 + np.sin(2 * np.pi * 2 * y / columns))

    found = interpolate(wave(16, 15)[None].astype(np.complex64), shape)
    np.testing.assert_allclose(found[0], wave(*shape), atol=1e-5)


def test_coils_are_combined_after_they_are_interpolated() -> None:
    coils = noise(3, 8, 9)
    found = reference_image(frame(coils, image_shape=(16, 12)))
    finer = interpolate(coils.astype(np.complex64), (16, 12))
    np.testing.assert_allclose(found, np.sqrt((abs(finer) ** 2).sum(0)), rtol=1e-5)
