"""3-D Cartesian scans on a phantom whose volume is known in closed form."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from raw_builders import (
    BOTH,
    CALIBRATION,
    LAST_IN_MEASUREMENT,
    LAST_IN_REPETITION,
    LAST_IN_SLICE,
    REVERSE,
    Encoding,
    Phantom,
    Readout,
    acquisition_block,
    centred_ifft,
    codes,
    header_xml,
    noise_readouts,
    pixel_positions,
)

from recond_service.conditioning import AcquisitionConditioner
from recond_service.conditioning.reference_image import reference_image
from recond_service.ingest import read_header
from recond_service.types import (
    ConditioningOptions,
    Crossing,
    FindingList,
    Frame,
    LimitExceededError,
    Limits,
    ScanRequest,
)

PHANTOM = Phantom()
# Along the partitions: a Gaussian of its own, so that no axis can be taken for another.
CENTRE_Z, SIGMA_Z = 7.0, 9.0
X, Y, Z = (48, 200.0), (20, 190.0), (14, 98.0)  # pixels, mm; the readout is oversampled twice in encoded space
ENCODING = Encoding((96, 20), (400.0, 190.0), (48, 20), (200.0, 190.0))


def volume_xml(
    encoded: Sequence[tuple[int, float]] = ((96, 400.0), Y, Z),
    recon: Sequence[tuple[int, float]] = (X, Y, Z),
    limits: Sequence[tuple[int, int, int]] = ((0, 19, 10), (0, 13, 7)),
    extra: str = "",
    **header: str,
) -> str:
    def space(axes: Sequence[tuple[int, float]]) -> str:
        sizes, views = ("".join(f"<{n}>{axis[k]}</{n}>" for n, axis in zip("xyz", axes, strict=True)) for k in (0, 1))
        return f"<matrixSize>{sizes}</matrixSize><fieldOfView_mm>{views}</fieldOfView_mm>"

    bounds = "".join(
        f"<kspace_encoding_step_{n}><minimum>{low}</minimum><maximum>{high}</maximum><center>{center}</center>"
        f"</kspace_encoding_step_{n}>"
        for n, (low, high, center) in enumerate(limits, start=1)
    )
    encoding = (
        f"<encoding><encodedSpace>{space(encoded)}</encodedSpace><reconSpace>{space(recon)}</reconSpace>"
        f"<encodingLimits>{bounds}</encodingLimits><trajectory>cartesian</trajectory>{extra}</encoding>"
    )
    before, empty = header_xml(**header).rsplit("</ismrmrdHeader>", 1)
    return f"{before}{encoding}</ismrmrdHeader>{empty}"


def profile(z: np.ndarray) -> np.ndarray:
    return np.exp(-((z - CENTRE_Z) ** 2) / (2 * SIGMA_Z**2))


def kspace_of(x: tuple[int, float], y: tuple[int, float], z: tuple[int, float]) -> np.ndarray:
    """Orthonormal k-space (coils, x, y, z) of the encoded grid."""
    plane = Encoding((x[0], y[0]), (x[1], y[1])).kspace(PHANTOM)
    kz = (np.arange(z[0]) - z[0] // 2) / z[1]
    transform = np.sqrt(2 * np.pi) * SIGMA_Z * np.exp(-2 * (np.pi * SIGMA_Z * kz) ** 2 - 2j * np.pi * kz * CENTRE_Z)
    along = transform * np.sqrt(z[0]) / z[1]
    return (plane[..., None] * along).astype(np.complex64)


def expected(x: tuple[int, float], y: tuple[int, float], z: tuple[int, float]) -> np.ndarray:
    """The volume (x, y, z) at the pixel centres."""
    px, py, pz = (pixel_positions(pixels, view / pixels) for pixels, view in (x, y, z))
    return PHANTOM.rss(px, py)[..., None] * profile(pz)


def readouts_of(kspace: np.ndarray, lines: Sequence[tuple[int, int]] | None = None, **changes: object) -> list[Readout]:
    """Readouts of (coils, x, y, z); steps are the indices of the lines."""
    lines = [(y, z) for z in range(kspace.shape[3]) for y in range(kspace.shape[2])] if lines is None else lines
    counters = changes.pop("counters", {})
    return [
        Readout(kspace[:, :, y, z], y, counters={"kspace_encode_step_2": z, **counters}, **changes) for y, z in lines
    ]


def run(
    readouts: list[Readout], xml: str | None = None, request: ScanRequest | None = None
) -> tuple[list[Frame], FindingList]:
    findings = FindingList()
    header = read_header((xml or volume_xml()).encode(), Limits(), findings)
    conditioner = AcquisitionConditioner(header, request or ScanRequest(), findings)
    return [*conditioner.push(acquisition_block(readouts)), *conditioner.finish()], findings


def finished(frames: list[Frame]) -> np.ndarray:
    return np.stack([reference_image(frame) for frame in frames])


ENCODED = ((96, 400.0), Y, Z)
FULL = kspace_of(*ENCODED)


def test_a_full_scan_gives_the_phantom() -> None:
    frames, findings = run(readouts_of(FULL))
    assert [frame.crossing for frame in frames] == [Crossing(number, 48) for number in range(48)]
    assert {frame.kspace.shape for frame in frames} == {(3, 20, 14)}
    assert all(frame.mask.all() and frame.kspace.flags.c_contiguous for frame in frames)
    np.testing.assert_allclose(finished(frames), expected(X, Y, Z), atol=2e-3)
    assert codes(findings) == {"noise-scan-missing"}


@pytest.mark.parametrize("x", [(47, 200.0), (50, 200.0)])
@pytest.mark.parametrize("z", [(13, 98.0), (14, 98.0)])
def test_odd_sizes(x: tuple[int, float], z: tuple[int, float]) -> None:
    encoded = ((2 * x[0], 2 * x[1]), (21, 190.0), z)
    limits = ((0, 20, 10), (0, z[0] - 1, z[0] // 2))
    frames, _ = run(readouts_of(kspace_of(*encoded)), volume_xml(encoded, (x, (21, 190.0), z), limits))
    np.testing.assert_allclose(finished(frames), expected(x, (21, 190.0), z), atol=2e-3)


def test_oversampled_partitions_and_phase_encodes_are_cropped() -> None:
    encoded = ((96, 400.0), (30, 285.0), (20, 140.0))
    limits = ((0, 29, 15), (0, 19, 10))
    frames, _ = run(readouts_of(kspace_of(*encoded)), volume_xml(encoded, limits=limits))
    assert frames[0].kspace.shape == (3, 30, 20)
    assert frames[0].image_shape == (20, 14)
    np.testing.assert_allclose(finished(frames), expected(X, Y, Z), atol=2e-3)


def test_a_finer_readout_is_interpolated() -> None:
    frames, findings = run(readouts_of(FULL), volume_xml(recon=((64, 200.0), Y, Z)))
    assert len(frames) == 64
    assert "image-interpolated" in findings
    np.testing.assert_allclose(finished(frames), expected((64, 200.0), Y, Z), atol=2e-3)


def test_part_of_the_readout_can_be_wanted() -> None:
    frames, _ = run(readouts_of(FULL), volume_xml(recon=((24, 100.0), Y, Z)))
    np.testing.assert_allclose(finished(frames), expected(X, Y, Z)[12:36], atol=2e-3)


def test_lines_are_placed_by_both_centres() -> None:
    # Partial Fourier along both phase encodes: the first five columns and four partitions were not measured.
    lines = [(y, z) for z in range(4, 14) for y in range(5, 20)]
    readouts = [
        replace(r, step=r.step - 5, counters={"kspace_encode_step_2": r.counters["kspace_encode_step_2"] - 4})
        for r in readouts_of(FULL, lines)
    ]
    frames, findings = run(readouts, volume_xml(limits=((0, 14, 5), (0, 9, 3))))
    assert not frames[0].mask[:5].any()
    assert not frames[0].mask[:, :4].any()
    assert frames[0].mask[5:, 4:].all()
    assert {f.code: f.count for f in findings}["partial-fourier"] == 2
    middle = centred_ifft(FULL, (1,))[:, 24 + 24]
    np.testing.assert_allclose(frames[24].kspace[:, 5:, 4:] / frames[24].scale, middle[:, 5:, 4:], atol=1e-5)


def test_two_dimensional_undersampling_gives_a_two_dimensional_mask() -> None:
    lines = [
        (y, z) for z in range(14) for y in range(20) if (y % 2 == 0 and z % 2 == 0) or (6 <= y < 14 and 4 <= z < 10)
    ]
    frames, _ = run(readouts_of(FULL, lines))
    wanted = np.zeros((20, 14), np.bool_)
    wanted[tuple(np.array(lines).T)] = True
    hybrid = centred_ifft(FULL, (1,))[:, 24:72]
    for frame, position in zip(frames, range(48), strict=True):
        np.testing.assert_array_equal(frame.mask, wanted)
        assert frame.calibration_extent == (8, 6)
        np.testing.assert_allclose(frame.kspace / frame.scale, np.where(wanted, hybrid[:, position], 0), atol=1e-5)


def test_frames_come_when_all_lines_have_come_whatever_the_order() -> None:
    findings = FindingList()
    conditioner = AcquisitionConditioner(
        read_header(volume_xml().encode(), Limits(), findings), ScanRequest(), findings
    )
    readouts = readouts_of(FULL)
    order = np.random.default_rng(0).permutation(len(readouts))
    # LAST_IN_SLICE marks the end of a partition in some files: it does not close a 3-D scan.
    shuffled = [replace(readouts[number], flags=LAST_IN_SLICE) for number in order]
    assert list(conditioner.push(acquisition_block(shuffled[:-1]))) == []
    frames = list(conditioner.push(acquisition_block(shuffled[-1:])))
    assert len(frames) == 48
    wanted, _ = run(readouts)
    for one, other in zip(frames, wanted, strict=True):
        np.testing.assert_array_equal(one.kspace, other.kspace)


@pytest.mark.parametrize("flag", [LAST_IN_REPETITION, LAST_IN_MEASUREMENT])
def test_undersampled_scans_end_with_their_flag(flag: int) -> None:
    findings = FindingList()
    conditioner = AcquisitionConditioner(
        read_header(volume_xml().encode(), Limits(), findings), ScanRequest(), findings
    )
    frames = []
    for repetition in range(2):
        readouts = readouts_of(
            FULL, [(y, z) for z in (6, 7) for y in range(0, 20, 2)], counters={"repetition": repetition}
        )
        readouts[-1] = replace(readouts[-1], flags=flag)
        frames += list(conditioner.push(acquisition_block(readouts)))
    assert [(frame.index.repetition, frame.crossing.number) for frame in frames] == [
        (repetition, position) for repetition in range(2) for position in range(48)
    ]
    assert list(conditioner.finish()) == []


def test_slabs_follow_one_another() -> None:
    frames, _ = run(readouts_of(FULL) + readouts_of(2 * FULL, counters={"slice": 1}))
    assert [(frame.index.slice, frame.crossing.number) for frame in frames] == [
        (s, n) for s in (0, 1) for n in range(48)
    ]
    images = finished(frames)
    np.testing.assert_allclose(images[48:], 2 * images[:48], rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 7, 60, 1000])
def test_a_stream_in_batches_of_any_size_gives_the_same_bits(batch: int) -> None:
    readouts = (
        noise_readouts(3) + readouts_of(FULL, counters={"average": 0}) + readouts_of(FULL, counters={"average": 1})
    )
    readouts = [replace(r, flags=r.flags | (REVERSE if number % 5 == 0 else 0)) for number, r in enumerate(readouts)]
    wanted, _ = run(readouts)
    findings = FindingList()
    conditioner = AcquisitionConditioner(
        read_header(volume_xml().encode(), Limits(), findings), ScanRequest(), findings
    )
    frames = []
    for start in range(0, len(readouts), batch):
        frames += list(conditioner.push(acquisition_block(readouts[start : start + batch])))
    frames += list(conditioner.finish())
    assert len(frames) == len(wanted) == 48
    for one, other in zip(frames, wanted, strict=True):
        np.testing.assert_array_equal(one.kspace, other.kspace)
        assert one.scale == other.scale


def test_whitening_conjugation_and_averages_are_those_of_two_dimensions() -> None:
    mixing = np.array([[1.0, 0, 0], [0.5 - 0.2j, 0.8, 0], [0.1j, -0.3, 2.0]])
    noise = noise_readouts(3, 40, mixing=mixing)
    twice = readouts_of(FULL * 0.5) + readouts_of(FULL * 1.5, counters={"average": 1})
    limits = ((0, 19, 10), (0, 13, 7))
    average = "<average><minimum>0</minimum><maximum>1</maximum><center>0</center></average>"
    xml = volume_xml(limits=limits, system="<systemVendor>SIEMENS</systemVendor>").replace(
        "</encodingLimits>", f"{average}</encodingLimits>"
    )
    frames, findings = run(noise + [replace(r, data=r.data.conj()) for r in twice], xml)
    samples = np.concatenate([r.data for r in noise], axis=1).astype(np.complex128)
    lower = np.linalg.cholesky(samples @ samples.conj().T / (samples.shape[1] - 1))
    matrix = np.sqrt(2 * 0.793) * np.linalg.inv(lower).conj()
    hybrid = centred_ifft(FULL, (1,))[:, 24:72]
    wanted = np.einsum("ab,bxyz->axyz", matrix, hybrid)
    found = np.stack([frame.kspace / frame.scale for frame in frames], axis=1)
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    assert {"averages-combined", "conjugated", "coils-whitened"} <= codes(findings)


@pytest.mark.parametrize("mode", ["embedded", "separate"])
def test_calibration_readouts(mode: str) -> None:
    extra = (
        "<parallelImaging><accelerationFactor><kspace_encoding_step_1>2</kspace_encoding_step_1></accelerationFactor>"
        f"<calibrationMode>{mode}</calibrationMode></parallelImaging>"
    )
    block = [(y, z) for y in range(6, 14) for z in range(4, 10)]
    calibration = readouts_of(3 * FULL, block, flags=CALIBRATION)
    if mode == "separate":
        calibration = [replace(r, step=r.step + 40) for r in calibration]
    lines = [(y, z) for z in range(14) for y in range(0, 20, 2)]
    frames, findings = run(calibration + readouts_of(FULL, lines), volume_xml(extra=extra))
    hybrid = centred_ifft(FULL, (1,))[:, 24:72]
    for frame, position in zip(frames, range(48), strict=True):
        if mode == "separate":
            assert frame.calibration is not None
            wanted = 3 * hybrid[:, position, 6:14, 4:10]
            np.testing.assert_allclose(frame.calibration / frame.scale, wanted, atol=1e-5)
        else:
            assert frame.calibration is None
            np.testing.assert_allclose(frame.kspace[:, 7, 5] / frame.scale, 3 * hybrid[:, position, 7, 5], atol=1e-5)
            np.testing.assert_allclose(frame.kspace[:, 8, 5] / frame.scale, hybrid[:, position, 8, 5], atol=1e-5)
    assert ("calibration-lines-used" in findings) == (mode == "embedded")


def test_lines_of_both_kinds_are_imaging_lines() -> None:
    frames, _ = run(readouts_of(FULL, flags=BOTH))
    assert frames[0].mask.all()


def test_reversed_and_asymmetric_readouts_are_placed_by_their_centre() -> None:
    plain, _ = run(readouts_of(FULL[:, 20:], center=28))
    turned, findings = run(readouts_of(FULL[:, :19:-1], center=75 - 28, flags=REVERSE))
    for one, other in zip(plain, turned, strict=True):
        np.testing.assert_array_equal(one.kspace, other.kspace)
    cut = FULL.copy()
    cut[:, :20] = 0
    wanted = centred_ifft(cut, (1,))[:, 24:72]
    np.testing.assert_allclose(plain[10].kspace / plain[10].scale, wanted[:, 10], atol=1e-5)
    assert "readout-partial" in findings


def test_geometry_follows_the_axes() -> None:
    rotation, _ = np.linalg.qr(np.random.default_rng(4).standard_normal((3, 3)))
    read, phase, partition = rotation.T
    readouts = readouts_of(FULL, position=(5.0, -8.0, 30.0), directions=(read, phase, partition))
    frames, _ = run(readouts)
    for frame in frames:
        geometry = frame.geometry
        assert geometry is not None
        np.testing.assert_allclose(geometry.position, [5.0, -8.0, 30.0], atol=1e-5)
        np.testing.assert_allclose(geometry.row_direction, read, atol=1e-6)
        np.testing.assert_allclose(geometry.column_direction, phase, atol=1e-6)
        np.testing.assert_allclose(geometry.slice_direction, partition, atol=1e-6)
        assert geometry.spacing == pytest.approx((200 / 48, 9.5, 7.0))


def test_a_matrix_of_partitions_that_are_not_encoded_is_two_dimensional() -> None:
    readouts = [Readout(FULL[:, :, y, 7], y) for y in range(20)]
    frames, findings = run(readouts, volume_xml(limits=((0, 19, 10), (0, 0, 0))))
    assert [frame.kspace.shape for frame in frames] == [(3, 48, 20)]
    assert "partitions-not-encoded" in findings


def test_partitions_outside_the_limits_are_said() -> None:
    lines = [(y, z) for z in (0, 1, 13) for y in range(20)]
    frames, findings = run(readouts_of(FULL, lines), volume_xml(limits=((0, 19, 10), (0, 12, 7))))
    assert frames[0].mask[:, [0, 1, 13]].all()
    assert "limits-contradicted" in findings


def test_only_measured_lines_take_memory() -> None:
    # 64 lines are held together; the whole grid would have 280.
    slab = 64 * 3 * 96 * 8
    request = ScanRequest(limits=Limits(max_scan_bytes=slab))
    frames, _ = run(readouts_of(FULL, [(y, z) for z in (6, 7) for y in range(20)]), request=request)
    assert len(frames) == 48
    with pytest.raises(LimitExceededError) as caught:
        run(readouts_of(FULL), request=request)
    assert caught.value.reason == "SCAN_TOO_LARGE"


def test_images_and_frames_are_bounded() -> None:
    with pytest.raises(LimitExceededError) as caught:
        run(readouts_of(FULL), request=ScanRequest(limits=Limits(max_images=47)))
    assert caught.value.reason == "TOO_MANY_IMAGES"
    with pytest.raises(LimitExceededError) as caught:
        run(readouts_of(FULL), request=ScanRequest(limits=Limits(max_frame_bytes=8 * 3 * 20 * 14 - 1)))
    assert caught.value.reason == "FRAME_TOO_LARGE"


def test_geometric_compression_keeps_the_image_and_varies_smoothly() -> None:
    rng = np.random.default_rng(1)
    mixing = rng.standard_normal((9, 3)) + 1j * rng.standard_normal((9, 3))
    many = np.tensordot(mixing, FULL, axes=1).astype(np.complex64)
    request = ScanRequest(conditioning=ConditioningOptions(virtual_coils=3))
    frames, findings = run(readouts_of(many), request=request)
    plain, _ = run(readouts_of(many))
    assert {frame.kspace.shape[0] for frame in frames} == {3}
    np.testing.assert_allclose(finished(frames), finished(plain), atol=1e-4 * finished(plain).max())
    assert "coils-compressed" in findings
    # Neighbouring positions through the object have nearly the same virtual coils.
    values = [frame.kspace / frame.scale for frame in frames[14:34]]
    for one, other in itertools.pairwise(values):
        overlap = np.abs(np.vdot(one, other)) / (np.linalg.norm(one) * np.linalg.norm(other))
        assert overlap > 0.95
