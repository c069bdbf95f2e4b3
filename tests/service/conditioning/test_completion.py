"""When frames leave, what belongs to which, and that a stream gives the frames of the file bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from raw_builders import (
    BOTH,
    CALIBRATION,
    LAST_IN_MEASUREMENT,
    LAST_IN_REPETITION,
    LAST_IN_SLICE,
    Encoding,
    Phantom,
    Readout,
    acquisition_block,
    block_of,
    cartesian,
    codes,
    file_request,
    header_xml,
    noise_readouts,
    rss_of,
    write_mrd,
)

from recond_service.conditioning import AcquisitionConditioner, condition
from recond_service.ingest import decode_acquisitions, read_header, read_scan
from recond_service.types import (
    FindingList,
    Frame,
    FrameIndex,
    InvalidInputError,
    LimitExceededError,
    Limits,
    ScanRequest,
)

PHANTOM = Phantom()
ENCODING = Encoding((32, 24), (400.0, 200.0), (16, 24), (200.0, 200.0))
FULL = ENCODING.kspace(PHANTOM)


def conditioner_for(
    *encodings: Encoding, request: ScanRequest | None = None, **header: str
) -> tuple[AcquisitionConditioner, FindingList]:
    findings = FindingList()
    parsed = read_header(header_xml(*(encodings or (ENCODING,)), **header).encode(), Limits(), findings)
    return AcquisitionConditioner(parsed, request or ScanRequest(), findings), findings


def push(conditioner: AcquisitionConditioner, readouts: list[Readout]) -> list[Frame]:
    return list(conditioner.push(acquisition_block(readouts)))


def of_slice(number: int, encoding: Encoding = ENCODING, **changes: object) -> list[Readout]:
    return cartesian(FULL * (1 + number), encoding, counters={"slice": number}, **changes)


def test_a_slice_leaves_with_its_last_line() -> None:
    conditioner, _ = conditioner_for()
    readouts = of_slice(0)
    assert push(conditioner, readouts[:-1]) == []
    (frame,) = push(conditioner, readouts[-1:])
    assert frame.index == FrameIndex(slice=0)
    assert list(conditioner.finish()) == []


def test_interleaved_slices_leave_in_the_order_in_which_they_are_complete() -> None:
    conditioner, _ = conditioner_for()
    a, b = of_slice(1), of_slice(0)
    mixed = [readout for pair in zip(a, b, strict=True) for readout in pair]
    frames = push(conditioner, mixed)
    assert [frame.index.slice for frame in frames] == [1, 0]
    np.testing.assert_array_equal(frames[0].kspace, frames[1].kspace)
    assert frames[1].scale == 2 * frames[0].scale


def test_undersampled_slices_without_flags_leave_at_the_end() -> None:
    conditioner, findings = conditioner_for()
    readouts = [replace(r, flags=0) for r in cartesian(FULL, ENCODING, range(0, 24, 2))]
    assert push(conditioner, readouts) == []
    (frame,) = list(conditioner.finish())
    assert frame.mask[0].sum() == 12
    assert frame.calibration_extent == (16, 1)
    assert "slices-not-closed" in findings


def test_every_counter_makes_images_of_its_own_but_the_segment_does_not() -> None:
    conditioner, _ = conditioner_for()
    frames = []
    for name in ("slice", "contrast", "phase", "repetition", "set"):
        frames += push(conditioner, cartesian(FULL, ENCODING, counters={name: 3}))
    assert [frame.index for frame in frames] == [
        FrameIndex(slice=3),
        FrameIndex(contrast=3),
        FrameIndex(phase=3),
        FrameIndex(repetition=3),
        FrameIndex(set=3),
    ]
    segmented = [replace(r, counters={"segment": n % 3, "slice": 4}) for n, r in enumerate(cartesian(FULL, ENCODING))]
    assert len(push(conditioner, segmented)) == 1


@pytest.mark.parametrize("inner", [False, True])
def test_announced_averages_are_combined_as_complex_numbers(*, inner: bool) -> None:
    encoding = replace(ENCODING, averages=3)
    conditioner, findings = conditioner_for(encoding)
    factors = (1.0, 2j, 3.0)
    sets = [cartesian(FULL * factor, encoding, counters={"average": n}) for n, factor in enumerate(factors)]
    readouts = [r for group in (zip(*sets, strict=True) if inner else sets) for r in group]
    frames = push(conditioner, readouts)
    assert len(frames) == 1
    np.testing.assert_allclose(frames[0].kspace / frames[0].scale, _removed(FULL * (4 + 2j) / 3), atol=1e-5)
    assert "averages-combined" in findings
    assert list(conditioner.finish()) == []


def test_lines_are_weighted_by_how_often_they_came() -> None:
    encoding = replace(ENCODING, averages=2)
    conditioner, _ = conditioner_for(encoding)
    first = [replace(r, flags=0) for r in cartesian(FULL, encoding)]
    second = [replace(r, counters={"average": 1}, flags=0) for r in cartesian(FULL * 3, encoding, range(4))]
    push(conditioner, first + second)
    (frame,) = list(conditioner.finish())
    wanted = FULL.copy()
    wanted[:, :, :4] *= 2
    np.testing.assert_allclose(frame.kspace / frame.scale, _removed(wanted), atol=1e-5)


def test_unannounced_averages_in_the_inner_loop_wait_for_the_flag() -> None:
    conditioner, findings = conditioner_for()
    pairs = zip(cartesian(FULL, ENCODING), cartesian(FULL * 3, ENCODING, counters={"average": 1}), strict=True)
    readouts = [r for pair in pairs for r in pair]
    readouts[-2] = replace(readouts[-2], flags=0)
    (frame,) = push(conditioner, readouts)
    np.testing.assert_allclose(frame.kspace / frame.scale, _removed(FULL * 2), atol=1e-5)
    assert "lines-after-completion" not in findings


def test_lines_after_completion_are_counted() -> None:
    conditioner, findings = conditioner_for()
    assert len(push(conditioner, of_slice(0))) == 1
    assert push(conditioner, of_slice(0)[:5]) == []
    assert {f.code: f.count for f in findings}["lines-after-completion"] == 5
    assert list(conditioner.finish()) == []


def test_calibration_lines_on_the_grid_fill_gaps_only() -> None:
    conditioner, findings = conditioner_for()
    calibration = cartesian(FULL * 5, ENCODING, range(8, 17), flags=CALIBRATION)
    calibration = [replace(r, flags=CALIBRATION) for r in calibration]
    imaging = cartesian(FULL, ENCODING, range(0, 24, 2))
    (frame,) = push(conditioner, calibration + imaging)
    wanted = FULL.copy()
    wanted[:, :, 9:17:2] *= 5
    wanted[:, :, [c for c in range(24) if c % 2 and not 8 <= c < 17]] = 0
    np.testing.assert_allclose(frame.kspace / frame.scale, _removed(wanted), atol=1e-5)
    assert frame.calibration is None
    assert frame.calibration_extent == (16, 9)
    assert {f.code: f.count for f in findings}["calibration-lines-used"] == 4


def test_lines_of_both_kinds_are_imaging_lines() -> None:
    conditioner, _ = conditioner_for()
    readouts = [replace(r, flags=r.flags | BOTH) for r in cartesian(FULL, ENCODING)]
    (frame,) = push(conditioner, readouts)
    assert frame.mask.all()


def test_separate_calibration_keeps_its_own_numbers_and_its_scale() -> None:
    parallel = (
        "<parallelImaging><accelerationFactor><kspace_encoding_step_1>2</kspace_encoding_step_1></accelerationFactor>"
        "<calibrationMode>separate</calibrationMode></parallelImaging>"
    )
    encoding = replace(ENCODING, extra=parallel)
    conditioner, _ = conditioner_for(encoding)
    calibration = [
        Readout(FULL[:, :, column], step=100 + number, flags=CALIBRATION) for number, column in enumerate(range(8, 16))
    ]
    frames = push(conditioner, calibration + cartesian(FULL, encoding, range(0, 24, 2)))
    frames += push(conditioner, cartesian(FULL * 4, encoding, range(1, 24, 2), counters={"repetition": 1}))
    for frame in frames:
        assert frame.calibration is not None
        assert frame.calibration.shape == (3, 16, 8)
        np.testing.assert_allclose(frame.calibration / frame.scale, _removed(FULL)[:, :, 8:16], atol=1e-6)
    assert frames[0].calibration_extent == (16, 1)
    assert frames[1].calibration_extent == (0, 0)


def test_calibration_of_another_encoding_and_another_view_is_not_used() -> None:
    other = replace(ENCODING, view=(400.0, 300.0))
    conditioner, findings = conditioner_for(ENCODING, other)
    calibration = [Readout(FULL[:, :, column], step=column, flags=CALIBRATION, encoding=1) for column in range(8, 16)]
    (frame,) = push(conditioner, calibration + cartesian(FULL, ENCODING, range(0, 24, 2)))
    assert frame.calibration is None
    assert "calibration-view-differs" in findings


def test_images_of_two_encodings_of_one_size_are_images_of_their_own() -> None:
    other = replace(ENCODING, matrix=(64, 24), view=(800.0, 200.0))
    conditioner, findings = conditioner_for(ENCODING, other)
    second = [replace(r, encoding=1) for r in cartesian(other.kspace(PHANTOM), other)]
    frames = push(conditioner, cartesian(FULL, ENCODING) + second)
    assert [frame.index for frame in frames] == [FrameIndex(), FrameIndex(encoding=1)]
    images = [rss_of(frame.kspace) / frame.scale for frame in frames]
    np.testing.assert_allclose(images[1], images[0], atol=1e-3)  # the field of view of one is cut from twice as much
    assert "several-encodings" in findings


def test_images_of_encodings_of_different_sizes() -> None:
    conditioner, findings = conditioner_for(ENCODING, replace(ENCODING, recon_matrix=(16, 20)))
    second = [replace(r, encoding=1) for r in cartesian(FULL, ENCODING)]
    frames = push(conditioner, [*cartesian(FULL, ENCODING), *second])
    assert [(frame.index.encoding, frame.image_shape) for frame in frames] == [(0, (16, 24)), (1, (16, 20))]
    assert "several-encodings" in findings


@pytest.mark.parametrize("flag", [23, 24, 26, 27, 28, 29, 30, 31])
def test_readouts_that_are_not_imaging_are_dropped_and_counted(flag: int) -> None:
    conditioner, findings = conditioner_for()
    junk = Readout(np.full((3, 32), 1e6, np.complex64), step=3, flags=1 << (flag - 1))
    (frame,) = push(conditioner, [junk, *cartesian(FULL, ENCODING)])
    assert {"readouts-not-imaging", "readouts-flagged-apart"} & codes(findings)
    np.testing.assert_allclose(frame.kspace / frame.scale, _removed(FULL), atol=1e-5)


@pytest.mark.parametrize("flag", [1, 3, 4, 5, 6, 7, 9, 53, 57, 64])
def test_other_flags_do_not_matter(flag: int) -> None:
    conditioner, _ = conditioner_for()
    readouts = [replace(r, flags=r.flags | 1 << (flag - 1)) for r in cartesian(FULL, ENCODING)]
    (frame,) = push(conditioner, readouts)
    assert frame.mask.all()


def test_other_channel_counts_are_dropped_and_counted() -> None:
    conditioner, findings = conditioner_for(system="<receiverChannels>3</receiverChannels>")
    body_coil = [Readout(np.ones((2, 32), np.complex64), step=n) for n in range(4)]
    (frame,) = push(conditioner, body_coil + cartesian(FULL, ENCODING))
    assert frame.kspace.shape[0] == 3
    assert {f.code: f.count for f in findings}["channels-differ"] == 4


def test_readouts_of_a_stream_none_of_which_has_the_announced_channels_are_used_at_its_end() -> None:
    conditioner, findings = conditioner_for(system="<receiverChannels>5</receiverChannels>")
    assert push(conditioner, [Readout(np.ones((2, 32), np.complex64), step=3), *cartesian(FULL, ENCODING)]) == []
    (frame,) = conditioner.finish()
    assert frame.kspace.shape[0] == 3
    assert {"channels-not-announced", "channels-differ"} <= codes(findings)


def test_only_noise_is_an_error() -> None:
    conditioner, _ = conditioner_for()
    push(conditioner, noise_readouts(3))
    with pytest.raises(InvalidInputError, match="nothing to reconstruct"):
        list(conditioner.finish())


def test_a_partition_counter_that_stands_still_is_none() -> None:
    conditioner, _ = conditioner_for()
    (frame,) = push(conditioner, cartesian(FULL, ENCODING, counters={"kspace_encode_step_2": 1}))
    assert frame.mask.all()


def test_a_second_partition_of_a_stream_whose_header_has_none_is_left_out() -> None:
    conditioner, findings = conditioner_for()
    second = [replace(r, flags=0, counters={"kspace_encode_step_2": 1}) for r in cartesian(FULL, ENCODING)]
    (frame,) = push(conditioner, cartesian(FULL, ENCODING)[:1] + second + cartesian(FULL, ENCODING)[1:])
    np.testing.assert_allclose(frame.kspace / frame.scale, _removed(FULL), atol=1e-5)
    assert {f.code: f.count for f in findings}["lines-outside-matrix"] == 24


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, complex(0, np.nan)])
def test_samples_that_are_not_finite_are_named(bad: complex) -> None:
    conditioner, _ = conditioner_for()
    readouts = cartesian(FULL, ENCODING)
    push(conditioner, readouts[:4])
    spoilt = readouts[6].data.copy()
    spoilt[2, 5] = bad
    readouts[6] = replace(readouts[6], data=spoilt)
    with pytest.raises(InvalidInputError) as caught:
        push(conditioner, readouts[4:])
    assert caught.value.field == "acquisitions[6]"
    assert caught.value.reason == "NOT_FINITE"


def test_a_slice_of_zeros_is_allowed_and_said() -> None:
    conditioner, findings = conditioner_for()
    (frame,) = push(conditioner, cartesian(FULL * 0, ENCODING))
    assert not frame.kspace.any()
    assert frame.scale == 1.0
    assert frame.mask.all()
    assert "slice-empty" in findings


def test_averages_that_overflow_are_an_error() -> None:
    encoding = replace(ENCODING, averages=2)
    conditioner, _ = conditioner_for(encoding)
    large = FULL / np.abs(FULL).max() * np.float32(3e38)
    readouts = cartesian(large, encoding) + cartesian(large, encoding, counters={"average": 1})
    with pytest.raises(InvalidInputError, match="single precision"):
        push(conditioner, readouts)


def test_open_frames_are_bounded() -> None:
    frame_bytes = 8 * 3 * 32 * 24
    request = ScanRequest(limits=Limits(max_scan_bytes=4 * frame_bytes))
    conditioner, _ = conditioner_for(request=request)
    readouts = [replace(of_slice(n)[0], flags=0) for n in range(5)]
    with pytest.raises(LimitExceededError, match="not complete"):
        push(conditioner, readouts)


def test_images_are_bounded() -> None:
    conditioner, _ = conditioner_for(request=ScanRequest(limits=Limits(max_images=2)))
    with pytest.raises(LimitExceededError) as caught:
        push(conditioner, of_slice(0) + of_slice(1) + of_slice(2))
    assert caught.value.reason == "TOO_MANY_IMAGES"


def test_large_frames_are_refused_before_they_are_made() -> None:
    conditioner, _ = conditioner_for(replace(ENCODING, matrix=(60000, 60000)))
    with pytest.raises(LimitExceededError) as caught:
        push(conditioner, cartesian(FULL, ENCODING))
    assert caught.value.reason == "FRAME_TOO_LARGE"


@pytest.mark.parametrize("batch", [1, 5, 7, 64])
def test_a_stream_gives_the_frames_of_the_file_bit_for_bit(tmp_path: Path, batch: int) -> None:
    encoding = replace(ENCODING, averages=2)
    rng = np.random.default_rng(3)
    readouts = noise_readouts(3)
    for number in range(3):
        for average in range(2):
            noisy = FULL + 0.01 * (rng.standard_normal(FULL.shape) + 1j * rng.standard_normal(FULL.shape))
            readouts += cartesian(noisy, encoding, counters={"slice": number, "average": average})
    xml = header_xml(encoding)
    path = write_mrd(tmp_path / "scan.h5", xml, readouts)
    request = file_request(path)
    from_file_findings, findings = FindingList(), FindingList()
    from_file = list(condition(read_scan(request, from_file_findings), request, from_file_findings))
    header = read_header(xml.encode(), Limits(), findings)
    conditioner = AcquisitionConditioner(header, ScanRequest(), findings)
    streamed = []
    for start in range(0, len(readouts), batch):
        block = decode_acquisitions(*block_of(readouts[start : start + batch]), header, Limits())
        streamed += list(conditioner.push(block))
    streamed += list(conditioner.finish())
    assert len(streamed) == len(from_file) == 3
    for one, other in zip(streamed, from_file, strict=True):
        assert one.index == other.index
        assert one.scale == other.scale
        assert one.whitened
        np.testing.assert_array_equal(one.kspace, other.kspace)
        np.testing.assert_array_equal(one.mask, other.mask)
    assert codes(findings) == codes(from_file_findings)


def test_lines_of_a_stream_after_the_end_of_their_slice_are_left_out_and_said() -> None:
    conditioner, findings = conditioner_for()
    late = [replace(r, flags=0) for r in cartesian(FULL, ENCODING)[:4]]
    (frame,) = push(conditioner, cartesian(FULL, ENCODING) + late)
    np.testing.assert_allclose(frame.kspace / frame.scale, _removed(FULL), atol=1e-5)
    assert {f.code: f.count for f in findings}["lines-after-completion"] == 4


@pytest.mark.parametrize(("flag", "left"), [(LAST_IN_REPETITION, [0]), (LAST_IN_MEASUREMENT, [])])
def test_the_end_of_a_repetition_and_of_the_measurement_close_what_is_open(flag: int, left: list[int]) -> None:
    conditioner, _ = conditioner_for()
    lines = [replace(r, flags=0) for r in cartesian(FULL, ENCODING, range(0, 24, 2))]
    begun = [[replace(r, counters={"repetition": n, "slice": s}) for r in lines] for n in (0, 1) for s in (0, 1)]
    readouts = [*begun[0], *begun[2], *begun[3]]
    readouts[-1] = replace(readouts[-1], flags=flag)
    frames = push(conditioner, readouts)
    assert [(frame.index.repetition, frame.index.slice) for frame in frames] == [
        (n, 0) for n in (0, 1) if n not in left
    ] + [(1, 1)]
    assert [frame.index.repetition for frame in conditioner.finish()] == left


def test_the_end_of_the_repetition_on_every_slice_cuts_no_slice_short() -> None:
    conditioner, findings = conditioner_for()
    lines = [replace(r, flags=0) for r in cartesian(FULL, ENCODING, range(0, 24, 2))]
    readouts = [replace(r, counters={"slice": number}) for r in lines for number in (0, 1, 2)]
    readouts[-3:] = [replace(r, flags=LAST_IN_REPETITION) for r in readouts[-3:]]
    frames = push(conditioner, readouts)
    assert [frame.index.slice for frame in frames] == [0, 1, 2]
    assert all(frame.mask[0].sum() == 12 for frame in frames)
    assert "lines-after-completion" not in findings


def test_the_end_of_the_measurement_comes_once_for_each_announced_average() -> None:
    conditioner, _ = conditioner_for(replace(ENCODING, averages=2))
    lines = [replace(r, flags=0) for r in cartesian(FULL, ENCODING, range(0, 24, 2))]
    for average, expected in ((0, 0), (1, 1)):
        readouts = [replace(r, counters={"average": average}) for r in lines]
        readouts[-1] = replace(readouts[-1], flags=LAST_IN_REPETITION)
        assert len(push(conditioner, readouts)) == expected


def test_the_flag_of_the_last_average_alone_closes_averages_that_are_the_inner_loop() -> None:
    conditioner, _ = conditioner_for(replace(ENCODING, averages=2))
    lines = [replace(r, flags=0) for r in cartesian(FULL, ENCODING, range(0, 24, 2))]
    readouts = [replace(r, counters={"average": average}) for r in lines for average in (0, 1)]
    readouts[-1] = replace(readouts[-1], flags=LAST_IN_SLICE)
    (frame,) = push(conditioner, readouts)
    np.testing.assert_allclose(frame.kspace / frame.scale, np.where(frame.mask, _removed(FULL), 0), atol=1e-5)


def test_the_last_flag_of_a_calibration_line_does_not_close_an_empty_slice() -> None:
    conditioner, _ = conditioner_for()
    calibration = [replace(r, flags=CALIBRATION | LAST_IN_SLICE) for r in cartesian(FULL, ENCODING, range(8, 16))]
    assert push(conditioner, calibration) == []
    assert len(push(conditioner, cartesian(FULL, ENCODING, range(0, 24, 2)))) == 1


def _removed(kspace: np.ndarray) -> np.ndarray:
    """Readout oversampling of 2 removed from (coils, 32, columns), in double precision."""
    image = np.fft.fftshift(
        np.fft.ifft(np.fft.ifftshift(kspace.astype(complex), axes=1), axis=1, norm="ortho"), axes=1
    )[:, 8:24]
    return np.fft.fftshift(np.fft.fft(np.fft.ifftshift(image, axes=1), axis=1, norm="ortho"), axes=1)


def test_calibration_of_slices_without_images_is_said() -> None:
    conditioner, findings = conditioner_for()
    calibration = cartesian(FULL, ENCODING, range(8, 16), counters={"slice": 5})
    calibration = [replace(r, flags=CALIBRATION) for r in calibration]
    assert len(push(conditioner, calibration + cartesian(FULL, ENCODING))) == 1
    assert list(conditioner.finish()) == []
    assert "calibration-unused" in findings


def test_empty_noise_readouts_do_not_matter() -> None:
    conditioner, findings = conditioner_for()
    empty = Readout(np.zeros((0, 16), np.complex64), flags=1 << 18)
    (frame,) = push(conditioner, [empty, *cartesian(FULL, ENCODING)])
    assert not frame.whitened
    assert "noise-scan-missing" in findings


def test_later_repetitions_use_the_calibration_of_the_first() -> None:
    conditioner, findings = conditioner_for()
    first = cartesian(FULL, ENCODING, sorted({*range(0, 24, 2), *range(8, 17)}))
    second = cartesian(FULL * 4, ENCODING, range(1, 24, 2), counters={"repetition": 1})
    frames = push(conditioner, first + second)
    assert frames[0].calibration is None
    assert frames[0].calibration_extent == (16, 9)
    assert frames[1].calibration is not None
    np.testing.assert_allclose(frames[1].calibration / frames[1].scale, _removed(FULL)[:, :, 8:17], atol=1e-6)
    assert "calibration-shared" in findings
