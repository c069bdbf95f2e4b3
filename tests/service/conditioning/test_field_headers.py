"""Headers that say something else than the data, odd things that are not used, measurements without images, foreign padding.

As in `test_field_cases`, what comes out has to be the object that was measured.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from field_scans import (
    COILS,
    COLUMNS,
    FULL,
    RIGHT,
    ROWS,
    USUAL,
    Outcome,
    crop,
    error,
    flag,
    from_file,
    kspace_of,
    limit,
    lines,
    picture,
    read_file,
    read_stream,
    rss,
    step_limit,
    times,
    volume_kspace,
    volume_lines,
    xml,
)
from raw_builders import (
    BOTH,
    CALIBRATION,
    NOISE,
    REVERSE,
    Readout,
    noise_readouts,
    write_mrd,
)

from recond_service.types import InvalidInputError

# --- headers that disagree with the data ---


@pytest.mark.parametrize("centre", [None, 0, 1, COLUMNS - 1, COLUMNS, 200, 65535, "-4", "17.5", ""])
def test_a_centre_that_is_absent_or_impossible_is_found(read, centre: int | str | None) -> None:
    found = read(xml(limits=step_limit(COLUMNS - 1, centre)), lines(FULL))
    assert error(found.images, picture()[None]) < RIGHT


@pytest.mark.parametrize("missing", ["the first", "the last"])
@pytest.mark.parametrize("centre", [None, "matrix", "middle", 0, 35, 400])
def test_partial_fourier_with_any_centre(read, missing: str, centre: int | str | None) -> None:
    """Ten of 36 columns are missing on one side: POCS gives what it gives with the right centre, and that is better than zeros."""
    kept = range(10, COLUMNS) if missing == "the first" else range(COLUMNS - 10)
    first = -10 if missing == "the first" else 0
    right = COLUMNS // 2 + first
    stated = {"matrix": COLUMNS // 2, "middle": 13}.get(centre, centre)
    readouts = lines(FULL, kept, first=first)
    found = read(xml(limits=step_limit(25, stated)), readouts, pocs=True)
    exact = read_stream(xml(limits=step_limit(25, right)), readouts, pocs=True)
    zero_filled = read_stream(xml(limits=step_limit(25, right)), readouts)
    assert error(found.images, exact.images) < RIGHT
    assert error(exact.images, picture()[None]) < 0.6 * error(zero_filled.images, picture()[None])


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("centre", ["right", "middle", "matrix", 0, 39, 200])
@pytest.mark.parametrize("reverse", [False, True])
def test_asymmetric_echoes_with_any_centre(read, side: str, centre: int | str, reverse: bool) -> None:
    kept = range(10, ROWS) if side == "before" else range(ROWS - 10)
    right = ROWS // 2 - kept.start
    data = FULL[:, kept.start : kept.stop]
    turned = {}
    if reverse:
        data, right, turned = data[:, ::-1], len(kept) - 1 - right, {"flags": REVERSE}
    stated = {"right": right, "middle": len(kept) // 2, "matrix": ROWS // 2}.get(centre, centre)
    found = read(xml(), lines(data, center=stated, **turned), pocs=True)
    exact = read_stream(xml(), lines(data, center=right, **turned), pocs=True)
    zero_filled = read_stream(xml(), lines(data, center=right, **turned))
    # A centre that is off by one or two samples is believed: it may be right.
    assert error(found.images, exact.images) < (0.05 if 0 < abs(stated - right) <= 2 else RIGHT)
    assert error(exact.images, picture()[None]) < 0.6 * error(zero_filled.images, picture()[None])


@pytest.mark.parametrize("centre", [None, "matrix", 300])
@pytest.mark.parametrize("missing", ["the first", "the last"])
def test_partial_partitions_with_any_centre(read, centre: int | str | None, missing: str) -> None:
    volume = np.stack([picture(24, 16, gain=1 + 0.3 * np.sin(p)) * (3 <= p <= 12) for p in range(16)], -1)
    kept = slice(4, 16) if missing == "the first" else slice(0, 13)
    right = 8 - kept.start
    stated = {"matrix": 8}.get(centre, centre)
    readouts = volume_lines(volume_kspace(volume)[..., kept])
    header, exact_header = (
        xml(
            (24, 16, 16),
            view=(200, 180, 80),
            limits=step_limit(15, 8) + step_limit(kept.stop - kept.start - 1, at, axis=2),
        )
        for at in (stated, right)
    )
    found, exact = read(header, readouts, pocs=True), read_stream(exact_header, readouts, pocs=True)
    zero_filled = read_stream(exact_header, readouts)
    assert error(found.images, exact.images) < RIGHT
    truth = volume.transpose(2, 0, 1)
    assert error(exact.images, truth) < error(zero_filled.images, truth)


def test_a_centre_a_little_off_the_peak_is_believed(read) -> None:
    """A linear phase of the object moves the peak of k-space by two lines, which is no fault of the header."""
    phase = np.exp(2j * np.pi * 2 * (np.arange(COLUMNS) - COLUMNS // 2) / COLUMNS)
    kspace = kspace_of(picture() * phase)
    found = read(xml(limits=step_limit(25, COLUMNS // 2)), lines(kspace, range(26)))
    assert "centre-denied" not in found.warnings


@pytest.mark.parametrize(
    ("ratio", "recon_view"),
    [(2.0, None), (1.5, None), (1.2, None), (2.0, 0.5)],
)
def test_readouts_longer_than_the_matrix(read, ratio: float, recon_view: float | None) -> None:
    long = round(ROWS * ratio)
    view = (long / ROWS, 1.0)
    kspace = kspace_of(picture(long, COLUMNS, view), view=view)
    # With a wanted field of view of half, the header has the encoded field of view right and only the matrix wrong.
    sizes = (200.0, 180.0, 5.0) if recon_view is None else (400.0, 180.0, 5.0)
    header = xml(view=sizes, recon_view=(200.0, 180.0, 5.0))
    found = read(header, lines(kspace))
    assert error(found.images, crop(picture(long, COLUMNS, view), ROWS, 0)[None]) < RIGHT
    assert "readout-longer-than-matrix" in found.warnings
    assert found.geometry[0].spacing[0] == pytest.approx(200 / ROWS)


@pytest.mark.parametrize(("first", "last"), [(2 * ROWS // 4, 2 * ROWS), (0, 2 * ROWS - 18)])
def test_an_asymmetric_echo_longer_than_the_matrix(read, first: int, last: int) -> None:
    view = (2.0, 1.0)
    part = kspace_of(picture(2 * ROWS, COLUMNS, view), view=view)[:, first:last]
    readouts = lines(part, center=ROWS - first)
    found = read(xml(), readouts)
    announced = read_stream(
        xml((2 * ROWS, COLUMNS, 1), (ROWS, COLUMNS, 1), (400.0, 180.0, 5.0), (200.0, 180.0, 5.0)), readouts
    )
    assert error(found.images, announced.images) < RIGHT
    assert "readout-longer-than-matrix" in found.warnings
    assert "center-sample-assumed" not in found.warnings


@pytest.mark.parametrize("more", [1, 2])
def test_a_few_samples_more_at_the_ends_of_readouts(read, more: int) -> None:
    found = read(xml(), lines(np.pad(FULL, ((0, 0), (more, more), (0, 0)))))
    assert error(found.images, picture()[None]) < RIGHT


def test_oversampling_that_was_removed_before(read) -> None:
    header = xml((2 * ROWS, COLUMNS, 1), (ROWS, COLUMNS, 1), (400, 180, 5), (200, 180, 5))
    found = read(header, lines(FULL))
    assert error(found.images, picture()[None]) < RIGHT
    assert "oversampling-removed-before" in found.warnings


def test_a_header_whose_axes_were_taken_for_each_other(tmp_path: Path) -> None:
    header = xml((COLUMNS, ROWS, 1), view=(180, 200, 5))
    found = from_file(tmp_path, header, lines(FULL))
    assert error(found.images, picture()[None]) < RIGHT
    assert "matrix-turned" in found.warnings


def test_twice_as_many_lines_as_the_matrix_has(tmp_path: Path) -> None:
    view = (1.0, 2.0)
    kspace = kspace_of(picture(ROWS, 2 * COLUMNS, view), view=view)
    header = xml(limits=step_limit(2 * COLUMNS - 1, COLUMNS))
    found = from_file(tmp_path, header, lines(kspace))
    assert error(found.images, crop(picture(ROWS, 2 * COLUMNS, view), COLUMNS, 1)[None]) < RIGHT
    assert "lines-exceed-matrix" in found.warnings


@pytest.mark.parametrize("bounds", [step_limit(20, 10), step_limit(COLUMNS - 1, 18, low=5), step_limit(3, 1)])
def test_limits_that_are_too_narrow(tmp_path: Path, bounds: str) -> None:
    found = from_file(tmp_path, xml(limits=bounds), lines(FULL))
    assert error(found.images, picture()[None]) < RIGHT
    assert "limits-contradicted" in found.warnings


def test_lines_of_a_stream_beyond_its_limits_are_not_lost_without_a_word() -> None:
    """All announced lines have come, and the image is gone: that there were more can only be said."""
    found = read_stream(xml(limits=step_limit(20, 10)), lines(FULL))
    assert {"limits-contradicted", "lines-after-completion"} <= found.warnings


def test_counters_that_do_not_begin_with_zero(read) -> None:
    found = read(xml(limits=step_limit(99, 82, low=64)), lines(FULL, first=64))
    assert error(found.images, picture()[None]) < RIGHT


@pytest.mark.parametrize("z", [2, 3, 4, 16])
@pytest.mark.parametrize("bounds", ["", "slices", "partitions", "both"])
def test_a_matrix_with_partitions_of_a_scan_without(read, z: int, bounds: str) -> None:
    pictures = np.stack([(1 + number) * picture() for number in range(3)])
    readouts = [
        line
        for number in range(3)
        for line in lines(kspace_of(pictures[number]), counters={"slice": number}, position=(0, 0, 5.0 * number))
    ]
    limits = USUAL + limit("slice", 0, 2, 1) * (bounds in {"slices", "both"})
    limits += step_limit(z - 1, z // 2, axis=2) * (bounds in {"partitions", "both"})
    found = read(xml((ROWS, COLUMNS, z), (ROWS, COLUMNS, z), (200, 180, 5.0 * z), limits=limits), readouts)
    assert error(found.images, pictures) < RIGHT


@pytest.mark.parametrize("z", [1, 3])
def test_slices_that_the_partition_counter_counts(tmp_path: Path, z: int) -> None:
    pictures = np.stack([picture(gain=1 + number) for number in range(3)])
    readouts = [
        line
        for number in range(3)
        for line in lines(
            kspace_of(pictures[number]), counters={"kspace_encode_step_2": number}, position=(0, 0, 6.0 * number)
        )
    ]
    found = from_file(tmp_path, xml((ROWS, COLUMNS, z)), readouts)
    assert error(found.images, pictures) < RIGHT


@pytest.mark.parametrize("acceleration", [2, 3, 4])
@pytest.mark.parametrize("centre", [None, 0, 99])
@pytest.mark.parametrize("calibrated", [True, False])
def test_undersampled_scans_without_a_centre(read, acceleration: int, centre: int | None, calibrated: bool) -> None:
    columns = sorted({*range(1, COLUMNS, acceleration), *(range(13, 23) if calibrated else ())})
    found = read(xml(limits=step_limit(COLUMNS - 1, centre)), lines(FULL, columns))
    zero_filled = np.zeros_like(FULL)
    zero_filled[:, :, columns] = FULL[:, :, columns]
    assert error(found.images, rss(zero_filled)[None]) < RIGHT


def test_partitions_that_the_matrix_does_not_have(tmp_path: Path) -> None:
    volume = np.stack([picture(24, 16, gain=1 + p) for p in range(6)], -1)
    header = xml((24, 16, 1), view=(200, 180, 30), limits=step_limit(15, 8))
    found = from_file(tmp_path, header, volume_lines(volume_kspace(volume)))
    assert error(found.images, volume.transpose(2, 0, 1)) < RIGHT
    assert "partitions-exceed-matrix" in found.warnings


@pytest.mark.parametrize("announced", [None, 1, 16, 65535])
def test_channels_that_the_readouts_do_not_have(read, announced: int | None) -> None:
    found = read(xml(channels=announced), lines(FULL))
    assert error(found.images, picture()[None]) < RIGHT
    assert ("channels-not-announced" in found.warnings) == (announced is not None)


def test_a_few_readouts_of_another_coil_do_not_count(read) -> None:
    other = [replace(line, data=line.data[:1] * 3, flags=0) for line in lines(FULL)[:6]]
    found = read(xml(channels=COILS), other + lines(FULL))
    assert error(found.images, picture()[None]) < RIGHT
    assert "channels-differ" in found.warnings


# --- what is not used refuses no scan ---

PLAIN = xml()


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"\n" + PLAIN.encode(), id="line break first"),
        pytest.param(b"\xef\xbb\xbf" + PLAIN.encode(), id="byte order mark"),
        pytest.param(b"\xef\xbb\xbf \r\n\t" + PLAIN.encode(), id="mark and white space"),
        pytest.param(PLAIN.replace('encoding="UTF-8"', 'encoding="klingon"').encode(), id="unknown encoding"),
        pytest.param(
            xml(inside="<institutionName>Universität Zürich</institutionName>").encode("latin-1"), id="latin-1"
        ),
        pytest.param(
            xml(inside="<institutionName>Universität</institutionName>")
            .replace("UTF-8", "ISO-8859-1")
            .encode("latin-1"),
            id="declared latin-1",
        ),
        pytest.param(
            xml(inside="<institutionName>Universit\u00e4t</institutionName>").encode("utf-8"), id="names in UTF-8"
        ),
        *(
            pytest.param(xml(after=times(**{name: [value]})).encode(), id=f"{name} {value or 'empty'}")
            for name, value in (
                ("TE", ""),
                ("TR", "n/a"),
                ("TI", "nan"),
                ("flipAngle_deg", "inf"),
                ("echo_spacing", ""),
            )
        ),
        pytest.param(xml(inside="<systemFieldStrength_T>?</systemFieldStrength_T>").encode(), id="field strength"),
        pytest.param(
            xml(inside="<coilLabel><coilNumber>x</coilNumber><coilName>A</coilName></coilLabel>").encode(),
            id="coil number",
        ),
        pytest.param(xml(limits=USUAL + limit("average", 3, 1)).encode(), id="impossible range"),
        pytest.param(xml(limits=USUAL + "<slice/><phase></phase>").encode(), id="empty limits"),
        pytest.param(xml(after="<userParameters/>").encode(), id="empty parameters"),
    ],
)
def test_odd_headers(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "scan.h5"
    write_mrd(path, "", lines(FULL))
    with h5py.File(path, "r+") as file:
        del file["dataset/xml"]
        file["dataset"].create_dataset("xml", data=np.array([header], object), dtype=h5py.special_dtype(vlen=bytes))
    assert error(read_file(path).images, picture()[None]) < RIGHT


@pytest.mark.parametrize("number", [23, 24, 26, 27, 28])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_of_readouts_that_are_not_used_may_be_anything(read, number: int, bad: float) -> None:
    odd = Readout(np.full((COILS, ROWS), bad, np.complex64), flags=flag(number))
    found = read(xml(), [odd, *lines(FULL)])
    assert error(found.images, picture()[None]) < RIGHT


def test_samples_of_other_coils_may_be_anything(read) -> None:
    odd = Readout(np.full((1, ROWS), np.nan, np.complex64))
    assert error(read(xml(), [odd, *lines(FULL)]).images, picture()[None]) < RIGHT


@pytest.mark.parametrize("flags", [0, NOISE, CALIBRATION, BOTH, flag(29)])
def test_samples_of_readouts_that_are_used_may_not(read, flags: int) -> None:
    readouts = [*noise_readouts(COILS), *lines(FULL)]
    spoilt = readouts[0] if flags == NOISE else replace(readouts[20], flags=flags)
    spoilt = replace(
        spoilt, data=np.where(np.arange(spoilt.data.shape[1]) == 5, np.nan, spoilt.data).astype(np.complex64)
    )
    with pytest.raises(InvalidInputError, match="NaN"):
        read(xml(), [spoilt, *readouts[1:]] if flags == NOISE else [*readouts[:20], spoilt, *readouts[21:]])


def test_readouts_without_samples_are_left_out(read) -> None:
    found = read(xml(), [Readout(np.zeros((COILS, 0), np.complex64)), *lines(FULL)])
    assert error(found.images, picture()[None]) < RIGHT
    assert "readouts-empty" in found.warnings


# --- measurements of a file ---

NAVIGATORS = [Readout(FULL[:, :, 0], flags=flag(23))] * 3
CALIBRATIONS = [replace(line, flags=CALIBRATION) for line in lines(FULL, range(10, 26))]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], [[]]),
        ([], [[], []]),
        ([], [CALIBRATIONS]),
        ([], [NAVIGATORS]),
        ([], [noise_readouts(COILS)]),
        ([[]], [[], CALIBRATIONS]),
        ([CALIBRATIONS], []),
        ([[replace(line, data=7 * line.data) for line in lines(FULL)]], [[]]),
    ],
    ids=[
        "empty",
        "two empty",
        "calibration",
        "navigators",
        "noise",
        "all around",
        "calibration first",
        "an older scan",
    ],
)
def test_the_last_measurement_with_images_is_reconstructed(tmp_path: Path, before: list, after: list) -> None:
    path = tmp_path / "scan.h5"
    for number, readouts in enumerate([*before, lines(FULL), *after]):
        write_mrd(path, xml(), readouts, f"dataset_{number + 1}")
    assert error(read_file(path).images, picture()[None]) < RIGHT


# --- fastMRI files ---


def fastmri(path: Path, kspace: np.ndarray, header: str, **datasets: np.ndarray) -> Outcome:
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace
        file["ismrmrd_header"] = header
        for name, values in datasets.items():
            file[name] = values
    return read_file(path)


@pytest.mark.parametrize("encoded", [(60, 30, 1), (30, 60, 1), (44, 30, 1), (60, 64, 1)])
def test_padding_of_another_array_throws_nothing_away(tmp_path: Path, encoded: tuple[int, int, int]) -> None:
    image = picture(30, 60)
    header = xml(encoded, (30, 60, 1), limits=step_limit(19, 10))
    found = fastmri(tmp_path / "scan.h5", kspace_of(image)[None], header)
    assert error(found.images, image[None]) < RIGHT


@pytest.mark.parametrize("bounds", [(29, 15), (19, 2), (39, 25), (10, None)])
def test_padding_that_holds_samples_throws_nothing_away(tmp_path: Path, bounds: tuple[int, int | None]) -> None:
    image = picture(60, 40)
    header = xml((60, 40, 1), limits=step_limit(*bounds))
    found = fastmri(tmp_path / "scan.h5", kspace_of(image)[None], header)
    assert error(found.images, image[None]) < RIGHT
    assert found.warnings & {"padding-contradicted", "padding-ignored"}


def test_padding_that_is_empty_is_not_measured(tmp_path: Path) -> None:
    kspace = kspace_of(picture(60, 40))
    kspace[:, :, :6] = kspace[:, :, 34:] = 0
    header = xml((60, 40, 1), limits=step_limit(27, 14))
    found = fastmri(tmp_path / "scan.h5", kspace[None], header, mask=np.ones(40, np.float32))
    assert error(found.images, rss(kspace)[None]) < RIGHT
    assert not found.warnings & {"padding-contradicted", "padding-ignored"}
