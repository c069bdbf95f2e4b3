"""All the ways in which sessions end: none leaves a thread or a descriptor behind, and none ends the port."""

from __future__ import annotations

import json
import random
import resource
import socket
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from gateway_process import gateway_process
from gateway_scans import SLICES, RawScan, Wire
from gateway_scripts import all_images, asking, sample, slices
from scripted_service import Conversation
from waiting import eventually

from recond_gateway.mrd import writer
from recond_gateway.mrd.layouts import IMAGE_HEADER


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def begun(scan: RawScan) -> bytes:
    return writer.config_file("default") + writer.header(scan.xml)


ENDINGS = {
    "nothing": lambda scan: b"",
    "query": lambda scan: writer.config_file("default") + writer.query(1, "gadgetron::info") + writer.close(),
    "whole": lambda scan: begun(scan) + scan.messages() + writer.close(),
    "without close": lambda scan: begun(scan) + scan.messages(),
    "mid-slice": lambda scan: begun(scan) + scan.messages(scan.slice(0)[:7])[:-3],
    "header alone": begun,
    "nothing measured": lambda scan: begun(scan) + writer.close(),
    "garbage": lambda scan: begun(scan) + scan.messages(scan.slice(0)) + b"\xff\xff" + bytes(100),
    "garbage first": lambda scan: b"GET / HTTP/1.1\r\n\r\n",
    "after close": lambda scan: begun(scan) + scan.messages() + writer.close() + scan.messages() + writer.text("x"),
    "bad header": lambda scan: writer.config_file("default") + writer.header(b"<x>") + scan.messages(),
    "no such scan": lambda scan: writer.config_file("recond-resume:none") + writer.close(),
}


@pytest.mark.timeout(300)
def test_no_session_leaves_anything_behind(scripted, start_gateway, scan):
    scripted.peer.scripts = [all_images]
    gateway = start_gateway(scripted.peer.target)
    host, _, port = gateway.ports[0].address.rpartition(":")
    choose = random.Random(1)

    def end_one(name: str, how: str) -> None:
        with socket.create_connection((host, int(port))) as connection:
            connection.settimeout(20)
            connection.sendall(ENDINGS[name](scan))
            if how == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif how == "half-closed":
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 20):
                    pass

    def round_of(count: int) -> None:
        for number in range(count):
            end_one(list(ENDINGS)[number % len(ENDINGS)], choose.choice(["reset", "half-closed", "closed"]))
        eventually(lambda: sample(gateway, "open_sessions", device="scanner") == 0)

    round_of(2 * len(ENDINGS))
    eventually(lambda: not [each for each in threading.enumerate() if each.name.startswith("recond-s")])
    files, threads = descriptors(), threading.active_count()
    round_of(200)
    eventually(lambda: threading.active_count() <= threads)
    eventually(lambda: descriptors() <= files)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("depth", [2_000, 200_000])
def test_nesting_without_end_is_no_fault_of_the_gateway(scripted, start_gateway, scan, depth):
    scripted.peer.scripts = [all_images]
    gateway = start_gateway(scripted.peer.target)
    wire = Wire(gateway.ports[0].address)
    nested = '{"parameters": ' + "[" * depth + "]" * depth + "}"
    wire.send(begun(scan), writer.text(nested), scan.messages(), writer.close())
    assert wire.finish()[-1].startswith("INFO")
    assert slices(wire) == list(range(SLICES))
    deep = scan.xml.replace(
        b"<encoding>", b"<userParameters>" * depth + b"</userParameters>" * depth + b"<encoding>", 1
    )
    wire = Wire(gateway.ports[0].address)
    wire.send(writer.config_file("default"), writer.header(deep), scan.messages(), writer.close())
    lines = wire.finish()
    assert "gateway is at fault" not in lines[-1]
    assert wire.closed


@pytest.mark.timeout(60)
def test_parameters_of_every_wrong_type(scripted, start_gateway, scan):
    scripted.peer.scripts = [all_images]
    gateway = start_gateway(scripted.peer.target)
    wrong: list[object] = [
        None,
        [],
        {},
        "",
        "nan",
        "inf",
        -1,
        1e999,
        10**400,
        True,
        [[1]],
        {"a": 1},
        "x" * 100_000,
        "\0",
    ]
    names = ["model", "tissue", "lesion", "uncertainty", "phase", "partialFourier", "sliceDeadline", "config", "other"]
    for name in names:
        for value in wrong:
            wire = Wire(gateway.ports[0].address)
            sent = json.dumps({"parameters": {name: value, "customconfig": value}})
            wire.send(begun(scan), writer.text(sent), scan.messages(), writer.close())
            lines = wire.finish()
            assert lines[-1].startswith("INFO"), (name, value)
            assert slices(wire)
    flood = {"parameters": {f"p{number}": number for number in range(5000)}}
    wire = Wire(gateway.ports[0].address)
    wire.send(begun(scan), writer.text(json.dumps(flood)), scan.messages(), writer.close())
    assert len(wire.finish()) < 50


@pytest.mark.timeout(60)
def test_what_ends_a_session_unforeseen_ends_its_delivery_too(scripted, start_gateway, scan, monkeypatch):
    scripted.peer.scripts = [all_images]
    gateway = start_gateway(scripted.peer.target)
    monkeypatch.setattr("recond_gateway.scan.groups.GroupLedger.take", lambda *_: 1 / 0)
    wire = Wire(gateway.ports[0].address)
    wire.send(begun(scan), scan.messages())
    assert "gateway is at fault (ZeroDivisionError)" in wire.finish()[-1]
    assert wire.closed
    eventually(lambda: not [each for each in threading.enumerate() if each.name.startswith("recond-scan")])


@pytest.mark.timeout(60)
def test_images_of_the_scanner_and_arrays_in_place_of_readouts(scripted, start_gateway, scan):
    header = np.zeros(1, IMAGE_HEADER)[0]
    header["matrix_size"], header["channels"], header["data_type"] = (2, 2, 1), 1, 5
    scripted.peer.scripts = [all_images]
    gateway = start_gateway(scripted.peer.target)
    wire = Wire(gateway.ports[0].address)
    wire.send(writer.config_file("default"), writer.header(scan.xml), writer.image(header, "<x", bytes(16)))
    wire.send(scan.messages(), writer.close())
    assert wire.finish()[-1].startswith("INFO")
    assert slices(wire) == list(range(SLICES))


@pytest.mark.timeout(120)
def test_descriptors_that_run_out_do_not_end_the_port(scripted, scan, tmp_path):
    scripted.peer.scripts = [all_images]
    with gateway_process(tmp_path, scripted.peer.target) as (process, address):
        limit = len(list(Path(f"/proc/{process.pid}/fd").iterdir())) + 4
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (limit, limit + 100))
        host, _, port = address.rpartition(":")
        crowd = [socket.create_connection((host, int(port))) for _ in range(8)]
        time.sleep(0.5)
        for each in crowd:
            each.close()
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (limit + 100, limit + 100))
        time.sleep(0.5)
        wire = Wire(address)
        wire.send(begun(scan), scan.messages(), writer.close())
        assert wire.finish()[-1].startswith("INFO")
        assert slices(wire) == list(range(SLICES))
    log = (tmp_path / "gateway.log").read_text()
    assert "connection-lost" in log
    assert "Traceback" not in log


@pytest.mark.timeout(60)
def test_a_console_that_reads_byte_by_byte_is_given_up(scripted, start_gateway, scan, monkeypatch):
    """It takes something now and then, so that no single wait is too long."""
    monkeypatch.setattr("recond_gateway.session.console._SLOWEST", 1e9, raising=False)
    large = np.zeros((512, 512), np.float32)

    async def many(conversation: Conversation) -> None:
        await conversation.accept()
        await conversation.receive_all()
        await conversation.plan(20, "rss")
        for number in range(20):
            await conversation.image(number, large, slice=number)
        await conversation.summary(list(range(20)), 512, 512)

    scripted.peer.scripts = [many]
    gateway = start_gateway(scripted.peer.target, limits={"write_seconds": 2.0})
    host, _, port = gateway.ports[0].address.rpartition(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(begun(scan) + scan.messages() + writer.close())
        end = time.monotonic() + 40
        while not sample(gateway, "sessions_total", device="scanner", end="gone"):
            slow.recv(2000)
            time.sleep(0.02)
            assert time.monotonic() < end
    (held,) = eventually(lambda: [each for each in gateway.services.spool.scans() if each.images_held])
    again = asking(gateway.ports[0].address, held.scan_id)
    assert again.finish()[-1].startswith("INFO")
    assert len(again.images()) == 20
