"""Consoles that come back for the images of an earlier scan."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from gateway_scans import SLICES, Wire
from gateway_scripts import PIXELS, all_images, asking, one_image, played, sample, scan_id_of, slices
from scripted_service import Conversation
from waiting import eventually

from recond_gateway.mrd import writer


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["../x", "..", "a/b", "", "a\0b", "x" * 1000, "scan\n", "ä", "lock", "key-check"])
def test_names_that_are_no_scans(scripted, start_gateway, name):
    gateway = start_gateway(scripted.peer.target)
    wire = Wire(gateway.ports[0].address)
    wire.send(writer.config_file(f"recond-resume:{name}".replace("\0", "")), writer.close())
    assert "NO_SUCH_SCAN" in wire.finish()[-1]
    assert wire.closed


@pytest.mark.timeout(60)
def test_names_of_configurations_with_odd_bytes_take_the_default(scripted, start_gateway, scan):
    scripted.peer.scripts = [all_images]
    gateway = start_gateway(scripted.peer.target)
    for name in (b"\xff\xfe\x80", b"x" * 1023, b"x" * 1024, b"\n\r\t", b"%s%n{}"):
        wire = Wire(gateway.ports[0].address)
        wire.send(b"\1\0" + name.ljust(1024, b"\0"), writer.header(scan.xml), scan.messages(), writer.close())
        assert wire.finish()[-1].startswith("INFO")
        assert slices(wire) == list(range(SLICES))


@pytest.mark.timeout(60)
def test_images_go_to_one_console_at_a_time_and_once(scripted, start_gateway, scan):
    go = threading.Event()

    async def slow(conversation: Conversation) -> None:
        await one_until(conversation, go)

    scripted.peer.scripts = [slow]
    gateway = start_gateway(scripted.peer.target, service={"wait": 30.0})
    first = Wire(gateway.ports[0].address)
    first.send(writer.config_file("default"), writer.header(scan.xml), scan.messages())
    scan_id = scan_id_of(first)
    first.wait_for(first.images)
    first.vanish()
    eventually(lambda: sample(gateway, "sessions_total", device="scanner", end="gone") == 1)
    second = asking(gateway.ports[0].address, scan_id)
    second.wait_for(second.images)
    third = asking(gateway.ports[0].address, scan_id)
    assert "ALREADY_RETURNED" in third.finish()[-1]
    go.set()
    assert second.finish()[-1].startswith("INFO")
    assert slices(second) == list(range(SLICES))
    eventually(lambda: not gateway.services.spool.scans())
    fourth = asking(gateway.ports[0].address, scan_id)
    assert "NO_SUCH_SCAN" in fourth.finish()[-1]


async def one_until(conversation: Conversation, go: threading.Event) -> None:
    """The first slice at once, the others when told."""
    import asyncio

    await conversation.accept()
    await conversation.plan(SLICES, "rss")
    await conversation.image(0, PIXELS, slice=0)
    while not go.is_set():  # noqa: ASYNC110 - set by another thread
        await asyncio.sleep(0.01)
    await conversation.receive_all()
    for number in range(1, SLICES):
        await conversation.image(number, PIXELS, slice=number)
    await conversation.summary(list(range(SLICES)), *PIXELS.shape)


@pytest.mark.timeout(60)
def test_a_scan_that_its_console_has_meanwhile_is_said_to_be_there(scripted, start_gateway, scan):
    go = threading.Event()

    async def slow(conversation: Conversation) -> None:
        await one_until(conversation, go)

    scripted.peer.scripts = [slow]
    gateway = start_gateway(scripted.peer.target)
    first = Wire(gateway.ports[0].address)
    first.send(writer.config_file("default"), writer.header(scan.xml), scan.messages(), writer.close())
    scan_id = scan_id_of(first)
    first.wait_for(first.images)
    second = asking(gateway.ports[0].address, scan_id)
    second.wait_for(second.images)
    go.set()
    assert first.finish()[-1].startswith("INFO")
    assert "DELIVERED_MEANWHILE" in second.finish()[-1]
    assert slices(first) == list(range(SLICES))
    eventually(lambda: not gateway.services.spool.scans())


@pytest.mark.timeout(60)
def test_a_scan_of_another_device_is_not_there(scripted, start_gateway, scan):
    scripted.peer.scripts = [one_image]
    listen = tuple({"address": "127.0.0.1:0", "device": name} for name in ("a", "b"))
    gateway = start_gateway(scripted.peer.target, listen=listen, service={"wait": 0.3})
    wire = Wire(gateway.ports[0].address)
    wire.send(writer.config_file("default"), writer.header(scan.xml), scan.messages())
    scan_id = scan_id_of(wire)
    wire.wait_for(wire.images)
    other = asking(gateway.ports[1].address, scan_id)
    assert "NO_SUCH_SCAN" in other.finish()[-1]
    assert not other.images()
    wire.vanish()


@pytest.mark.timeout(60)
def test_a_second_scan_while_the_first_is_delivered_is_another_scan(scripted, start_gateway, scan):
    scripted.peer.scripts = [all_images]
    gateway = start_gateway(scripted.peer.target)
    found = [played(gateway, scan) for _ in range(3)]
    assert len({scan_id_of(wire) for wire in found}) == len(found)
    assert all(np.array_equal(slices(wire), range(SLICES)) for wire in found)


@pytest.mark.timeout(60)
def test_what_was_to_be_told_is_told_to_the_console_that_comes_back(scripted, start_gateway, scan):
    scripted.peer.scripts = [all_images]
    gateway = start_gateway(scripted.peer.target)
    kept = np.setdiff1d(np.arange(len(scan.headers)), scan.slice(1)[[5, 17]])
    first = Wire(gateway.ports[0].address)
    first.send(writer.config_file("default"), writer.header(scan.xml), scan.messages(kept))
    scan_id = scan_id_of(first)
    eventually(lambda: sample(gateway, "acquisitions_total", device="scanner") == len(kept))
    first.vanish()
    eventually(lambda: [each for each in gateway.services.spool.scans() if each.images_held])
    again = asking(gateway.ports[0].address, scan_id)
    lines = again.finish()
    assert any(line.startswith("WARNING") and "missing 5, 17" in line for line in lines)
    assert lines[-1].startswith(f"INFO    recond scan {scan_id}; ")
    assert slices(again) == list(range(SLICES))
