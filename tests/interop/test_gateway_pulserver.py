"""pulserver as a scanner and its proxy as a client: a scan goes through to `recond gateway`, and its images come to its console."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import ismrmrd
import numpy as np
import pytest
from gateway_process import gateway_process
from pulserver_scans import PULSERVER, SCANS, SPHERES, environment, needs_pulserver, run, scan_command
from recond_testing import Service
from scipy import ndimage
from waiting import eventually

pytestmark = [needs_pulserver, pytest.mark.timeout(300)]

PROTOCOL = SCANS["oblique gradient echo"]


@pytest.fixture
def gateway(service: Service, tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "gateway"
    folder.mkdir()
    with gateway_process(folder, service.address) as (_, address):
        yield address


@contextlib.contextmanager
def proxy(folder: Path, gateway: str) -> Iterator[str]:
    """Its proxy, which adds to the bare stream what the sequence says, and forwards it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--store", "store", "--port", str(port), "--forward", gateway, "--forward-config", "default"]
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(
            [PULSERVER, "proxy", *options], cwd=folder, env=environment(), stdout=log, stderr=log
        )
    try:
        eventually(lambda: listens(port), 60)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def places(images: list[ismrmrd.Image]) -> np.ndarray:
    """Centres of mass (LPS, mm) of the spheres by what the headers of the images say, the largest first."""
    images = sorted(images, key=lambda image: float(np.dot(list(image.position), list(image.slice_dir))))
    volume = np.stack([image.data[0, 0] for image in images])  # (slices, columns, rows): y, x
    labels, count = ndimage.label(volume > 0.35 * volume.max())
    sizes = ndimage.sum_labels(labels > 0, labels, range(1, count + 1))
    order = np.argsort(sizes)[::-1][: len(SPHERES)]
    centres = np.array([list(image.position) for image in images])
    first = images[0]
    width, height, _ = np.array(list(first.field_of_view)) / np.maximum(list(first.matrix_size), 1)
    found = []
    for z, y, x in ndimage.center_of_mass(volume, labels, order + 1):
        centre = [np.interp(z, range(len(images)), centres[:, axis]) for axis in range(3)]
        right = (x - first.matrix_size[0] // 2) * width * np.array(list(first.read_dir))
        down = (y - first.matrix_size[1] // 2) * height * np.array(list(first.phase_dir))
        found.append(centre + right + down)
    return np.array(found)


def test_a_scan_through_its_proxy_comes_back_at_its_place(gateway: str, tmp_path: Path) -> None:
    command = scan_command(tmp_path, PROTOCOL)
    with proxy(tmp_path, gateway) as address:
        printed = run(tmp_path, *command, "--recon", address, "--output", "images")
    assert "ERROR" not in printed
    assert f"{PROTOCOL.values['nslices']} images" in printed.rstrip().rpartition("\n")[2]
    with ismrmrd.Dataset(tmp_path / "images" / "images.h5", "dataset", create_if_needed=False) as dataset:
        images = [dataset.read_image("images", number) for number in range(dataset.number_of_images("images"))]
    assert len(images) == PROTOCOL.values["nslices"]
    # As in test_pulserver.py: half a pixel (3.1 mm), or a flip, would be seen.
    np.testing.assert_allclose(places(images), [centre for centre, _ in SPHERES], atol=0.8)
    assert {dict(image.meta)["RecondModel"] for image in images} == {"rss"}


def test_a_bare_stream_is_refused(gateway: str, tmp_path: Path) -> None:
    """The scanner straight to the gateway: nobody has added flags, counters and the matrix."""
    printed = run(tmp_path, *scan_command(tmp_path, PROTOCOL), "--recon", gateway, "--output", "images")
    (error,) = [line for line in printed.splitlines() if line.startswith("ERROR   ")]
    assert "1 x 1 x 1" in error
    assert "MATRIX_MISSING" in error
    assert "Send the scan with the header that its sequence has" in error
    # It reads until CLOSE: that it ended says that CLOSE came.
    assert not (tmp_path / "images" / "images.h5").exists()
