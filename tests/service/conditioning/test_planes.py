"""Frames of sorted k-space: masks, padding, crops, references, undersampling, scale."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_builders import Encoding, Phantom, file_request, header_xml, pixel_positions, rss_of

from recond_models.masks import mask_for
from recond_service.conditioning import condition
from recond_service.conditioning.reference_image import reference_image
from recond_service.conditioning.sampling import calibration_extent, centred_run, mask_from_zeros
from recond_service.conditioning.scaling import bring_to_range, multiply_by_power, normalise, peak_of
from recond_service.ingest import read_scan
from recond_service.types import FindingList, Frame, InvalidInputError, Undersampling, UndersamplingKind

ENCODING = Encoding((64, 48), (400.0, 200.0), (32, 40), (200.0, 200.0 * 40 / 48))
FULL = ENCODING.kspace(Phantom())


def write(path: Path, kspace: np.ndarray, **datasets: object) -> Path:
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace
        for name, values in datasets.items():
            file[name] = values
    return path


def frames_of(path: Path, **fields: object) -> tuple[list[Frame], FindingList]:
    findings = FindingList()
    request = file_request(path, **fields)
    return list(condition(read_scan(request, findings), request, findings)), findings


def test_a_full_volume_is_scaled_and_left_as_it_is(tmp_path: Path) -> None:
    frames, findings = frames_of(write(tmp_path / "a.h5", np.stack([FULL, 3 * FULL])))
    assert [frame.index.slice for frame in frames] == [0, 1]
    for frame, factor in zip(frames, (1, 3), strict=True):
        np.testing.assert_array_equal(frame.kspace / np.float32(frame.scale), (factor * FULL).astype(np.complex64))
        assert frame.mask.all()
        assert frame.image_shape == (64, 48)
        assert 0.2 <= np.sqrt((rss_of(frame.kspace) ** 2).mean()) <= 0.5
        assert frame.geometry is None
        assert not frame.whitened
    assert {finding.code for finding in findings} == {"mask-derived"}


def test_single_coil_k_space_has_one_coil(tmp_path: Path) -> None:
    frames, _ = frames_of(write(tmp_path / "a.h5", FULL))
    assert [frame.kspace.shape for frame in frames] == [(1, 64, 48)] * 3


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float32, np.int64])
def test_the_mask_of_the_file_counts(tmp_path: Path, dtype: type) -> None:
    lines = np.zeros(48, bool)
    lines[::4] = lines[20:28] = True
    frames, findings = frames_of(write(tmp_path / "a.h5", FULL[None], mask=lines.astype(dtype)))
    np.testing.assert_array_equal(frames[0].mask, np.broadcast_to(lines, (64, 48)))
    assert not frames[0].kspace[..., ~lines].any()
    assert not np.signbit(frames[0].kspace[..., ~lines].real).any()
    assert frames[0].calibration_extent == (64, 9)
    assert "samples-outside-mask" in findings


def test_a_two_dimensional_mask_is_kept(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).random((64, 48)) < 0.3
    mask[20:44, 14:34] = True
    frames, _ = frames_of(write(tmp_path / "a.h5", FULL[None] * mask, mask=mask))
    np.testing.assert_array_equal(frames[0].mask, mask)
    assert frames[0].calibration_extent >= (24, 20)
    frames, _ = frames_of(write(tmp_path / "b.h5", FULL[None] * mask))
    np.testing.assert_array_equal(frames[0].mask, mask & (FULL != 0).any(0))


def test_zeros_tell_the_lines_where_there_is_no_mask(tmp_path: Path) -> None:
    lines = np.arange(48) % 3 == 0
    spotted = np.where(lines, FULL, 0)
    spotted[:, 5, 6] = 0  # a sample that is zero by chance
    frames, _ = frames_of(write(tmp_path / "a.h5", spotted[None]))
    np.testing.assert_array_equal(frames[0].mask, np.broadcast_to(lines, (64, 48)))


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (np.ones(47), "MASK_SHAPE"),
        (np.full(48, 2), "MASK_VALUES"),
        (np.zeros(48), "MASK_EMPTY"),
        (np.full(48, np.nan), "MASK_VALUES"),
    ],
)
def test_masks_that_cannot_be(tmp_path: Path, mask: np.ndarray, reason: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        frames_of(write(tmp_path / "a.h5", FULL[None], mask=mask))
    assert caught.value.reason == reason
    assert caught.value.field == "mask"


def test_the_header_tells_crop_and_padding(tmp_path: Path) -> None:
    encoding = Encoding((64, 48), (400.0, 200.0), (32, 40), (200.0, 200.0), limits=(0, 39, 20))
    header = header_xml(encoding)
    frames, findings = frames_of(write(tmp_path / "a.h5", FULL[None], ismrmrd_header=header, mask=np.ones(48)))
    assert frames[0].image_shape == (32, 40)
    np.testing.assert_array_equal(np.flatnonzero(frames[0].mask[0]), np.arange(4, 44))
    assert not frames[0].kspace[..., :4].any()
    assert "samples-outside-mask" in findings
    image = reference_image(frames[0])
    x, y = pixel_positions(32, 400 / 64), pixel_positions(40, 200 / 48)
    np.testing.assert_allclose(image, Phantom().rss(x, y), atol=1e-3)


def test_too_few_columns_give_a_square(tmp_path: Path) -> None:
    header = header_xml(Encoding((64, 48), (400.0, 200.0), (60, 60)))
    frames, findings = frames_of(write(tmp_path / "a.h5", FULL[None], ismrmrd_header=header))
    assert frames[0].image_shape == (48, 48)
    assert "crop-reduced" in findings


def test_the_crop_starts_where_fastmri_starts_it(tmp_path: Path) -> None:
    header = header_xml(Encoding((64, 48), (400.0, 200.0), (31, 41)))
    frames, _ = frames_of(write(tmp_path / "a.h5", FULL[None], ismrmrd_header=header))
    window = frames[0].window
    assert window is not None
    assert (window.first_row, window.first_column) == ((64 - 31) // 2, (48 - 41) // 2)


def test_the_reference_of_the_file_comes_along(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).random((2, 32, 40)).astype(np.float32)
    path = write(tmp_path / "a.h5", np.stack([FULL, FULL]), reconstruction_rss=volume, reconstruction_esc=volume * 0)
    frames, _ = frames_of(path)
    for frame, image in zip(frames, volume, strict=True):
        np.testing.assert_array_equal(frame.reference, image)
        assert frame.reference_source == "file"
        assert frame.image_shape == (32, 40)


@pytest.mark.parametrize("shape", [(1, 32, 40), (2, 80, 40), (2, 32), (0, 32, 40)])
def test_references_that_do_not_fit(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = write(tmp_path / "a.h5", np.stack([FULL, FULL]), reconstruction_rss=np.zeros(shape, np.float32))
    with pytest.raises(InvalidInputError) as caught:
        frames_of(path)
    assert caught.value.reason == "REFERENCE_SHAPE"
    assert caught.value.field == "reconstruction_rss"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_named(tmp_path: Path, bad: float) -> None:
    volume = np.stack([FULL, FULL])
    volume[1, 2, 3, 4] = bad
    with pytest.raises(InvalidInputError) as caught:
        frames_of(write(tmp_path / "a.h5", volume))
    assert caught.value.field == "kspace[1]"
    assert "coil 2, row 3, column 4" in caught.value.message


def test_a_slice_of_zeros_is_allowed_and_said(tmp_path: Path) -> None:
    frames, findings = frames_of(write(tmp_path / "a.h5", np.stack([FULL, 0 * FULL, FULL])))
    assert [frame.scale for frame in frames][1] == 1.0
    assert not frames[1].kspace.any()
    assert frames[1].mask.all()
    assert "slice-empty" in findings


@pytest.mark.parametrize(
    ("kind", "name"), [(UndersamplingKind.RANDOM, "random"), (UndersamplingKind.EQUISPACED, "equispaced")]
)
def test_undersampling_uses_the_files_own_mask_and_makes_a_reference(
    tmp_path: Path, kind: UndersamplingKind, name: str
) -> None:
    header = header_xml(Encoding((64, 48), (400.0, 200.0), (32, 40)))
    path = write(tmp_path / "file1.h5", np.stack([FULL, 2 * FULL]), ismrmrd_header=header)
    frames, _ = frames_of(path, undersampling=Undersampling(kind, 4, 0.08))
    lines = mask_for(name, 48, 4, 0.08, "file1.h5")  # type: ignore[arg-type]
    for frame, factor in zip(frames, (1, 2), strict=True):
        np.testing.assert_array_equal(frame.mask, np.broadcast_to(lines, (64, 48)))
        np.testing.assert_array_equal(frame.kspace / np.float32(frame.scale), np.where(lines, factor * FULL, 0))
        wanted = factor * rss_of(FULL)[16:48, 4:44]
        np.testing.assert_allclose(frame.reference, wanted, atol=1e-5)
        assert frame.reference_source == "undersampling"


def test_undersampling_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", np.where(np.arange(48) % 2, FULL, 0)[None])
    with pytest.raises(InvalidInputError) as caught:
        frames_of(path, undersampling=Undersampling(UndersamplingKind.RANDOM, 4, 0.08))
    assert caught.value.reason == "NOT_FULLY_SAMPLED"
    assert caught.value.field == "spec.undersampling"


def test_an_undersampling_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="centre fraction"):
        frames_of(write(tmp_path / "a.h5", FULL[None]), undersampling=Undersampling(UndersamplingKind.RANDOM, 4, 0.9))


def test_padding_does_not_hinder_undersampling_and_stays_empty(tmp_path: Path) -> None:
    encoding = Encoding((64, 48), (400.0, 200.0), (32, 40), limits=(0, 39, 20))
    path = write(tmp_path / "a.h5", FULL[None], ismrmrd_header=header_xml(encoding))
    frames, _ = frames_of(path, undersampling=Undersampling(UndersamplingKind.EQUISPACED, 4, 0.08))
    assert not frames[0].mask[:, :4].any()
    assert not frames[0].mask[:, 44:].any()


@settings(max_examples=25, deadline=None)
@given(st.integers(-110, 110))
def test_powers_of_two_change_nothing_but_the_scale(exponent: int) -> None:
    rng = np.random.default_rng(0)
    one = (rng.standard_normal((2, 8, 9)) + 1j * rng.standard_normal((2, 8, 9))).astype(np.complex64)
    other = one.copy()
    multiply_by_power(other, exponent)
    scale = bring_to_range(one, peak_of(one)) + normalise(one)
    shifted = bring_to_range(other, peak_of(other)) + normalise(other)
    np.testing.assert_array_equal(one, other)
    assert scale == shifted + exponent


@pytest.mark.parametrize("factor", [1e-40, 1e-30, 1e-6, 1.0, 1e12, 1e36])
def test_any_scale_gives_values_near_one_and_comes_back(tmp_path: Path, factor: float) -> None:
    frames, _ = frames_of(write(tmp_path / "a.h5", (FULL.astype(complex) * factor).astype(np.complex64)[None]))
    image = rss_of(frames[0].kspace).astype(np.float32)
    assert 0.2 <= np.sqrt((image**2).mean()) <= 0.5
    finished = reference_image(frames[0])
    np.testing.assert_allclose(finished / factor, rss_of(FULL), atol=1e-3 if factor < 1e-38 else 1e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1), st.floats(0.5, 1.0))
def test_the_calibration_block_is_full_and_centred(rows: int, columns: int, seed: int, density: float) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) < density
    height, width = calibration_extent(mask)
    top, left = rows // 2 - height // 2, columns // 2 - width // 2
    assert mask[top : top + height, left : left + width].all()
    best = 0
    for h in range(1, rows + 1):
        for w in range(1, columns + 1):
            t, s = rows // 2 - h // 2, columns // 2 - w // 2
            if mask[t : t + h, s : s + w].all():
                best = max(best, min(h, w))
    assert min(height, width) == best


@pytest.mark.parametrize(
    ("line", "length"), [("0000", 0), ("1111", 4), ("11111", 5), ("0010", 1), ("0110", 2), ("01110", 3), ("00110", 1)]
)
def test_centred_runs(line: str, length: int) -> None:
    assert centred_run(np.array([c == "1" for c in line])) == length


def test_a_plane_of_zeros_counts_as_measured() -> None:
    assert mask_from_zeros(np.zeros((2, 4, 5), np.complex64)).all()
