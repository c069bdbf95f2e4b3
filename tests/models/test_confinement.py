"""The limits of a scan process, tried out in processes of their own: they cannot be taken back."""

import subprocess
import sys
from pathlib import Path

import pytest


def confined(body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = "import sys\nfrom recond_models.confinement import *\n" + body
    return subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def landlock_works() -> bool:
    return confined("print(forbid_files_and_network())").stdout.strip() == "True"


needs_landlock = pytest.mark.skipif(not landlock_works(), reason="this kernel has no Landlock")


@needs_landlock
def test_files_of_the_server_are_out_of_reach_and_shared_memory_is_not(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("hospital")
    body = """
import os
fd = os.memfd_create("upload", 0)
os.write(fd, b"scan")
forbid_files_and_network()
for name in (sys.argv[1], "/etc/passwd", "/proc/self/environ"):
    try:
        print(open(name).read())
    except PermissionError:
        print("denied")
for name in (sys.argv[1], sys.argv[2]):
    try:
        open(name, "w")
    except PermissionError:
        print("denied")
print(open(f"/proc/self/fd/{fd}").read())
import colorsys
print(colorsys.__name__)
"""
    result = confined(body, str(secret), str(tmp_path / "new"))
    assert result.stdout.split() == ["denied"] * 5 + ["scan", "colorsys"], result.stderr
    assert secret.read_text() == "hospital"


@needs_landlock
def test_hdf5_cannot_follow_a_link_out_of_the_upload(tmp_path: Path):
    body = """
import os, h5py, numpy as np
with h5py.File(sys.argv[1], "w") as file:
    file["kspace"] = np.ones(4)
with h5py.File(sys.argv[2], "w") as file:
    file["kspace"] = h5py.ExternalLink(sys.argv[1], "kspace")
fd = os.open(sys.argv[2], os.O_RDONLY)
copy = os.memfd_create("upload", 0)
os.write(copy, os.read(fd, 1 << 20))
forbid_files_and_network()
with h5py.File(open(f"/proc/self/fd/{copy}", "rb"), "r") as file:
    try:
        print(file["kspace"][:])
    except (KeyError, OSError):
        print("denied")
"""
    result = confined(body, str(tmp_path / "server.h5"), str(tmp_path / "upload.h5"))
    assert result.stdout.strip() == "denied", result.stderr


@needs_landlock
def test_no_connection_can_be_opened():
    body = """
import socket
server = socket.create_server(("127.0.0.1", 0))
forbid_files_and_network()
try:
    socket.create_connection(server.getsockname())
    print("connected")
except PermissionError:
    print("denied")
"""
    assert confined(body).stdout.strip() == "denied"


def test_memory_is_bounded_on_top_of_what_is_in_use():
    body = """
limit_resources(address_space() + (200 << 20), 60)
kept = bytearray(100 << 20)
try:
    bytearray(200 << 20)
except MemoryError:
    print("refused")
"""
    assert confined(body).stdout.strip() == "refused"


def test_cpu_time_is_bounded():
    import signal

    result = confined("limit_resources(8 << 30, 1)\nwhile True: pass")
    assert result.returncode == -signal.SIGXCPU


def test_blocks_of_shared_memory_are_bounded():
    body = """
import os
limit_resources(8 << 30, 60, 1 << 20)
fd = os.memfd_create("block", 0)
os.write(fd, bytes(1 << 20))
try:
    os.pwrite(fd, b"x", 1 << 20)
except OSError:
    print("refused")
"""
    assert confined(body).stdout.strip() == "refused"
