"""Streams of MRD version 2 through a gateway: over a socket, and through the pipes of a process."""

from __future__ import annotations

import io
import socket
import subprocess
import sys

import mrd
import mrd.tools.phantom
import numpy as np
import pytest
from waiting import eventually

import recond_client

PIXELS = 64


@pytest.fixture(scope="module")
def stream(tmp_path_factory) -> bytes:
    """A phantom of the reference tool: 2 repetitions, 4 coils."""
    path = tmp_path_factory.mktemp("mrd2") / "phantom.bin"
    command = [
        sys.executable,
        "-m",
        "mrd.tools.phantom",
        "--output",
        str(path),
        "--matrix",
        str(PIXELS),
        "--coils",
        "4",
    ]
    subprocess.run([*command, "--repetitions", "2"], check=True)
    return path.read_bytes()


def images_of(data: bytes) -> list[np.ndarray]:
    with mrd.BinaryMrdReader(io.BytesIO(data)) as reader:
        assert reader.read_header() is not None
        return [item.value.data for item in reader.read_data()]


@pytest.fixture(scope="module")
def expected(service, stream) -> np.ndarray:
    """The same stream, given to the service as a file."""
    with recond_client.Client(service.address) as client:
        return client.reconstruct(stream, model="rss").images


def pictures(images: list[np.ndarray]) -> np.ndarray:
    """(images, rows, columns), rows = readout."""
    return np.stack([image[0, 0].T for image in images])


def test_over_a_socket(service, start_gateway, stream, expected):
    gateway = start_gateway(service.address, listen=({"address": "127.0.0.1:0", "protocol": "mrd2"},))
    host, _, port = gateway.ports[0].address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(stream)
        received = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert np.array_equal(pictures(images_of(received)), expected)
    eventually(lambda: not gateway.services.spool.scans())


def test_through_pipes(service, stream, expected, tmp_path):
    command = [sys.executable, "-m", "recond_client", "gateway", "--mrd2", "--server", service.address]
    done = subprocess.run(
        [*command, "--spool", str(tmp_path / "spool")], input=stream, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    made = pictures(images_of(done.stdout))
    assert made.shape == expected.shape
    assert np.corrcoef(made.ravel(), expected.ravel())[0, 1] > 0.9
    assert b"INFO    recond scan" in done.stderr
    assert b"2 images" in done.stderr


@pytest.mark.parametrize(("cut", "code"), [(0, 3), (40, 3), (200, 3)])
def test_a_stream_that_is_none(service, stream, tmp_path, cut, code):
    command = [sys.executable, "-m", "recond_client", "gateway", "--mrd2", "--server", service.address]
    done = subprocess.run(
        [*command, "--spool", str(tmp_path / "spool")],
        input=stream[:cut],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code
    assert b"ERROR   " in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_stream_that_is_cut_off_gives_the_images_of_what_came(service, start_gateway, stream):
    gateway = start_gateway(service.address, listen=({"address": "127.0.0.1:0", "protocol": "mrd2"},))
    host, _, port = gateway.ports[0].address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(stream[: len(stream) * 3 // 4])
        connection.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    with mrd.BinaryMrdReader(io.BytesIO(received)) as reader:
        assert reader.read_header() is not None
        assert len(list(reader.read_data())) == 2
