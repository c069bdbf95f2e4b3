"""What each format gives, read from small files of known content."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from raw_builders import (
    Encoding,
    Phantom,
    Readout,
    acquisition_block,
    block_of,
    cartesian,
    file_part,
    file_request,
    header_xml,
    noise_readouts,
    write_mrd,
)

from recond_service.conditioning import condition
from recond_service.ingest import decode_acquisitions, read_header, read_reference, read_scan
from recond_service.types import (
    FindingList,
    FrameIndex,
    InvalidInputError,
    KspaceScan,
    LimitExceededError,
    Limits,
    Part,
    PartFormat,
    PartRole,
    RawScan,
    RecondError,
    ScanRequest,
    UnsupportedDataError,
)

ENCODING = Encoding((16, 12), (200.0, 200.0), (16, 12), (200.0, 200.0))
FULL = ENCODING.kspace(Phantom())
HEADER = read_header(header_xml(ENCODING).encode(), Limits(), FindingList())


def write_cfl(
    folder: Path, name: str, dimensions: list[int], values: np.ndarray, header: str | None = None
) -> tuple[Path, Part]:
    path = folder / f"{name}.cfl"
    np.asarray(values, "<c8").ravel(order="F").tofile(path)
    hdr = folder / f"{name}.hdr"
    hdr.write_text(header or "# Dimensions\n" + " ".join(map(str, dimensions)) + "\n# Command\nphantom -k \n")
    return path, file_part(hdr, PartRole.KSPACE_HEADER, PartFormat.BART_HDR)


def scan_of(request: ScanRequest) -> RawScan | KspaceScan:
    return read_scan(request, FindingList())


def test_readouts_come_in_blocks_that_hold_what_was_written(tmp_path: Path) -> None:
    readouts = noise_readouts(3, 2) + cartesian(FULL, ENCODING)
    path = write_mrd(tmp_path / "scan.h5", header_xml(ENCODING), readouts)
    scan = scan_of(file_request(path))
    assert isinstance(scan, RawScan)
    assert scan.source.count == len(readouts)
    assert scan.noise is None
    for _ in range(2):  # a source can be read again
        numbers = 0
        for block in scan.source.blocks():
            for number in range(len(block)):
                np.testing.assert_array_equal(block.readout(number), readouts[numbers].data)
                assert block.headers[number].tobytes() == readouts[numbers].header().tobytes()
                numbers += 1
        assert numbers == len(readouts)


def test_blocks_stay_small_when_readouts_are_large(tmp_path: Path) -> None:
    large = [Readout(np.ones((8, 20000), np.complex64), n % 12) for n in range(20)]
    path = write_mrd(tmp_path / "scan.h5", header_xml(ENCODING), [*noise_readouts(3, 40, samples=8), *large])
    scan = scan_of(file_request(path))
    assert isinstance(scan, RawScan)
    sizes = [block.samples.nbytes for block in scan.source.blocks()]
    assert sum(sizes) == 8 * (40 * 3 * 8 + 20 * 160000)
    assert max(sizes[-3:]) <= 8 << 20


def test_the_last_measurement_with_images_is_the_scan(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    write_mrd(path, header_xml(ENCODING), noise_readouts(3))
    write_mrd(path, header_xml(ENCODING), cartesian(FULL * 2, ENCODING), group="dataset_1")
    write_mrd(path, header_xml(ENCODING), noise_readouts(3, 5), group="dataset_2")
    write_mrd(path, header_xml(ENCODING), cartesian(FULL, ENCODING), group="dataset_10")
    write_mrd(path, header_xml(ENCODING), noise_readouts(3, 7), group="dataset_11")
    findings = FindingList()
    scan = read_scan(file_request(path), findings)
    assert isinstance(scan, RawScan)
    assert scan.source.place == "dataset_10"
    assert scan.noise is not None
    assert (scan.noise.place, scan.noise.count) == ("dataset_2", 5)
    assert {f.code: f.count for f in findings}["measurements-ignored"] == 3


def test_a_wire_batch_is_taken_over_without_a_copy() -> None:
    readouts = noise_readouts(3, 2) + cartesian(FULL, ENCODING, trajectory_dimensions=2)
    count, headers, trajectories, samples = block_of(readouts)
    block = decode_acquisitions(count, headers, trajectories, samples, HEADER, Limits())
    expected = acquisition_block(readouts)
    np.testing.assert_array_equal(block.samples, expected.samples)
    np.testing.assert_array_equal(block.offsets, expected.offsets)
    assert block.headers.tobytes() == expected.headers.tobytes()
    assert np.shares_memory(block.samples, np.frombuffer(samples, np.uint8))


@pytest.mark.parametrize("change", ["headers", "samples", "trajectories", "count"])
def test_wire_batches_whose_sizes_do_not_fit(change: str) -> None:
    count, headers, trajectories, samples = block_of(cartesian(FULL, ENCODING, trajectory_dimensions=2))
    values = {"headers": headers, "samples": samples, "trajectories": trajectories}
    if change in values:
        values[change] = values[change][:-4]
    with pytest.raises(InvalidInputError) as caught:
        decode_acquisitions(
            count + (change == "count"), values["headers"], values["trajectories"], values["samples"], HEADER, Limits()
        )
    assert caught.value.reason == "ACQUISITION_SIZE"
    assert caught.value.field == f"acquisitions.{'headers' if change == 'count' else change}"


def test_wire_batches_that_claim_too_much() -> None:
    batch = block_of(cartesian(FULL, ENCODING))
    with pytest.raises(LimitExceededError):
        decode_acquisitions(*batch, HEADER, Limits(max_scan_bytes=100))


def test_a_wire_batch_of_an_unknown_encoding() -> None:
    with pytest.raises(InvalidInputError) as caught:
        decode_acquisitions(
            *block_of([*cartesian(FULL, ENCODING)[:2], Readout(FULL[:, :, 0], encoding=3)]),
            HEADER,
            Limits(),
        )
    assert caught.value.field == "acquisitions[2].encoding_space_ref"


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128, np.dtype([("real", "<f4"), ("imag", "<f4")])])
def test_complex_types_are_converted(tmp_path: Path, dtype: np.dtype) -> None:
    values = (
        FULL[None].astype(dtype)
        if np.dtype(dtype).names is None
        else FULL[None].view(np.dtype([("real", "<f4"), ("imag", "<f4")]))
    )
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = values
    scan = scan_of(file_request(path))
    assert isinstance(scan, KspaceScan)
    (plane,) = scan.planes()
    assert plane.dtype == np.complex64
    np.testing.assert_array_equal(plane, FULL)


@pytest.mark.parametrize("declared", [PartFormat.UNSPECIFIED, PartFormat.BART_CFL])
def test_bart_dimensions_become_counters(tmp_path: Path, declared: PartFormat) -> None:
    # READ 4, PHS1 5, COIL 3, TE 2, TIME 2, SLICE 2
    dimensions = [4, 5, 1, 3, 1, 2, 1, 1, 1, 1, 2, 1, 1, 2, 1, 1]
    values = np.random.default_rng(0).standard_normal(dimensions).astype(np.complex64)
    path, header = write_cfl(tmp_path, "scan", dimensions, values)
    scan = scan_of(file_request(path, header, kind=declared))
    assert isinstance(scan, KspaceScan)
    assert scan.shape == (3, 4, 5)
    seen = set()
    for index, plane in zip(scan.indices, scan.planes(), strict=True):
        wanted = values[:, :, 0, :, 0, index.contrast, 0, 0, 0, 0, index.repetition, 0, 0, index.slice, 0, 0]
        np.testing.assert_array_equal(plane, wanted.transpose(2, 0, 1))
        seen.add(index)
    assert len(seen) == 8
    assert FrameIndex(slice=1, contrast=1, repetition=1) in seen


def test_bart_planes_of_two_phase_encodes(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((1, 4, 5, 2)).astype(np.complex64)
    path, header = write_cfl(tmp_path, "scan", [1, 4, 5, 2], values)
    scan = scan_of(file_request(path, header))
    assert isinstance(scan, KspaceScan)
    (plane,) = scan.planes()
    np.testing.assert_array_equal(plane, values[0].transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("dimensions", "reason", "error"),
    [
        ([4, 5, 6, 3], "BART_DIMENSIONS", UnsupportedDataError),
        ([4, 5, 1, 3, 2], "BART_DIMENSIONS", UnsupportedDataError),
        ([4, 5, 1, 4], "SIZE_MISMATCH", InvalidInputError),
        ([4, 0, 1, 3], "EMPTY_AXIS", InvalidInputError),
        ([60000, 60000, 1, 3], "FRAME_TOO_LARGE", LimitExceededError),
        ([*[1] * 16, 2], "BART_HEADER", InvalidInputError),
    ],
)
def test_bart_headers_that_cannot_be(
    tmp_path: Path, dimensions: list[int], reason: str, error: type[RecondError]
) -> None:
    path, header = write_cfl(tmp_path, "scan", dimensions, np.zeros(60, np.complex64))
    with pytest.raises(error) as caught:
        scan_of(file_request(path, header))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "text", ["", "# Dimensions\n", "# Dimensions\nfour five\n", "# Dimensions\n-4 5\n", "\x00\xff"]
)
def test_bart_headers_that_are_none(tmp_path: Path, text: str) -> None:
    path, header = write_cfl(tmp_path, "scan", [4, 5, 1, 3], np.zeros(60), header=text or " ")
    with pytest.raises(InvalidInputError) as caught:
        scan_of(file_request(path, header))
    assert caught.value.reason == "BART_HEADER"


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff# Dimensions\n4 5 1 3\n",
        "# Dimensions\n\n  \n4 5 1 3\n",
        "# Dimensions\n" + "4 5 1 3" + 14 * " 1" + "\n",
    ],
    ids=["mark", "empty lines", "18 dimensions"],
)
def test_bart_headers_with_what_does_not_matter(tmp_path: Path, text: str) -> None:
    path, header = write_cfl(tmp_path, "scan", [4, 5, 1, 3], np.zeros(60, np.complex64), header=text)
    found = scan_of(file_request(path, header))
    assert found.shape == (3, 4, 5)


def test_a_cfl_without_its_header(tmp_path: Path) -> None:
    path, _ = write_cfl(tmp_path, "scan", [4, 5, 1, 3], np.zeros(60))
    with pytest.raises(InvalidInputError, match=r"without its \.hdr"):
        scan_of(file_request(path))


def array_part(path: Path, values: np.ndarray, role: PartRole, shape: tuple[int, ...] | None = None) -> Part:
    values.tofile(path)
    return file_part(path, role, PartFormat.ARRAY, values.shape if shape is None else shape)


def test_arrays_of_k_space_mask_and_reference(tmp_path: Path) -> None:
    lines = np.arange(12) % 2 == 0
    kspace = array_part(tmp_path / "k", np.stack([FULL, FULL]), PartRole.KSPACE)
    mask = array_part(tmp_path / "m", lines, PartRole.MASK)
    images = np.random.default_rng(0).random((2, 16, 12)).astype(np.float32)
    reference = array_part(tmp_path / "r", images, PartRole.REFERENCE)
    request = ScanRequest(parts=(kspace, mask, reference))
    scan = scan_of(request)
    frames = list(condition(scan, request, FindingList()))
    assert len(frames) == 2
    np.testing.assert_array_equal(frames[0].mask, np.broadcast_to(lines, (16, 12)))
    volume = read_reference(request)
    assert volume is not None
    assert volume.shape == (2, 16, 12)
    np.testing.assert_array_equal(np.stack(list(volume.images())), images)


@pytest.mark.parametrize(
    ("shape", "reason", "error"),
    [
        ((3, 16, 12), "KSPACE_SHAPE", InvalidInputError),
        ((2, 3, 16, 12), "SIZE_MISMATCH", InvalidInputError),
        ((0, 3, 16, 12), "EMPTY_AXIS", InvalidInputError),
        ((1, 2**20, 2**20, 2**20), "FRAME_TOO_LARGE", LimitExceededError),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, shape: tuple[int, ...], reason: str, error: type[RecondError]) -> None:
    part = array_part(tmp_path / "k", FULL, PartRole.KSPACE, shape)
    with pytest.raises(error) as caught:
        scan_of(ScanRequest(parts=(part,)))
    assert caught.value.reason == reason


@pytest.mark.parametrize("values", [np.ones(11, np.uint8), np.full(12, 2, np.uint8)])
def test_mask_arrays_that_do_not_fit(tmp_path: Path, values: np.ndarray) -> None:
    kspace = array_part(tmp_path / "k", FULL[None], PartRole.KSPACE)
    with pytest.raises(InvalidInputError, match=r"mask|m has"):
        scan_of(ScanRequest(parts=(kspace, array_part(tmp_path / "m", values, PartRole.MASK))))


def test_a_mask_for_a_file_that_has_its_own(tmp_path: Path) -> None:
    path = write_mrd(tmp_path / "scan.h5", header_xml(ENCODING), cartesian(FULL, ENCODING))
    mask = array_part(tmp_path / "m", np.ones(12, np.uint8), PartRole.MASK)
    with pytest.raises(InvalidInputError) as caught:
        scan_of(file_request(path, mask))
    assert caught.value.reason == "MASK_UNEXPECTED"


def test_parts_that_are_missing_or_twice(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as caught:
        scan_of(ScanRequest())
    assert caught.value.reason == "NO_KSPACE"
    part = array_part(tmp_path / "k", FULL[None], PartRole.KSPACE)
    with pytest.raises(InvalidInputError) as caught:
        scan_of(ScanRequest(parts=(part, part)))
    assert caught.value.reason == "PART_TWICE"


@pytest.mark.parametrize("name", ["reconstruction_rss", "reconstruction_esc", "reconstruction"])
def test_reference_files(tmp_path: Path, name: str) -> None:
    images = np.random.default_rng(0).random((2, 16, 12))
    path = tmp_path / "r.h5"
    with h5py.File(path, "w") as file:
        file[name] = images
    volume = read_reference(ScanRequest(parts=(file_part(path, PartRole.REFERENCE),)))
    assert volume is not None
    assert volume.source == "reference file"
    np.testing.assert_allclose(np.stack(list(volume.images())), images, rtol=1e-6)


def test_a_reference_file_without_images(tmp_path: Path) -> None:
    path = tmp_path / "r.h5"
    with h5py.File(path, "w") as file:
        file["other"] = np.zeros(3)
    with pytest.raises(InvalidInputError) as caught:
        read_reference(ScanRequest(parts=(file_part(path, PartRole.REFERENCE),)))
    assert caught.value.reason == "REFERENCE_MISSING"


def test_a_file_with_a_user_block_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "block.h5"
    with h5py.File(path, "w", userblock_size=1024) as file:
        file["kspace"] = FULL[None]
    assert isinstance(scan_of(file_request(path)), KspaceScan)


def test_the_part_size_limit_holds_for_the_bytes_on_disk(tmp_path: Path) -> None:
    path = write_mrd(tmp_path / "scan.h5", header_xml(ENCODING), cartesian(FULL, ENCODING))
    with pytest.raises(LimitExceededError):
        scan_of(file_request(path, limits=Limits(max_scan_bytes=1000)))
