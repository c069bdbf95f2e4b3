"""Files that lie, point elsewhere, or are damaged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_builders import (
    RECORD,
    Encoding,
    Phantom,
    Readout,
    cartesian,
    file_request,
    header_xml,
    noise_readouts,
    write_mrd,
)

from recond_service.conditioning import condition
from recond_service.ingest import read_scan
from recond_service.ingest.hdf5 import h5py_errors
from recond_service.types import (
    FindingList,
    Frame,
    InvalidInputError,
    LimitExceededError,
    Limits,
    RecondError,
    UnsupportedDataError,
)

ENCODING = Encoding((16, 12), (200.0, 200.0), (16, 12), (200.0, 200.0))
FULL = ENCODING.kspace(Phantom())


def load(path: Path, **fields: object) -> list[Frame]:
    findings = FindingList()
    request = file_request(path, **fields)
    return list(condition(read_scan(request, findings), request, findings))


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def refused(
    path: Path, reason: str, field: str | None = None, error: type[RecondError] = InvalidInputError, **fields: object
) -> RecondError:
    before = open_files()
    with pytest.raises(error) as caught:
        load(path, **fields)
    found = caught.value.with_traceback(None)
    found.__cause__ = found.__context__ = None
    assert type(found) is error
    assert found.reason == reason
    if field is not None:
        assert found.field == field
    assert len(found.message) > 30
    del caught
    assert open_files() <= before
    return found


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_mrd(tmp_path / "scan.h5", header_xml(ENCODING), cartesian(FULL, ENCODING))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = FULL[None]
        file["raw"] = np.zeros(100, np.float32)
    write_mrd(path, header_xml(ENCODING), cartesian(FULL, ENCODING))
    return path


def test_a_good_file_is_read(scan: Path) -> None:
    assert len(load(scan)) == 1


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n", b"\x00" * 4096, b"PK\x03\x04" + bytes(100)])
def test_not_hdf5(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError) as caught:
        load(path)
    assert caught.value.reason in {"NOT_HDF5", "HDF5_DAMAGED"}
    assert "x.h5" in caught.value.message


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9, 0.999])
def test_truncated(scan: Path, fraction: float) -> None:
    data = scan.read_bytes()
    scan.write_bytes(data[: int(len(data) * fraction)])
    error = refused(scan, "HDF5_DAMAGED")
    assert "truncated" in error.message


def test_no_groups(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["something"] = np.zeros(3)
    refused(path, "NOT_RAW_DATA", "dataset")


@pytest.mark.parametrize("member", ["xml", "data"])
def test_a_missing_member_is_named(scan: Path, member: str) -> None:
    with h5py.File(scan, "a") as file:
        del file["dataset"][member]
    refused(scan, "HDF5_MISSING", f"dataset/{member}")


def test_no_acquisitions(tmp_path: Path) -> None:
    refused(write_mrd(tmp_path / "x.h5", header_xml(ENCODING), []), "NO_ACQUISITIONS")
    refused(write_mrd(tmp_path / "y.h5", header_xml(ENCODING), noise_readouts(3)), "NO_ACQUISITIONS")


@pytest.mark.parametrize("which", ["dataset", "dataset/xml", "dataset/data", "kspace"])
@pytest.mark.parametrize("kind", ["soft", "external"])
def test_links_are_not_followed(tmp_path: Path, scan: Path, secret: Path, which: str, kind: str) -> None:
    path = scan
    with h5py.File(path, "a") as file:
        if which in file:
            del file[which]
        file[which] = (
            h5py.ExternalLink(str(secret), f"/{which}") if kind == "external" else h5py.SoftLink("/elsewhere/object")
        )
    error = refused(path, "HDF5_LINK", which)
    assert f"{kind} link" in error.message


def test_a_soft_link_within_the_file_is_not_followed_either(scan: Path) -> None:
    with h5py.File(scan, "a") as file:
        file.move("dataset", "real")
        file["dataset"] = h5py.SoftLink("/real")
    assert len(load(scan)) == 1
    with h5py.File(scan, "a") as file:
        file.move("real/data", "real/data_")
        file["real/data"] = h5py.SoftLink("/real/data_")
    refused(scan, "HDF5_LINK", "real/data")


def test_virtual_datasets_are_refused(tmp_path: Path, secret: Path) -> None:
    path = tmp_path / "virtual.h5"
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout((1, 3, 16, 12), np.complex64)
        layout[:] = h5py.VirtualSource(str(secret), "kspace", (1, 3, 16, 12))
        file.create_virtual_dataset("kspace", layout)
    refused(path, "HDF5_VIRTUAL_DATASET", "kspace")


@pytest.mark.parametrize("name", ["kspace", "mask", "reconstruction_rss", "ismrmrd_header"])
def test_external_storage_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "external.h5"
    with h5py.File(path, "w") as file:
        if name != "kspace":
            file["kspace"] = FULL[None]
        file.create_dataset(name, (4,), "<f4", external=[("/etc/passwd", 0, 16)])
    refused(path, "HDF5_EXTERNAL_STORAGE", name)


def test_unknown_filters_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "filter.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", data=np.zeros((1, 3, 16, 12), np.int32), chunks=(1, 3, 16, 12), scaleoffset=0)
    refused(path, "HDF5_FILTER", "kspace")


@pytest.mark.parametrize(
    "filters", [{"compression": "gzip"}, {"compression": "lzf"}, {"shuffle": True}, {"fletcher32": True}]
)
def test_usual_filters_are_read(tmp_path: Path, filters: dict[str, object]) -> None:
    path = tmp_path / "filter.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", data=FULL[None], chunks=(1, 3, 16, 12), **filters)
    assert len(load(path)) == 1


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((1_000_000, 16, 640, 368), "SCAN_TOO_LARGE"),
        ((1, 1, 200_000, 1000), "FRAME_TOO_LARGE"),
        ((2_000_000, 1, 2, 2), "TOO_MANY_IMAGES"),
    ],
)
def test_claims_are_checked_before_anything_is_allocated(tmp_path: Path, shape: tuple[int, ...], reason: str) -> None:
    path = tmp_path / "large.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", shape, np.complex64, chunks=(1, 1, 2, 2), compression="gzip")
    assert path.stat().st_size < 100_000
    refused(path, reason, "kspace", LimitExceededError)


def test_chunks_that_unpack_to_too_much_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", (64, 1, 64, 64), np.complex64, chunks=(64, 1, 64, 64), compression="gzip")
    refused(path, "CHUNK_TOO_LARGE", "kspace", LimitExceededError, limits=Limits(max_frame_bytes=1 << 20))


def test_a_claim_of_many_readouts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "many.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("dataset")
        group.create_dataset("xml", data=[header_xml(ENCODING)], dtype=h5py.string_dtype())
        group.create_dataset("data", (1 << 40,), RECORD, chunks=(1,))
    refused(path, "SCAN_TOO_LARGE", "dataset/data", LimitExceededError)


def test_readouts_that_share_their_samples_are_counted_while_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "shared.h5"
    large = Readout(np.ones((3, 512), np.complex64))
    table = np.zeros(400, RECORD)
    table["head"] = large.header()
    table["traj"][:] = [np.zeros(0, np.float32)] * len(table)
    table["data"][:] = [large.data.reshape(-1).view(np.float32)] + [np.zeros(0, np.float32)] * (len(table) - 1)
    with h5py.File(path, "w") as file:
        group = file.create_group("dataset")
        group.create_dataset("xml", data=[header_xml(ENCODING)], dtype=h5py.string_dtype())
        dataset = group.create_dataset("data", data=table)
        start, kind = dataset.id.get_offset(), dataset.id.get_type()
        record, member = kind.get_size(), kind.get_member_offset(2)
    data = bytearray(path.read_bytes())
    pointer = data[start + member : start + member + 16]
    for number in range(1, len(table)):  # every readout now points at the samples of the first
        data[start + number * record + member : start + number * record + member + 16] = pointer
    path.write_bytes(data)
    assert path.stat().st_size < 1 << 20
    refused(path, "SCAN_TOO_LARGE", "dataset/data", LimitExceededError, limits=Limits(max_scan_bytes=1 << 20))


def test_unwritten_readouts_are_empty_readouts(tmp_path: Path) -> None:
    path = tmp_path / "unwritten.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("dataset")
        group.create_dataset("xml", data=[header_xml(ENCODING)], dtype=h5py.string_dtype())
        group.create_dataset("data", (10,), RECORD, chunks=(1,))
    refused(path, "NO_ACQUISITIONS", "acquisitions")


@pytest.mark.parametrize("field", ["number_of_samples", "active_channels"])
def test_headers_that_do_not_fit_their_samples(scan: Path, field: str) -> None:
    with h5py.File(scan, "a") as file:
        row = file["dataset/data"][7]
        row["head"][field] += 1
        file["dataset/data"][7] = row
    error = refused(scan, "ACQUISITION_SIZE", "dataset/data[7].data")
    assert "96 values" in error.message


def test_an_encoding_that_is_not_there(scan: Path) -> None:
    with h5py.File(scan, "a") as file:
        row = file["dataset/data"][9]
        row["head"]["encoding_space_ref"] = 4
        file["dataset/data"][9] = row
    error = refused(scan, "ENCODING_UNKNOWN", "dataset/data[9].encoding_space_ref")
    assert "numbered 0 to 0: correct the readouts" in error.message


@pytest.mark.parametrize("dtype", [np.dtype("<f4"), np.dtype([("head", "<u2"), ("traj", "<f4"), ("data", "<f4")])])
def test_another_layout_of_readouts(tmp_path: Path, dtype: np.dtype) -> None:
    path = tmp_path / "layout.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("dataset")
        group.create_dataset("xml", data=[header_xml(ENCODING)], dtype=h5py.string_dtype())
        group.create_dataset("data", (3,), dtype)
    refused(path, "ACQUISITION_LAYOUT", "dataset/data")


def test_a_datatype_that_crashes_the_library_is_refused(scan: Path) -> None:
    data = bytearray(scan.read_bytes())
    data[data.index(b"traj\0\0\0\0") + 13] |= 2  # behind the name, the offset, and version and class of the datatype
    scan.write_bytes(data)
    refused(scan, "ACQUISITION_LAYOUT", "dataset/data")


def test_the_matrix_of_a_bare_stream_is_refused(tmp_path: Path) -> None:
    encoding = Encoding((1, 1), (200.0, 200.0), (1, 1), (200.0, 200.0), limits=(0, 11, 6))
    path = write_mrd(tmp_path / "bare.h5", header_xml(encoding), [Readout(FULL[:, :, n], n) for n in range(12)])
    error = refused(path, "MATRIX_MISSING", "xml.encoding.encodedSpace.matrixSize")
    assert "1 x 1 x 1" in error.message


@pytest.mark.parametrize("trajectory", ["radial", "spiral", "goldenangle", "epi", "other"])
def test_other_trajectories_are_refused_as_unsupported(tmp_path: Path, trajectory: str) -> None:
    encoding = Encoding((16, 12), trajectory=trajectory)
    path = write_mrd(tmp_path / "x.h5", header_xml(encoding), cartesian(FULL, ENCODING))
    error = refused(path, "NOT_CARTESIAN", "xml.encoding.trajectory", UnsupportedDataError)
    assert trajectory in error.message
    assert error.status == "FAILED_PRECONDITION"


def test_xml_that_is_no_text(scan: Path) -> None:
    with h5py.File(scan, "a") as file:
        del file["dataset/xml"]
        file["dataset/xml"] = np.zeros(1)
    refused(scan, "HEADER_NOT_XML", "dataset/xml")


def test_many_headers(scan: Path) -> None:
    with h5py.File(scan, "a") as file:
        del file["dataset/xml"]
        file.create_dataset("dataset/xml", (1000,), h5py.string_dtype())
    refused(scan, "HEADER_COUNT", "dataset/xml")


@pytest.mark.parametrize("values", [np.int64(1 << 40), np.zeros(3, "S5"), np.zeros((), [("a", "<i4")])])
def test_a_fastmri_header_that_is_no_text(tmp_path: Path, values: np.ndarray) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = FULL[None]
        file["ismrmrd_header"] = values
    refused(path, "HEADER_COUNT" if np.size(values) > 1 else "HEADER_NOT_XML", "ismrmrd_header")


def test_a_want_of_memory_in_the_library_is_a_memory_error() -> None:
    with pytest.raises(MemoryError), h5py_errors("data"):
        raise OSError("Can't synchronously read data (memory allocation failed for scratch buffer)")


def test_a_large_header(scan: Path) -> None:
    refused(scan, "HEADER_TOO_LARGE", error=LimitExceededError, limits=Limits(max_xml_bytes=64))


@pytest.mark.parametrize(
    "values", [np.zeros((1, 3, 16, 12), np.float32), np.zeros((1, 3, 16, 12), "S4"), np.zeros(7, np.complex64)]
)
def test_k_space_of_another_kind(tmp_path: Path, values: np.ndarray) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = values
    assert refused(path, "KSPACE_TYPE" if values.dtype.kind != "c" else "KSPACE_SHAPE", "kspace")


def test_a_missing_file(tmp_path: Path) -> None:
    good = tmp_path / "gone.h5"
    good.write_bytes(b"x")
    request = file_request(good)
    good.unlink()
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_scan(request, FindingList())


# A flipped bit may reach the HDF5 library itself, which has been known to crash: children do that where nobody is hurt.
_CHILD = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np
from pathlib import Path
from raw_builders import file_request
from recond_service.conditioning import condition
from recond_service.ingest import read_scan
from recond_service.types import FindingList, RecondError
path, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
data, rng, outcomes = path.read_bytes(), np.random.default_rng(seed), []
for number in range(count):
    damaged = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        damaged[int(rng.integers(len(damaged)))] ^= 1 << int(rng.integers(8))
    if rng.random() < 0.3:
        del damaged[int(rng.integers(len(damaged))):]
    victim = path.with_name(f"damaged-{seed}-{number}.h5")
    victim.write_bytes(damaged)
    findings, request = FindingList(), file_request(victim)
    try:
        for frame in condition(read_scan(request, findings), request, findings):
            assert np.isfinite(frame.kspace).all()
    except (RecondError, MemoryError):  # a damaged size may ask for more memory than there is: the process of a scan says so
        pass
    victim.unlink()
"""


@pytest.mark.parametrize("kind", ["ismrmrd", "fastmri"])
def test_damaged_files_raise_nothing_else(tmp_path: Path, scan: Path, kind: str) -> None:
    path = scan
    if kind == "fastmri":
        path = tmp_path / "fast.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("kspace", data=FULL[None], chunks=(1, 3, 16, 12), compression="gzip")
            file["mask"] = np.ones(12, bool)
            file["ismrmrd_header"] = header_xml(ENCODING)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path), "5", "150"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_random_truncation_raises_nothing_else(scan: Path, data: st.DataObject) -> None:
    whole = scan.read_bytes()
    victim = scan.with_name("cut.h5")
    victim.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(RecondError):
        load(victim)
