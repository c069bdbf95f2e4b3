"""A gateway that is told to stop: every console hears of it, and no scan is lost."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time

import numpy as np
import pytest
from gateway_process import CONFIG, gateway_process
from gateway_scans import SLICES, RawScan, Wire
from gateway_scripts import all_images, asking, one_image, sample, scan_id_of, slices
from scripted_service import Conversation, Running
from waiting import eventually

from recond_gateway.mrd import writer

QUICK = CONFIG.replace('model = "rss"', 'model = "rss"\nfallback = []') + "[limits]\nstop_seconds = 0.2\n"


def returned(address: str, scan_id: str) -> Wire | None:
    again = asking(address, scan_id)
    return again if again.finish()[-1].startswith("INFO") else None


@pytest.mark.timeout(120)
@pytest.mark.parametrize("whole", [True, False])
def test_scans_under_way_are_kept_and_told(scripted: Running, scan: RawScan, tmp_path, whole):
    scripted.peer.scripts = [one_image]
    with gateway_process(tmp_path, scripted.peer.target, QUICK) as (process, address):
        wire = Wire(address)
        wire.send(writer.config_file("default"), writer.header(scan.xml))
        wire.send(scan.messages() if whole else scan.messages(scan.slice(0, 1)))
        if whole:
            wire.send(writer.close())
        wire.wait_for(wire.images)
        process.send_signal(signal.SIGTERM)
        lines = wire.finish()
        assert process.wait(30) == 0
    assert wire.closed
    assert "the gateway is being stopped; the scan is kept" in lines[-1]
    assert f"recond-resume:{scan_id_of(wire)}" in lines[-1]

    scripted.peer.scripts = [all_images]
    with gateway_process(tmp_path, scripted.peer.target, QUICK) as (_, address):
        again = eventually(lambda: returned(address, scan_id_of(wire)))
        assert slices(again) == list(range(SLICES))
        assert any("while this scan was measured" in line for line in again.lines()) == (not whole)
        eventually(lambda: not [path for path in (tmp_path / "spool").iterdir() if path.suffix])
    assert "Traceback" not in (tmp_path / "gateway.log").read_text()


@pytest.mark.timeout(60)
def test_scanners_that_have_not_begun_are_told_too(service, start_gateway, scan):
    gateway = start_gateway(service.address)
    config, header = writer.config_file("default"), writer.header(scan.xml)
    wires = []
    for begin in ((), (config,), (config, header)):
        wire = Wire(gateway.ports[0].address)
        wire.send(*begin, writer.text("hello"))
        wires.append(wire)
    eventually(lambda: sample(gateway, "open_sessions", device="scanner") == len(wires))
    gateway.stop(0.0)
    for wire in wires:
        assert "GATEWAY_STOPPED" in wire.finish()[-1]
        assert wire.closed


@pytest.mark.timeout(60)
def test_a_console_that_does_not_read_keeps_no_gateway_from_its_end(scripted, start_gateway, scan):
    large = np.zeros((1024, 1024), np.float32)

    async def many(conversation: Conversation) -> None:
        await conversation.accept()
        await conversation.plan(50, "rss")
        for number in range(50):
            await conversation.image(number, large, slice=number)
        await asyncio.Event().wait()

    scripted.peer.scripts = [many]
    gateway = start_gateway(scripted.peer.target)
    host, _, port = gateway.ports[0].address.rpartition(":")
    with socket.create_connection((host, int(port))) as deaf:
        deaf.sendall(writer.config_file("default") + writer.header(scan.xml) + scan.messages() + writer.close())
        eventually(lambda: gateway.services.spool.used_bytes > large.nbytes)
        time.sleep(0.5)  # the connection is full by now: the image is larger than what it holds
        stopping = threading.Thread(target=gateway.stop, args=(0.0,))
        stopping.start()
        stopping.join(20)
        assert not stopping.is_alive()
