"""Where samples and lines land, on phantoms whose image is known in closed form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from raw_builders import (
    LAST_IN_SLICE,
    REVERSE,
    Encoding,
    Phantom,
    cartesian,
    codes,
    file_request,
    header_xml,
    pixel_positions,
    write_mrd,
)

from recond_service.conditioning import condition
from recond_service.conditioning.readout import place_readout
from recond_service.conditioning.reference_image import reference_image
from recond_service.ingest import read_scan
from recond_service.types import FindingList, Frame, InvalidInputError

PHANTOM = Phantom()


def frames_of(tmp_path: Path, encoding: Encoding, readouts: list, **header: str) -> tuple[list[Frame], FindingList]:
    path = write_mrd(tmp_path / "scan.h5", header_xml(encoding, **header), readouts)
    findings = FindingList()
    request = file_request(path)
    return list(condition(read_scan(request, findings), request, findings)), findings


def finished(frame: Frame) -> np.ndarray:
    return reference_image(frame)


def expected(encoding: Encoding) -> np.ndarray:
    sizes = [view / pixels for view, pixels in zip(encoding.recon_view, encoding.recon_matrix, strict=True)]
    x, y = (pixel_positions(pixels, size) for pixels, size in zip(encoding.recon_matrix, sizes, strict=True))
    return PHANTOM.rss(x, y)


@pytest.mark.parametrize("matrix", [(64, 48), (66, 47), (62, 49), (64, 51)])
@pytest.mark.parametrize("oversampling", [1, 2])
def test_a_full_scan_gives_the_phantom(tmp_path: Path, matrix: tuple[int, int], oversampling: int) -> None:
    rows = matrix[0] // oversampling
    encoding = Encoding(matrix, (200.0 * matrix[0] / rows, 200.0), (rows, matrix[1]))
    frames, findings = frames_of(tmp_path, encoding, cartesian(encoding.kspace(PHANTOM), encoding))
    (frame,) = frames
    assert frame.kspace.shape == (3, rows, matrix[1])
    assert frame.kspace.dtype == np.complex64
    assert frame.mask.all()
    assert frame.calibration_extent == (rows, matrix[1])
    assert frame.kspace.flags.c_contiguous
    np.testing.assert_allclose(finished(frame), expected(encoding), atol=2e-5)
    assert codes(findings) == {"noise-scan-missing"}
    assert not frame.whitened


def test_oversampling_to_an_odd_matrix_keeps_the_centre(tmp_path: Path) -> None:
    encoding = Encoding((90, 48), (400.0, 200.0), (45, 48), (200.0, 200.0))
    frames, _ = frames_of(tmp_path, encoding, cartesian(encoding.kspace(PHANTOM), encoding))
    assert frames[0].kspace.shape[1] == 45
    np.testing.assert_allclose(finished(frames[0]), expected(encoding), atol=2e-5)


def test_phase_oversampling_is_cropped_from_the_image(tmp_path: Path) -> None:
    encoding = Encoding((64, 72), (400.0, 300.0), (32, 48), (200.0, 200.0))
    frames, _ = frames_of(tmp_path, encoding, cartesian(encoding.kspace(PHANTOM), encoding))
    assert frames[0].kspace.shape == (3, 32, 72)
    assert frames[0].image_shape == (32, 48)
    np.testing.assert_allclose(finished(frames[0]), expected(encoding), atol=2e-5)


def test_a_finer_matrix_is_interpolated(tmp_path: Path) -> None:
    encoding = Encoding((64, 72), (400.0, 300.0), (64, 96), (200.0, 200.0))
    frames, findings = frames_of(tmp_path, encoding, cartesian(encoding.kspace(PHANTOM), encoding))
    assert "image-interpolated" in findings
    image = finished(frames[0])
    assert image.shape == (64, 96)
    assert image.min() >= 0
    # A magnitude is not band-limited, so that interpolation only comes near.
    assert np.abs(image - expected(encoding)).max() < 0.03


def test_the_specifications_example_of_line_placement(tmp_path: Path) -> None:
    encoding = Encoding((16, 140), (200.0, 200.0), (16, 140), (200.0, 200.0), limits=(0, 83, 28))
    readouts = cartesian(encoding.kspace(PHANTOM), encoding)
    frames, findings = frames_of(tmp_path, encoding, readouts)
    lines = np.flatnonzero(frames[0].mask[0])
    assert (lines[0], lines[-1], len(lines)) == (42, 125, 84)
    assert "partial-fourier" in findings
    full = encoding.kspace(PHANTOM)
    np.testing.assert_allclose(frames[0].kspace[:, :, 42:126] / frames[0].scale, full[:, :, 42:126], atol=1e-6)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("center", [10, 23])
def test_asymmetric_echoes_are_placed_by_their_centre(tmp_path: Path, center: int, *, reverse: bool) -> None:
    encoding = Encoding((32, 48), (200.0, 200.0), (32, 48), (200.0, 200.0))
    full = encoding.kspace(PHANTOM)
    first = 16 - center if center < 16 else 0
    stop = 32 if center < 16 else 32 + 16 - center
    part = full[:, first:stop]
    middle = 16 - first
    if reverse:
        part, middle = part[:, ::-1], part.shape[1] - 1 - middle
    readouts = cartesian(part, encoding, center=middle, flags=REVERSE if reverse else 0)
    frames, findings = frames_of(tmp_path, encoding, readouts)
    rows = np.flatnonzero(frames[0].mask[:, 0])
    assert (rows[0], rows[-1] + 1) == (first, stop)
    np.testing.assert_array_equal(frames[0].kspace[:, first:stop] / np.float32(frames[0].scale), full[:, first:stop])
    assert "readout-partial" in findings
    assert frames[0].calibration_extent[0] == 2 * min(16 - first, stop - 16) + (16 - first < stop - 16)


def test_an_asymmetric_echo_with_oversampling_keeps_its_part_of_k_space(tmp_path: Path) -> None:
    encoding = Encoding()
    full = encoding.kspace(PHANTOM)
    frames, _ = frames_of(tmp_path, encoding, cartesian(full[:, 24:], encoding, center=8))
    rows = np.flatnonzero(frames[0].mask[:, 0])
    assert (rows[0], rows[-1]) == (12, 31)
    assert not frames[0].kspace[:, :12].any()


def test_discarded_samples_are_not_used(tmp_path: Path) -> None:
    encoding = Encoding((32, 48), (200.0, 200.0), (32, 48), (200.0, 200.0))
    full = encoding.kspace(PHANTOM)
    spoilt = np.full((3, 40, 48), 1e3, np.complex64)
    spoilt[:, 5:37] = full
    readouts = cartesian(spoilt, encoding, discard=(5, 3), center=21)
    frames, findings = frames_of(tmp_path, encoding, readouts)
    np.testing.assert_array_equal(frames[0].kspace / np.float32(frames[0].scale), full)
    assert "samples-outside-matrix" not in findings


def test_reversed_readouts_discard_by_time(tmp_path: Path) -> None:
    encoding = Encoding((32, 48), (200.0, 200.0), (32, 48), (200.0, 200.0))
    full = encoding.kspace(PHANTOM)
    spoilt = np.full((3, 40, 48), 1e3, np.complex64)
    spoilt[:, 5:37] = full
    readouts = cartesian(spoilt[:, ::-1], encoding, discard=(3, 5), center=39 - 21, flags=REVERSE)
    frames, _ = frames_of(tmp_path, encoding, readouts)
    np.testing.assert_array_equal(frames[0].kspace / np.float32(frames[0].scale), full)


@pytest.mark.parametrize("center", [0, 64, 70])
def test_an_impossible_centre_is_replaced_by_the_middle(tmp_path: Path, center: int) -> None:
    encoding = Encoding()
    frames, findings = frames_of(tmp_path, encoding, cartesian(encoding.kspace(PHANTOM), encoding, center=center))
    assert "center-sample-assumed" in findings
    np.testing.assert_allclose(finished(frames[0]), expected(encoding), atol=2e-5)


def test_lines_within_the_limits_but_outside_the_matrix_are_dropped_and_counted(tmp_path: Path) -> None:
    encoding = Encoding(limits=(0, 60, 24))
    readouts = cartesian(encoding.kspace(PHANTOM), encoding)
    outside = [replace(readouts[0], step=step, flags=0) for step in (50, 60)]
    frames, findings = frames_of(tmp_path, encoding, outside + readouts)
    np.testing.assert_allclose(finished(frames[0]), expected(encoding), atol=2e-5)
    assert {finding.code: finding.count for finding in findings}["lines-outside-matrix"] == 2


def test_a_line_outside_limits_and_matrix_is_left_out_and_named(tmp_path: Path) -> None:
    encoding = Encoding()
    readouts = cartesian(encoding.kspace(PHANTOM), encoding)
    readouts[17] = replace(readouts[17], step=48)
    frames, findings = frames_of(tmp_path, encoding, readouts)
    assert np.flatnonzero(~frames[0].mask[0]).tolist() == [17]
    (lost,) = [finding for finding in findings if finding.code == "lines-outside-matrix"]
    assert lost.count == 1
    assert "dataset/data[17]" in lost.message


def test_a_readout_of_nothing_but_discarded_samples_is_an_error(tmp_path: Path) -> None:
    encoding = Encoding()
    readouts = cartesian(encoding.kspace(PHANTOM), encoding, discard=(40, 40))
    with pytest.raises(InvalidInputError, match="nothing of it") as caught:
        frames_of(tmp_path, encoding, readouts)
    assert caught.value.field == "dataset/data[0]"


def test_siemens_data_with_geometry_are_conjugated(tmp_path: Path) -> None:
    encoding = Encoding()
    readouts = cartesian(encoding.kspace(PHANTOM).conj(), encoding)
    frames, findings = frames_of(tmp_path, encoding, readouts, system="<systemVendor>SIEMENS</systemVendor>")
    assert "conjugated" in findings
    np.testing.assert_allclose(finished(frames[0]), expected(encoding), atol=2e-5)


def test_siemens_data_without_geometry_are_left_alone(tmp_path: Path) -> None:
    encoding = Encoding()
    readouts = cartesian(encoding.kspace(PHANTOM), encoding, directions=((0, 0, 0),) * 3)
    frames, findings = frames_of(tmp_path, encoding, readouts, system="<systemVendor>SIEMENS</systemVendor>")
    assert "conjugated" not in findings
    assert "geometry-missing" in findings
    assert frames[0].geometry is None
    np.testing.assert_allclose(finished(frames[0]), expected(encoding), atol=2e-5)


def test_geometry_comes_from_the_first_readout_of_the_slice(tmp_path: Path) -> None:
    encoding = Encoding((64, 72), (400.0, 300.0), (64, 96), (200.0, 200.0))
    directions = ((0, 1, 0), (0, 0, 1), (1, 0, 0))
    readouts = cartesian(encoding.kspace(PHANTOM), encoding, position=(1.0, 2.0, 3.0), directions=directions)
    frames, _ = frames_of(tmp_path, encoding, readouts)
    geometry = frames[0].geometry
    assert geometry is not None
    assert geometry.position == (1.0, 2.0, 3.0)
    assert (geometry.row_direction, geometry.column_direction) == (directions[0], directions[1])
    assert geometry.slice_direction == directions[2]
    assert geometry.spacing == pytest.approx((200 / 64, 200 / 96, 5.0))


def test_trajectories_of_a_cartesian_scan_are_ignored_and_said(tmp_path: Path) -> None:
    encoding = Encoding()
    readouts = cartesian(encoding.kspace(PHANTOM), encoding, trajectory_dimensions=2)
    frames, findings = frames_of(tmp_path, encoding, readouts)
    assert "trajectory-ignored" in findings
    np.testing.assert_allclose(finished(frames[0]), expected(encoding), atol=2e-5)


def test_placement_never_leaves_the_grid() -> None:
    for samples in (1, 7, 8, 20):
        for center in range(samples + 3):
            for discard in ((0, 0), (2, 1)):
                for reverse in (False, True):
                    placed = place_readout(samples, discard, center, 12, reverse=reverse)
                    if placed.source_stop > placed.source_start:
                        assert 0 <= placed.target_start < placed.target_stop <= 12
                        assert 0 <= placed.source_start < placed.source_stop <= samples


def test_flags_alone_are_not_needed(tmp_path: Path) -> None:
    encoding = Encoding()
    readouts = [replace(r, flags=r.flags & ~LAST_IN_SLICE) for r in cartesian(encoding.kspace(PHANTOM), encoding)]
    frames, findings = frames_of(tmp_path, encoding, readouts)
    assert len(frames) == 1
    assert "slices-not-closed" not in findings
