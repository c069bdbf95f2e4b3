from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recond.v1 import reconstruction_pb2 as pb
from recond_client.errors import InputError
from recond_client.upload import Upload, upload_of


def sent(upload: Upload, chunk_bytes: int = 1 << 20) -> list[bytes]:
    """The bytes of each part, after a check of the framing."""
    parts = [b"" for _ in upload.parts]
    last = 0
    for message in upload.chunks(chunk_bytes):
        chunk = message.chunk
        assert chunk.part >= last
        assert chunk.offset == len(parts[chunk.part])
        assert 0 < len(chunk.data) <= chunk_bytes
        last = chunk.part
        parts[chunk.part] += chunk.data
    return parts


def wire(upload: Upload) -> list[pb.Part]:
    return [part.to_wire() for part in upload.parts]


@given(size=st.integers(1, 100), chunk=st.integers(1, 40))
def test_chunks_cover_everything(size: int, chunk: int) -> None:
    data = os.urandom(size)
    assert sent(upload_of(data), chunk) == [data]


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    path.write_bytes(b"x" * 3_000_000)
    upload = upload_of(path)
    (part,) = wire(upload)
    assert (part.role, part.format, part.name, part.size_bytes) == (
        pb.PART_ROLE_KSPACE,
        pb.PART_FORMAT_UNSPECIFIED,
        "scan.h5",
        3_000_000,
    )
    assert [len(message.chunk.data) for message in upload.chunks()] == [1 << 20, 1 << 20, 3_000_000 - (2 << 20)]
    assert sent(upload) == sent(upload)


@pytest.mark.parametrize("given", ["scan.cfl", "scan.hdr"])
def test_bart_pair(tmp_path: Path, given: str) -> None:
    (tmp_path / "scan.cfl").write_bytes(b"12345678")
    (tmp_path / "scan.hdr").write_bytes(b"# Dimensions\n1\n")
    upload = upload_of(str(tmp_path / given))
    samples, header = wire(upload)
    assert (samples.role, samples.format, samples.name) == (
        pb.PART_ROLE_KSPACE,
        pb.PART_FORMAT_BART_CFL,
        "scan.cfl",
    )
    assert (header.role, header.format, header.name) == (
        pb.PART_ROLE_KSPACE_HEADER,
        pb.PART_FORMAT_BART_HDR,
        "scan.hdr",
    )
    assert sent(upload) == [b"12345678", b"# Dimensions\n1\n"]


def test_half_a_bart_pair(tmp_path: Path) -> None:
    (tmp_path / "scan.cfl").write_bytes(b"12345678")
    with pytest.raises(InputError, match=r"scan.hdr does not exist: a BART scan is"):
        upload_of(tmp_path / "scan.cfl")


def test_file_object_is_read_from_where_it_stands_and_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    path.write_bytes(b"skipped-data")
    with path.open("rb") as file:
        file.seek(8)
        upload = upload_of(file)
        assert wire(upload)[0].name == "scan.h5"
        assert sent(upload) == [b"data"]
        assert sent(upload) == [b"data"]
        assert not file.closed
    assert sent(upload_of(io.BytesIO(b"abc"))) == [b"abc"]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: folder / "nowhere.h5", "FILE_NOT_FOUND"),
        (lambda folder: folder, "FILE_NOT_FOUND"),
        (lambda folder: b"", "EMPTY"),
        (lambda folder: io.StringIO("text"), "WRONG_TYPE"),
        (lambda folder: 17, "WRONG_TYPE"),
    ],
)
def test_sources_that_cannot_be(tmp_path: Path, make: object, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        upload_of(make(tmp_path))  # type: ignore[operator]
    assert caught.value.reason == reason
    assert caught.value.field == "source"


def test_pipe_has_no_size() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as file, os.fdopen(writer, "wb"), pytest.raises(InputError, match="cannot seek"):
        upload_of(file)


def test_file_that_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    path.write_bytes(b"x" * 100)
    upload = upload_of(path)
    path.write_bytes(b"x" * 10)
    with pytest.raises(InputError, match="10 of 100 bytes"):
        sent(upload)
    path.unlink()
    with pytest.raises(InputError, match="No such file"):
        sent(upload)


def test_file_that_grows_is_sent_as_announced(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    path.write_bytes(b"x" * 10)
    upload = upload_of(path)
    path.write_bytes(b"y" * 100)
    assert sent(upload) == [b"y" * 10]


def test_arrays() -> None:
    kspace = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5) * (1 + 2j)
    mask = np.array([True, False, True, True, False])
    reference = np.arange(2 * 4 * 5, dtype=np.float64).reshape(2, 4, 5)
    upload = upload_of(None, kspace, mask, reference)
    parts = wire(upload)
    assert [part.role for part in parts] == [pb.PART_ROLE_KSPACE, pb.PART_ROLE_MASK, pb.PART_ROLE_REFERENCE]
    assert all(part.format == pb.PART_FORMAT_ARRAY for part in parts)
    assert [tuple(part.shape) for part in parts] == [(2, 3, 4, 5), (5,), (2, 4, 5)]
    samples, lines, images = sent(upload, 7)
    np.testing.assert_array_equal(np.frombuffer(samples, "<c8").reshape(kspace.shape), kspace)
    assert lines == bytes([1, 0, 1, 1, 0])
    np.testing.assert_array_equal(np.frombuffer(images, "<f4").reshape(reference.shape), reference)


def test_array_orders_and_types() -> None:
    kspace = np.asfortranarray(np.arange(24).reshape(2, 3, 4).astype(">c16"))
    (part,) = upload_of(None, kspace, mask=None).parts
    assert part.shape == (1, 2, 3, 4)
    np.testing.assert_array_equal(np.frombuffer(sent(upload_of(None, kspace))[0], "<c8"), np.arange(24))
    mask = np.array([[0.0, 2.5, 0, 1]] * 3)
    assert sent(upload_of(None, kspace, mask))[1] == bytes([0, 1, 0, 1] * 3)


def test_contiguous_complex64_is_not_copied() -> None:
    kspace = np.ones((1, 2, 3, 4), np.complex64)
    upload = upload_of(None, kspace)
    kspace[...] = 5
    assert np.frombuffer(sent(upload)[0], "<c8")[0] == 5


@pytest.mark.parametrize(
    ("arguments", "field", "message"),
    [
        ({"kspace": np.ones((2, 3, 4))}, "kspace", "k-space is complex"),
        ({"kspace": np.ones((2, 3), np.complex64)}, "kspace", "has shape"),
        ({"kspace": np.ones((0, 2, 3), np.complex64)}, "kspace", "has shape"),
        ({"kspace": [[1j], [1j, 2j]]}, "kspace", "not an array"),
        ({"kspace": np.full((1, 1, 1), 1e300 + 0j)}, "kspace", "beyond single precision"),
        ({"kspace": np.ones((1, 2, 3), np.complex64), "mask": np.ones(4)}, "mask", r"is \(3,\) or \(2, 3\)"),
        ({"kspace": np.ones((1, 2, 3), np.complex64), "mask": ["a", "b", "c"]}, "mask", "has type"),
        ({"kspace": np.ones((1, 2, 3), np.complex64), "reference": np.ones((2, 3)) * 1j}, "reference", "magnitude"),
        ({"kspace": np.ones((1, 2, 3), np.complex64), "reference": np.ones(3)}, "reference", "has shape"),
        ({"kspace": np.ones((1, 2, 3), np.complex64), "reference": "/nowhere.h5"}, "reference", "does not exist"),
        ({}, "source", "either"),
        ({"source": b"x", "kspace": np.ones((1, 2, 3), np.complex64)}, "source", "either"),
        ({"source": b"x", "mask": np.ones(3)}, "mask", "brings its own"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict[str, object], field: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        upload_of(**{"source": None, **arguments})  # type: ignore[arg-type]
    assert caught.value.field == field
    assert caught.value.status == "INVALID_ARGUMENT"
