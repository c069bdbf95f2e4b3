"""A spool that is full, damaged, or left by another version: images go out as far as anything can be done."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from gateway_process import CONFIG, gateway_process
from gateway_scans import SLICES, Wire
from gateway_scripts import PIXELS, all_images, asking, never, one_image, played, sample, scan_id_of, slices
from scripted_service import Conversation, reason, retry_in
from waiting import eventually

import recond_client
from recond_gateway.mrd import writer
from recond_gateway.spool import Spool


def filled(spool: Spool, name: str = "filler"):
    """Leave no room for a record of any size."""
    filler = spool.begin(name, {})
    for size in (100_000, 10_000, 1_000, 100, 1):
        with contextlib.suppress(recond_client.RecondError):
            while True:
                filler.append(1, bytes(size))
    return filler


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.timeout(60)
def test_a_spool_that_is_full_at_the_beginning_costs_no_image(scripted, start_gateway, scan):
    scripted.peer.scripts = [all_images]
    gateway = start_gateway(scripted.peer.target, spool={"max_bytes": 1 << 20})
    filled(gateway.services.spool)
    played(gateway, scan)
    before = descriptors()
    for _ in range(5):
        wire = played(gateway, scan)
        assert slices(wire) == list(range(SLICES))
        assert wire.lines()[-1].startswith("INFO")
        assert any("spool of the gateway is full" in line for line in wire.lines())
    eventually(lambda: descriptors() <= before)
    assert [path.name for path in gateway.services.spool.folder.glob("*.*")] == ["filler.scan"]


@pytest.mark.timeout(60)
def test_a_header_that_the_spool_has_no_room_for_leaves_nothing_there(scripted, start_gateway, scan):
    scripted.peer.scripts = [all_images]
    gateway = start_gateway(scripted.peer.target, spool={"max_bytes": 1 << 20})
    padded = scan.xml.replace(b"<encoding>", b"<!--" + os.urandom(600_000).hex().encode() + b"--><encoding>", 1)
    wire = Wire(gateway.ports[0].address)
    wire.send(writer.config_file("default"), writer.header(padded), scan.messages(), writer.close())
    assert wire.finish()[-1].startswith("INFO")
    assert slices(wire) == list(range(SLICES))
    eventually(lambda: gateway.services.spool.used_bytes == 0)
    assert not list(gateway.services.spool.folder.glob("*.*"))


@pytest.mark.timeout(60)
def test_a_service_that_is_full_for_a_moment_is_asked_again_also_without_a_spool(scripted, start_gateway, scan):
    import grpc

    async def full(conversation: Conversation) -> None:
        await conversation.receive()
        await conversation.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", reason("OVERLOADED"), retry_in(0.05))

    scripted.peer.scripts = [full, full, all_images]
    gateway = start_gateway(scripted.peer.target, spool={"max_bytes": 1 << 20})
    filled(gateway.services.spool)
    wire = played(gateway, scan)
    assert slices(wire) == list(range(SLICES))
    assert wire.lines()[-1].startswith("INFO")


@pytest.mark.timeout(60)
def test_a_scan_stays_where_its_images_cannot(scripted, start_gateway, scan):
    """The spool fills up between the readouts and the images, and then the console goes."""
    go = threading.Event()

    async def slow(conversation: Conversation) -> None:
        await conversation.accept()
        await conversation.receive_all()
        await conversation.plan(SLICES, "rss")
        await conversation.image(0, PIXELS, slice=0)
        import asyncio

        while not go.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.01)
        for number in range(1, SLICES):
            await conversation.image(number, PIXELS, slice=number)
        await conversation.summary(list(range(SLICES)), *PIXELS.shape)

    scripted.peer.scripts = [slow]
    gateway = start_gateway(scripted.peer.target, spool={"max_bytes": 2 << 20})
    wire = Wire(gateway.ports[0].address)
    wire.send(writer.config_file("default"), writer.header(scan.xml), scan.messages(), writer.close())
    wire.wait_for(wire.images)
    scan_id = scan_id_of(wire)
    filler = filled(gateway.services.spool)
    wire.vanish()
    go.set()
    eventually(lambda: scan_id not in gateway.services.running)
    eventually(lambda: sample(gateway, "open_sessions", device="scanner") == 0)
    filler.remove()
    assert (gateway.services.spool.folder / f"{scan_id}.scan").exists()


@pytest.mark.timeout(120)
def test_what_can_be_read_of_a_damaged_scan_is_reconstructed(scripted, scan, tmp_path):
    seen = []

    async def count(conversation: Conversation) -> None:
        await conversation.accept()
        await conversation.receive_all()
        seen.append(sum(each.acquisitions.count for each in conversation.received))
        await conversation.plan(1, "rss")
        await conversation.image(0, PIXELS, slice=0)
        await conversation.summary([0], *PIXELS.shape)

    scripted.peer.scripts = [one_image]
    with gateway_process(tmp_path, scripted.peer.target) as (process, address):
        wire = Wire(address)
        wire.send(writer.config_file("default"), writer.header(scan.xml))
        wire.send(scan.messages(scan.slice(0)))
        scan_id = scan_id_of(wire)
        for number in range(1, SLICES):
            wire.send(scan.messages(scan.slice(number)))
            time.sleep(0.2)  # a record of its own
        eventually(lambda: size_of(tmp_path, scan_id) > len(scan.messages()))
        wire.wait_for(wire.images)
        process.kill()
        process.wait()
        wire.finish()
    path = tmp_path / "spool" / f"{scan_id}.scan"
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    scripted.peer.scripts = [count]
    with gateway_process(tmp_path, scripted.peer.target) as (_, address):

        def returned() -> Wire | None:
            again = asking(address, scan_id)
            return again if again.finish()[-1].startswith("INFO") else None

        again = eventually(returned)
    assert slices(again) == [0]
    assert 0 < seen[-1] < len(scan.headers)
    assert '"scan-damaged"' in (tmp_path / "gateway.log").read_text()


def size_of(folder, scan_id: str) -> int:
    path = folder / "spool" / f"{scan_id}.scan"
    return path.stat().st_size if path.exists() else 0


@pytest.mark.timeout(120)
def test_a_scan_of_another_version_holds_up_no_other_one(scripted, scan, tmp_path):
    scripted.peer.scripts = [one_image]
    folder = tmp_path / "spool"
    with gateway_process(tmp_path, scripted.peer.target) as (process, address):
        wire = Wire(address)
        wire.send(writer.config_file("default"), writer.header(scan.xml), scan.messages())
        scan_id = scan_id_of(wire)
        wire.wait_for(wire.images)
        process.kill()
        process.wait()
        wire.finish()
    key = bytes.fromhex((tmp_path / "spool.key").read_text().strip())
    with Spool(folder, key, 1 << 30, 0) as spool:
        old = spool.begin("aaaa", {"device": "scanner", "pipeline": {"model": "rss", "colour": "blue"}})
        old.append(2, scan.xml)
        old.finish(True)
    os.utime(folder / "aaaa.scan", (0, 0))  # the oldest comes first
    scripted.peer.scripts = [all_images]
    with gateway_process(tmp_path, scripted.peer.target) as (_, address):

        def returned() -> Wire | None:
            again = asking(address, scan_id)
            return again if again.finish()[-1].startswith("INFO") else None

        assert slices(eventually(returned)) == list(range(SLICES))
        lost = asking(address, "aaaa")
        assert "SPOOL_VERSION" in lost.finish()[-1]
    assert (folder / "aaaa.scan").exists()


@pytest.mark.timeout(60)
def test_scans_that_wait_for_the_service_do_not_expire(scripted, start_gateway, scan, monkeypatch):
    monkeypatch.setattr("recond_gateway.backlog._EVERY", 0.05)
    scripted.peer.scripts = [never]
    gateway = start_gateway(
        scripted.peer.target, spool={"hold": 0.1}, pipelines={"default": {"model": "rss", "fallback": []}}
    )
    spool = gateway.services.spool
    for part in ("scan", "images"):
        held = spool.begin(f"a-{part}", {"device": "scanner", "pipeline": {}}, part)
        held.append(1, b"x")
        held.finish(True)
    eventually(lambda: not (spool.folder / "a-images.images").exists())
    assert (spool.folder / "a-scan.scan").exists()


@pytest.mark.timeout(120)
def test_a_disk_that_is_really_full(scripted, scan, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(disk)], check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        scripted.peer.scripts = [all_images]
        (disk / "keep").mkdir()
        with gateway_process(disk, scripted.peer.target, CONFIG) as (_, address):
            for _ in range(2):
                wire = Wire(address)
                wire.send(writer.config_file("default"), writer.header(scan.xml), scan.messages(), writer.close())
                lines = wire.finish()
                assert slices(wire) == list(range(SLICES))
                assert lines[-1].startswith("INFO")
                assert any("spool of the gateway is full" in line for line in lines)
        for line in (disk / "gateway.log").read_text().splitlines():
            json.loads(line)
    finally:
        subprocess.run(["umount", str(disk)], check=False)
        shutil.rmtree(disk, ignore_errors=True)
