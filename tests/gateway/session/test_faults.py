"""What goes wrong behind a gateway, or with it: no image is lost, none comes twice, and the operator is told."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
import sys

import grpc
import numpy as np
import pytest
import trustme
from defusedxml import ElementTree
from gateway_process import gateway_process
from gateway_scans import COLUMNS, ROWS, SLICES, RawScan, Wire
from recond_testing import running
from scripted_service import Conversation, Peer, Running, reason, retry_in
from waiting import eventually

import recond_client
from recond_gateway.mrd import writer

PIXELS = np.arange(ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS)


@pytest.fixture(scope="module")
def expected(service, scan):
    with recond_client.Client(service.address) as client:
        return client.reconstruct(scan.path, model="rss")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def wire_to(gateway) -> Wire:
    return Wire(gateway.ports[0].address)


def play(wire: Wire, scan: RawScan, config: str = "default") -> list[str]:
    wire.send(writer.config_file(config), writer.header(scan.xml), scan.messages(), writer.close())
    return wire.finish()


def shown(wire: Wire) -> dict[int, np.ndarray]:
    """The images by slice; none came twice."""
    images = wire.images()
    numbers = [int(image.header["slice"]) for image in images]
    assert len(set(numbers)) == len(numbers)
    return {
        number: np.frombuffer(image.pixels, "<f4").reshape(COLUMNS, ROWS).T
        for number, image in zip(numbers, images, strict=True)
    }


def attribute(image, name: str) -> str:
    root = ElementTree.fromstring(image.attributes)
    return next((meta.findtext("value") or "" for meta in root.iter("meta") if meta.findtext("name") == name), "")


def scan_id_of(lines: list[str]) -> str:
    line = next(line for line in lines if "recond scan " in line)
    return line.split("recond scan ")[1].split(":")[0].split(";")[0]


async def all_images(conversation: Conversation, factor: float = 1.0) -> None:
    await conversation.accept()
    await conversation.receive_all()
    await conversation.plan(SLICES, conversation.received[0].spec.model)
    for number in range(SLICES):
        await conversation.image(number, factor * PIXELS, slice=number)
    await conversation.summary(list(range(SLICES)), ROWS, COLUMNS)


@pytest.mark.timeout(60)
def test_a_late_network_is_replaced_by_the_classical_model(scripted, start_gateway, scan):
    async def late(conversation: Conversation) -> None:
        await conversation.accept()
        await conversation.receive_all()
        await conversation.plan(SLICES, "network")
        await conversation.image(0, 2 * PIXELS, slice=0)
        await asyncio.Event().wait()

    scripted.peer.scripts = [late, all_images]
    gateway = start_gateway(
        scripted.peer.target,
        pipelines={"default": {"model": "network", "fallback": ["cg-sense"], "slice_deadline": 0.3}},
    )
    wire = wire_to(gateway)
    lines = play(wire, scan)
    assert [call.received[0].spec.model for call in scripted.peer.calls] == ["network", "cg-sense"]
    images = shown(wire)
    assert np.array_equal(images[0], 2 * PIXELS)
    assert all(np.array_equal(images[number], PIXELS) for number in range(1, SLICES))
    fallbacks = [attribute(image, "RecondFallback") for image in wire.images()]
    assert fallbacks == ["", "1", "1", "1"]
    assert "0.3 s" in attribute(wire.images()[1], "RecondWarning")
    assert "cg-sense" in attribute(wire.images()[1], "ImageComments")
    assert lines[-1].startswith("INFO")
    assert f"{SLICES} images (3 of them by a classical model" in lines[-1]


def test_a_network_that_is_refused_is_replaced(scripted, start_gateway, scan):
    async def refuse(conversation: Conversation) -> None:
        await conversation.accept()
        await conversation.abort(grpc.StatusCode.FAILED_PRECONDITION, "no network for a knee", reason("NO_MODEL"))

    scripted.peer.scripts = [refuse, refuse, all_images]
    gateway = start_gateway(scripted.peer.target, pipelines={"default": {"model": "network"}})
    wire = wire_to(gateway)
    lines = play(wire, scan)
    assert [call.received[0].spec.model for call in scripted.peer.calls] == ["network", "cg-sense", "rss"]
    assert len(shown(wire)) == SLICES
    assert all("no network for a knee" in attribute(image, "RecondWarning") for image in wire.images())
    assert lines[-1].startswith("INFO")


def test_what_is_refused_of_a_request_is_left_out_of_it(scripted, start_gateway, scan):
    refusals = [("NO_SUCH_HEAD", grpc.StatusCode.NOT_FOUND), ("NO_UNCERTAINTY", grpc.StatusCode.FAILED_PRECONDITION)]

    def refuse(why: str, code: grpc.StatusCode):
        async def script(conversation: Conversation) -> None:
            await conversation.accept()
            await conversation.abort(code, f"{why} here.", reason(why))

        return script

    scripted.peer.scripts = [*(refuse(*each) for each in refusals), all_images]
    pipeline = {"model": "network", "heads": ["crystal-ball"], "uncertainty": True, "outputs": ["magnitude", "phase"]}
    wire = wire_to(start_gateway(scripted.peer.target, pipelines={"default": pipeline}))
    lines = play(wire, scan)
    specs = [call.received[0].spec for call in scripted.peer.calls]
    assert [spec.model for spec in specs] == ["network"] * 3
    assert [list(spec.heads) for spec in specs] == [["crystal-ball"], [], []]
    assert [spec.uncertainty for spec in specs] == [True, True, False]
    assert [spec.complex_images for spec in specs] == [True, True, True]
    assert len(shown(wire)) == SLICES
    assert sum("The images come without." in line for line in lines) == 2
    assert lines[-1].startswith("INFO")


def test_data_that_nobody_can_reconstruct_end_with_what_the_service_says(scripted, start_gateway, scan):
    async def refuse(conversation: Conversation) -> None:
        await conversation.accept()
        await conversation.abort(grpc.StatusCode.INVALID_ARGUMENT, "readouts are NaN", reason("NOT_FINITE"))

    scripted.peer.scripts = [refuse]
    wire = wire_to(start_gateway(scripted.peer.target))
    lines = play(wire, scan)
    assert lines[-1].startswith("ERROR   readouts are NaN (NOT_FINITE")
    assert wire.closed


def test_a_service_that_is_full_is_asked_again(scripted, start_gateway, scan):
    async def full(conversation: Conversation) -> None:
        await conversation.receive()
        await conversation.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", reason("OVERLOADED"), retry_in(0.05))

    scripted.peer.scripts = [full, full, all_images]
    wire = wire_to(start_gateway(scripted.peer.target))
    lines = play(wire, scan)
    assert len(shown(wire)) == SLICES
    assert any(line.startswith("WARNING The service is away") for line in lines)


@pytest.mark.timeout(120)
def test_a_service_that_is_slower_than_the_scanner_holds_no_scanner_up(scripted, start_gateway, scan):
    """Everything is sent before the service reads its first readout; what does not fit into memory waits on disk."""
    begin = []

    async def slow(conversation: Conversation) -> None:
        await conversation.accept()
        while not begin:  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.01)
        received = 0
        while (message := await conversation.receive()) is not None:
            received += message.acquisitions.count
            conversation.received.clear()
        assert received == repeats * len(scan.headers)
        await conversation.plan(1, "rss")
        await conversation.image(0, PIXELS)
        await conversation.summary([0], ROWS, COLUMNS)

    repeats = 200
    scripted.peer.scripts = [slow]
    gateway = start_gateway(
        scripted.peer.target,
        pipelines={"default": {"model": "rss", "slice_deadline": 600.0}},
        spool={"memory_bytes": 4 << 20},
    )
    wire = wire_to(gateway)
    wire.send(writer.config_file("default"), writer.header(scan.xml))
    piece = scan.messages()
    assert repeats * len(piece) > 8 * (4 << 20)
    for _ in range(repeats):
        wire.send(piece)
    wire.send(writer.close())
    eventually(lambda: gateway.services.spool.used_bytes > repeats * len(piece) * 0.99)
    begin.append(True)
    assert wire.finish()[-1].startswith("INFO")


@pytest.mark.timeout(180)
def test_a_service_that_is_killed_and_comes_back_loses_no_image(start_gateway, scan, expected, tmp_path):
    port = free_port()
    options = ("--listen", f"127.0.0.1:{port}")
    with running(tmp_path / "first", *options) as first:
        gateway = start_gateway(f"127.0.0.1:{port}")
        wire = wire_to(gateway)
        wire.send(writer.config_file("default"), writer.header(scan.xml))
        wire.send(scan.messages(scan.slice(0)), scan.messages(scan.slice(1)))
        wire.wait_for(lambda: len(wire.images()) == 2)
        wire.send(scan.messages(scan.slice(2)[:20]))
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    wire.send(scan.messages(scan.slice(2)[20:]), scan.messages(scan.slice(3)), writer.close())
    wire.wait_for(lambda: any("The service is away" in line for line in wire.lines()))
    with running(tmp_path / "second", *options):
        lines = wire.finish()
    images = shown(wire)
    assert sorted(images) == list(range(SLICES))
    assert all(np.array_equal(images[number], expected.images[number]) for number in images)
    assert lines[-1].startswith("INFO")
    assert wire.closed


@pytest.mark.timeout(60)
def test_a_scan_waits_for_a_service_that_is_away(start_gateway, scan):
    peer = Running(Peer())
    peer.peer.scripts = [all_images]
    peer.stop()
    gateway = start_gateway(peer.peer.target, service={"wait": 0.5})
    wire = wire_to(gateway)
    lines = play(wire, scan)
    assert "is kept" in lines[-1]
    assert not wire.images()
    peer.restart()
    again = wire_to(gateway)
    again.send(writer.config_file(f"recond-resume:{scan_id_of(lines)}"), writer.close())
    assert f"{SLICES} images" in again.finish()[-1]
    assert all(np.array_equal(image, PIXELS) for image in shown(again).values())
    assert len(shown(again)) == SLICES
    peer.close()


def test_a_full_spool_costs_no_image(service, start_gateway, scan, expected):
    size = len(scan.messages())
    gateway = start_gateway(service.address, spool={"max_bytes": max(1 << 20, size // 2)})
    filler = gateway.services.spool.begin("filler", {})
    with contextlib.suppress(recond_client.RecondError):
        while True:
            filler.append(1, bytes(10_000))
    wire = wire_to(gateway)
    lines = play(wire, scan)
    if lines[-1].startswith("ERROR"):  # not even the header fits: then nothing is begun, and that is said
        assert "SPOOL_FULL" in lines[-1]
    filler.remove()
    wire = wire_to(gateway)
    wire.send(writer.config_file("default"), writer.header(scan.xml), scan.messages(scan.slice(0)))
    wire.wait_for(wire.images)
    filler = gateway.services.spool.begin("filler2", {})
    with contextlib.suppress(recond_client.RecondError):
        while True:
            filler.append(1, bytes(10_000))
    wire.send(scan.messages(scan.slice(1, 2, 3)), writer.close())
    lines = wire.finish()
    assert any("spool of the gateway is full" in line for line in lines)
    images = shown(wire)
    assert all(np.array_equal(images[number], expected.images[number]) for number in range(SLICES))


@pytest.mark.timeout(180)
def test_a_gateway_that_is_killed_goes_on_where_it_was(service, scan, expected, tmp_path):
    with gateway_process(tmp_path, f"127.0.0.1:{free_port()}") as (process, address):
        wire = Wire(address)
        lines = play(wire, scan)
        assert "is kept" in lines[-1]
        half = Wire(address)
        half.send(writer.config_file("default"), writer.header(scan.xml), scan.messages(scan.slice(0, 1)))
        half_id = scan_id_of([half.wait_for(lambda: next(iter(half.lines()), ""))])
        kept, sent = tmp_path / "spool" / f"{half_id}.scan", len(scan.messages(scan.slice(0, 1)))
        eventually(lambda: kept.stat().st_size > sent)  # all of it is on its way to the disk
        process.send_signal(signal.SIGKILL)
        process.wait()
        half.finish()
    with gateway_process(tmp_path, service.address) as (_, address):
        for scan_id, slices in ((scan_id_of(lines), range(SLICES)), (half_id, range(2))):

            def returned(scan_id: str = scan_id) -> Wire | None:
                again = Wire(address)
                again.send(writer.config_file(f"recond-resume:{scan_id}"), writer.close())
                return None if "NO_SUCH_SCAN" in again.finish()[-1] else again

            images = shown(eventually(returned))
            assert sorted(images) == list(slices)
            assert all(np.array_equal(images[number], expected.images[number]) for number in slices)


@pytest.mark.timeout(120)
def test_a_scanner_whose_cable_is_pulled_is_noticed(service, start_gateway, scan, monkeypatch):
    """A network of its own, which goes away without a word: nothing comes, and nothing says so."""
    names = ("recond-test", "recond-a", "recond-b")

    def ip(*words: str, check: bool = True) -> None:
        subprocess.run(["ip", *words], check=check, capture_output=True)

    try:
        ip("netns", "add", names[0])
        ip("link", "add", names[1], "type", "veth", "peer", "name", names[2], "netns", names[0])
    except (OSError, subprocess.CalledProcessError):
        ip("netns", "del", names[0], check=False) if shutil.which("ip") else None
        pytest.skip("network namespaces cannot be made here")
    try:
        ip("addr", "add", "10.254.77.1/30", "dev", names[1])
        ip("link", "set", names[1], "up")
        ip("-n", names[0], "addr", "add", "10.254.77.2/30", "dev", names[2])
        ip("-n", names[0], "link", "set", names[2], "up")
        quick = ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 2))
        monkeypatch.setattr("recond_gateway.server._KEEP_ALIVE", quick)
        listen = {"address": "10.254.77.1:0", "scanner_network": ["10.254.77.0/30"]}
        gateway = start_gateway(service.address, listen=(listen,), limits={"write_seconds": 2.0})
        folder = scan.path.parent / "half-open"
        folder.mkdir(exist_ok=True)
        (folder / "begin").write_bytes(
            writer.config_file("default") + writer.header(scan.xml) + scan.messages(scan.slice(0, 1))
        )
        code = (
            "import socket, sys, time\n"
            "host, port = sys.argv[1].split(':')\n"
            "connection = socket.create_connection((host, int(port)))\n"
            "connection.sendall(open(sys.argv[2], 'rb').read())\n"
            "print(len(connection.recv(1)), flush=True)\n"
            "time.sleep(100)\n"
        )
        command = ["ip", "netns", "exec", names[0], sys.executable, "-c", code, gateway.ports[0].address]
        with subprocess.Popen([*command, str(folder / "begin")], stdout=subprocess.PIPE) as scanner:
            assert scanner.stdout is not None
            assert scanner.stdout.readline() == b"1\n"
            eventually(lambda: sample(gateway, "images_total", device="scanner", by="asked") == 2)
            ip("link", "set", names[1], "down")
            eventually(lambda: sample(gateway, "open_sessions", device="scanner") == 0, 60)
            scanner.kill()
        assert [each for each in gateway.services.spool.scans() if not each.held]
    finally:
        ip("netns", "del", names[0], check=False)
        ip("link", "del", names[1], check=False)


def sample(gateway, name: str, **labels: str) -> float:
    return gateway.services.metrics.registry.get_sample_value(f"recond_gateway_{name}", labels) or 0.0


def test_the_gateway_shows_its_certificate_and_checks_that_of_the_service(tmp_path, scan):
    authority = trustme.CA()
    server, client = authority.issue_cert("localhost"), authority.issue_cert("gateway.example")
    credentials = grpc.ssl_server_credentials(
        [(server.private_key_pem.bytes(), server.cert_chain_pems[0].bytes())],
        authority.cert_pem.bytes(),
        require_client_auth=True,
    )
    identities = []

    async def identify(conversation: Conversation) -> None:
        identities.extend(conversation.context.auth_context()["x509_subject_alternative_name"])
        await all_images(conversation)

    peer = Running(Peer(), credentials)
    peer.peer.scripts = [identify]
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    client.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    client.cert_chain_pems[0].write_to_path(str(tmp_path / "certificate.pem"))
    options = ["--ca", str(tmp_path / "ca.pem"), "--certificate", str(tmp_path / "certificate.pem")]
    try:
        target = f"localhost:{peer.peer.port}"
        with gateway_process(tmp_path, target, options=[*options, "--key", str(tmp_path / "key.pem")]) as (_, address):
            wire = Wire(address)
            assert play(wire, scan)[-1].startswith("INFO")
            assert len(shown(wire)) == SLICES
        assert identities == [b"gateway.example"]
        with gateway_process(tmp_path, target, options=["--ca", str(tmp_path / "ca.pem")]) as (_, address):
            wire = Wire(address)
            assert "is kept" in play(wire, scan)[-1]  # the service does not let it in, and the scan is not lost
            assert not wire.images()
    finally:
        peer.close()
