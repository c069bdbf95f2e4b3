"""Readouts straight from the bytes of a file: the same as the library gives, and nothing else from damaged files."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest
from raw_builders import RECORD, Encoding, Readout, file_request, header_xml, noise_readouts, write_mrd

from recond_service.conditioning import condition
from recond_service.ingest import ismrmrd as reader
from recond_service.ingest import read_scan
from recond_service.ingest.records import RecordTable
from recond_service.types import AcquisitionBlock, FindingList, InvalidInputError

ENCODING = Encoding((64, 48), (400.0, 200.0), (32, 48))


def readouts(count: int, coils: int, samples: int, **changes: object) -> list[Readout]:
    rng = np.random.default_rng(count)
    values = rng.standard_normal((count, coils, samples, 2)).astype(np.float32).view(np.complex64)[..., 0]
    return [Readout(value, step % 48, trajectory_dimensions=step % 3, **changes) for step, value in enumerate(values)]


def blocks_of(path: Path) -> list[AcquisitionBlock]:
    return list(read_scan(file_request(path), FindingList()).source.blocks())


def joined(blocks: list[AcquisitionBlock]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([b.headers for b in blocks]), np.concatenate([b.samples for b in blocks])


def both_ways(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[AcquisitionBlock], list[AcquisitionBlock]]:
    plain = blocks_of(path)
    with monkeypatch.context() as patch:
        patch.setattr(RecordTable, "of", classmethod(lambda *_: None))
        library = blocks_of(path)
    return plain, library


def is_plain(path: Path) -> bool:
    with h5py.File(path) as file:
        return RecordTable.of(file["dataset/data"], "dataset/data") is not None


# 3 and 40 samples: several readouts in one collection of the heap, and of odd sizes; 700: one each.
@pytest.mark.parametrize("samples", [3, 40, 700])
@pytest.mark.parametrize("storage", [{"chunks": (1,)}, {"chunks": (7,)}, {"chunks": (5,), "compression": "gzip"}, {}])
def test_the_library_and_the_bytes_say_the_same(
    tmp_path: Path, samples: int, storage: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_mrd(tmp_path / "a.h5", header_xml(ENCODING), readouts(90, 3, samples))
    with h5py.File(path, "a") as file:
        table = file["dataset/data"][:]
        del file["dataset/data"]
        file["dataset"].create_dataset("data", data=table, **storage)
    assert is_plain(path) == (list(storage) == ["chunks"])
    plain, library = both_ways(path, monkeypatch)
    for one, other in zip(joined(plain), joined(library), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(plain[0]) == 16


def test_readouts_of_all_sizes_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = [r for size in (5, 900, 31, 64, 2) for r in readouts(40, 2, size)]
    order = np.random.default_rng(0).permutation(len(mixed))
    path = write_mrd(tmp_path / "a.h5", header_xml(ENCODING), [mixed[number] for number in order])
    plain, library = both_ways(path, monkeypatch)
    for one, other in zip(joined(plain), joined(library), strict=True):
        np.testing.assert_array_equal(one, other)
    assert sum(len(block) for block in plain) == 200


def test_files_written_readout_by_readout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.h5"
    written = readouts(30, 2, 50)
    with ismrmrd.Dataset(str(path), mode="w") as dataset:
        dataset.write_xml_header(header_xml(ENCODING).encode())
        for readout in written:
            dataset.append_acquisition(ismrmrd.Acquisition.from_array(readout.data))
    assert is_plain(path)
    plain, library = both_ways(path, monkeypatch)
    np.testing.assert_array_equal(joined(plain)[1], np.concatenate([r.data.reshape(-1) for r in written]))
    np.testing.assert_array_equal(joined(plain)[0], joined(library)[0])


def test_records_that_were_never_written_are_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_mrd(tmp_path / "a.h5", header_xml(ENCODING), readouts(5, 2, 20))
    with h5py.File(path, "a") as file:
        file["dataset/data"].resize((9,))
    plain, library = both_ways(path, monkeypatch)
    np.testing.assert_array_equal(joined(plain)[0], joined(library)[0])
    assert [len(b) for b in plain] == [9]


def references(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of a file, and a view of the references to samples in them."""
    with h5py.File(path) as file:
        table = RecordTable.of(file["dataset/data"], "dataset/data")
    assert table is not None
    raw = np.fromfile(path, np.uint8)
    places = table.addresses[:, None] + table.data_at + np.arange(16)
    return raw, places


@pytest.mark.parametrize(
    ("at", "value"), [(4, 0xFF), (4, 1), (11, 0x7F), (12, 77)], ids=["elsewhere", "shifted", "far away", "number"]
)
@pytest.mark.parametrize("samples", [3, 900])
def test_references_to_nothing_are_damage(tmp_path: Path, at: int, value: int, samples: int) -> None:
    path = write_mrd(tmp_path / "a.h5", header_xml(ENCODING), readouts(20, 2, samples))
    raw, places = references(path)
    raw[places[7, at]] = value
    raw.tofile(path)
    with pytest.raises(InvalidInputError) as caught:
        blocks_of(path)
    assert caught.value.reason == "HDF5_DAMAGED"
    assert caught.value.field == "dataset/data[7]"


@pytest.mark.parametrize("size", [0, 40, 1 << 40])
def test_collections_of_an_impossible_size_are_damage(tmp_path: Path, size: int) -> None:
    path = write_mrd(tmp_path / "a.h5", header_xml(ENCODING), readouts(20, 2, 3))
    raw, places = references(path)
    address = int(raw[places[0, 4:12]].view("<u8")[0])
    raw[address + 8 : address + 16] = np.array([size], "<u8").view(np.uint8)
    raw.tofile(path)
    with pytest.raises(InvalidInputError) as caught:
        blocks_of(path)
    assert caught.value.reason == "HDF5_DAMAGED"


@pytest.mark.parametrize("order", [1, -1])
def test_without_an_announcement_the_commonest_number_of_channels_counts(tmp_path: Path, order: int) -> None:
    body, surface = readouts(3, 2, 64), readouts(48, 4, 64)
    path = write_mrd(tmp_path / "a.h5", header_xml(ENCODING), noise_readouts(4) + (body + surface)[::order])
    findings = FindingList()
    request = file_request(path)
    (frame,) = condition(read_scan(request, findings), request, findings)
    assert frame.kspace.shape[0] == 4
    assert frame.mask.all()
    assert {f.code: f.count for f in findings}["channels-differ"] == 3


_STREAM = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from raw_builders import file_request
from recond_service.conditioning import condition
from recond_service.ingest import read_scan
from recond_service.types import FindingList
def address_space():
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
request = file_request(Path(sys.argv[1]))
limit = address_space() + int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
print(sum(1 for _ in condition(read_scan(request, FindingList()), request, FindingList())))
"""


def repeated_file(path: Path, slices: int, lines: int, coils: int, samples: int) -> int:
    """Write a scan of many slices and return its bytes of samples."""
    encoding = Encoding((samples, lines), (400.0, 200.0), (samples // 2, lines), (200.0, 200.0))
    one = [Readout(r.data, r.step) for r in readouts(lines, coils, samples)]
    table = np.zeros(lines, RECORD)
    for number, readout in enumerate(one):
        table["head"][number] = readout.header()
        table["data"][number] = readout.data.reshape(-1).view(np.float32)
        table["traj"][number] = np.zeros(0, np.float32)
        table["head"]["idx"]["kspace_encode_step_1"][number] = number
    with h5py.File(path, "w") as file:
        group = file.create_group("dataset")
        text = group.create_dataset("xml", (1,), h5py.string_dtype())
        text[0] = header_xml(encoding)
        data = group.create_dataset("data", (slices * lines,), RECORD, chunks=(1,), maxshape=(None,))
        for number in range(slices):
            table["head"]["idx"]["slice"] = number
            data[number * lines : (number + 1) * lines] = table
    return slices * lines * coils * samples * 8


def test_a_file_streams_through_half_its_size(tmp_path: Path) -> None:
    """The limit is address space beyond the loaded program; as 2 GB through 1 GB, at a tenth of the size."""
    path = tmp_path / "long.h5"
    size = repeated_file(path, slices=50, lines=64, coils=8, samples=1024)
    assert size > 200e6
    support = str(Path(__file__).parents[2] / "support")
    done = subprocess.run(
        [sys.executable, "-c", _STREAM, str(path), support, str(size // 2)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.strip() == "50", done.stderr[-2000:]
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


def test_blocks_are_small(tmp_path: Path) -> None:
    path = tmp_path / "long.h5"
    repeated_file(path, slices=3, lines=64, coils=8, samples=2048)
    sizes = [block.samples.nbytes for block in blocks_of(path)]
    assert max(sizes) <= reader._BLOCK_BYTES
    assert sum(sizes) == 3 * 64 * 8 * 2048 * 8
