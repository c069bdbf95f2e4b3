"""Files that are damaged, wrong or hostile, sent over the wire: each gets its status, field and remedy, and harms nobody else."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import grpc
import h5py
import numpy as np
import psutil
import pytest
from raw_builders import LAST_IN_SLICE, Encoding, Phantom, Readout, cartesian, header_xml, noise_readouts, write_mrd
from recond_testing import fastmri_file, random_kspace, reconstruct, refused, requests_for, rss_of
from waiting import eventually

from recond_service.sandbox.pool import _SPARES as SPARES

INVALID, PRECONDITION, EXHAUSTED = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
ENCODING = Encoding()
KSPACE = ENCODING.kspace(Phantom())


def mrd(path: Path, xml: str | None = None, readouts: list[Readout] | None = None) -> bytes:
    readouts = cartesian(KSPACE, ENCODING) if readouts is None else readouts
    return write_mrd(path, header_xml(ENCODING) if xml is None else xml, readouts).read_bytes()


def changed(number: int, data: np.ndarray | None = None, **values: object) -> list[Readout]:
    readouts = cartesian(KSPACE, ENCODING)
    old = readouts[number]
    fields = {"step": old.step, "flags": old.flags, **values}
    readouts[number] = Readout(old.data if data is None else data, **fields)
    return readouts


def hdf5(fill: Callable[[h5py.File], None]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        fill(file)
    return buffer.getvalue()


def poisoned(value: complex) -> np.ndarray:
    data = cartesian(KSPACE, ENCODING)[3].data.copy()
    data[1, 5] = value
    return data


def bomb() -> str:
    entities = '<!ENTITY a0 "aaaaaaaaaa">' + "".join(
        f'<!ENTITY a{level} "{f"&a{level - 1};" * 10}">' for level in range(1, 10)
    )
    return (
        header_xml(ENCODING)
        .replace("<ismrmrdHeader", f"<!DOCTYPE x [{entities}]><ismrmrdHeader", 1)
        .replace("<encoding>", "<userParameters>&a9;</userParameters><encoding>", 1)
    )


def external_entity() -> str:
    text = header_xml(ENCODING).replace(
        "<ismrmrdHeader", '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><ismrmrdHeader', 1
    )
    return text.replace("<encoding>", "<userParameters>&f;</userParameters><encoding>", 1)


def virtual(secret: Path) -> bytes:
    layout = h5py.VirtualLayout((1, 2, 8, 8), np.complex64)
    layout[:] = h5py.VirtualSource(str(secret), "kspace", (1, 2, 8, 8))
    return hdf5(lambda file: file.create_virtual_dataset("kspace", layout))


def stored_outside(secret: Path) -> bytes:
    def fill(file: h5py.File) -> None:
        file.create_dataset("kspace", (1, 2, 8, 8), np.complex64, external=[(str(secret), 0, 1024)])

    return hdf5(fill)


def huge(file: h5py.File) -> None:
    file.create_dataset("kspace", (100, 64, 4096, 4096), np.complex64, chunks=(1, 1, 64, 64))


def huge_readouts(file: h5py.File) -> None:
    made = file.create_group("dataset")
    made.create_dataset("xml", data=[header_xml(ENCODING)], dtype=h5py.string_dtype())
    from raw_builders import RECORD

    made.create_dataset("data", (1 << 33,), RECORD, chunks=(1,))


CASES: dict[str, tuple[Callable[[Path], bytes], grpc.StatusCode, str]] = {
    "not HDF5": (lambda path: b"GIF89a" * 100, INVALID, ""),
    "truncated": (lambda path: mrd(path)[:-5000], INVALID, ""),
    "truncated to its signature": (lambda path: mrd(path)[:8], INVALID, ""),
    "no dataset": (lambda path: hdf5(lambda file: file.create_group("other")), INVALID, ""),
    "group without data": (
        lambda path: hdf5(lambda f: f.create_dataset("dataset/xml", data=[b"<x/>"])),
        INVALID,
        "dataset",
    ),
    "no acquisitions": (lambda path: mrd(path, readouts=[]), INVALID, "acquisitions"),
    "only noise": (lambda path: mrd(path, readouts=noise_readouts(3)), INVALID, ""),
    "NaN": (lambda path: mrd(path, readouts=changed(3, poisoned(np.nan))), INVALID, "[3]"),
    "Inf": (lambda path: mrd(path, readouts=changed(3, poisoned(np.inf))), INVALID, "[3]"),
    "NaN in fastMRI": (lambda path: fastmri_file(np.full((1, 2, 8, 8), np.nan, np.complex64)), INVALID, "kspace"),
    "bare stream": (
        lambda path: mrd(path, header_xml(Encoding(matrix=(1, 1), recon_matrix=(1, 1)))),
        INVALID,
        "encod",
    ),
    "radial": (lambda path: mrd(path, header_xml(Encoding(trajectory="radial"))), PRECONDITION, "trajectory"),
    "spiral": (lambda path: mrd(path, header_xml(Encoding(trajectory="spiral"))), PRECONDITION, "trajectory"),
    "claims too much": (lambda path: hdf5(huge), EXHAUSTED, "kspace"),
    "claims too many readouts": (lambda path: hdf5(huge_readouts), EXHAUSTED, "dataset/data"),
    "entity bomb": (lambda path: mrd(path, bomb()), INVALID, "xml"),
    "external entity": (lambda path: mrd(path, external_entity()), INVALID, "xml"),
    "XML cut off": (lambda path: mrd(path, header_xml(ENCODING)[:300]), INVALID, "xml"),
    "external link": (
        lambda path: hdf5(
            lambda file: file.__setitem__("kspace", h5py.ExternalLink(str(secret_beside(path)), "kspace"))
        ),
        INVALID,
        "kspace",
    ),
    "soft link": (
        lambda path: hdf5(
            lambda file: (file.__setitem__("kspace", h5py.SoftLink("/x")), file.__setitem__("x", np.ones(4)))
        ),
        INVALID,
        "kspace",
    ),
    "virtual dataset": (lambda path: virtual(secret_beside(path)), INVALID, "kspace"),
    "external storage": (lambda path: stored_outside(secret_beside(path)), INVALID, "kspace"),
    "text for k-space": (lambda path: hdf5(lambda file: file.__setitem__("kspace", "abc")), INVALID, "kspace"),
    "k-space of two axes": (lambda path: fastmri_file(random_kspace(8, 8)), INVALID, "kspace"),
    "mask of another width": (
        lambda path: fastmri_file(random_kspace(1, 2, 8, 8), mask=np.ones(9, bool)),
        INVALID,
        "mask",
    ),
}


def secret_beside(path: Path) -> Path:
    """A file of the server that a hostile upload points at."""
    secret = path.with_name("secret.h5")
    secret.write_bytes(fastmri_file(random_kspace(1, 2, 8, 8)))
    return secret


@pytest.mark.parametrize("name", CASES)
def test_bad_file_gets_its_status_and_field(stub, tmp_path, name):
    build, code, field = CASES[name]
    found = refused(stub.Reconstruct(requests_for(build(tmp_path / "scan.h5"), model="rss"), timeout=60))
    assert found.code is code, found
    assert field in found.field, found
    assert found.reason not in {"", "SCAN_PROCESS", "DEFECT"}, found
    assert len(found.message) > 20
    assert found.retry_after is None
    if code is PRECONDITION:
        assert "Cartesian" in found.message
    kspace = random_kspace(1, 2, 16, 16)
    np.testing.assert_allclose(reconstruct(stub, fastmri_file(kspace), model="rss").volume, rss_of(kspace), rtol=1e-5)


def test_all_zero_slice_becomes_a_zero_image_with_a_finding(stub):
    kspace = random_kspace(3, 2, 16, 16)
    kspace[1] = 0
    for model in ("rss", "cg-sense", "l1-wavelet"):
        mask = np.ones(16, bool)
        answer = reconstruct(stub, fastmri_file(kspace, mask=mask), model=model)
        assert not answer.volume[1].any()
        assert np.isfinite(answer.volume).all()
        assert answer.volume[0].any()
        assert any(finding.code == "slice-empty" for finding in answer.summary.findings)


def test_bad_files_leave_no_memory_descriptors_or_processes_behind(service, stub, tmp_path):
    front_end = psutil.Process(service.process.pid)
    files = [build(tmp_path / f"{number}.h5") for number, (build, *_) in enumerate(CASES.values())]

    def send_all() -> None:
        for data in files:
            refused(stub.Reconstruct(requests_for(data, model="rss"), timeout=60))

    def state() -> tuple[int, int]:
        """Return descriptors and processes, once nothing is under way."""
        eventually(lambda: service.metrics()["recond_requests_in_flight"] == 0)
        eventually(lambda: len(service.zygote.children()) == SPARES)
        with contextlib.suppress(psutil.NoSuchProcess):
            processes = [front_end, *front_end.children(recursive=True)]
            return sum(process.num_fds() for process in processes), len(processes)
        return state()

    send_all()
    before, memory = state(), front_end.memory_info().rss
    for _ in range(3):
        send_all()
    eventually(lambda: all(now <= then for now, then in zip(state(), before, strict=True)))
    assert front_end.memory_info().rss < memory * 1.05
    assert service.metrics()["recond_bytes_in_flight"] == 0


def test_last_line_flag_is_not_needed(stub, tmp_path):
    readouts = [
        Readout(readout.data, readout.step, readout.flags & ~LAST_IN_SLICE) for readout in cartesian(KSPACE, ENCODING)
    ]
    answer = reconstruct(stub, mrd(tmp_path / "scan.h5", readouts=readouts), model="rss")
    assert answer.summary.images == 1
