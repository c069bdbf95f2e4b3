"""Marks in every place that may tell who was scanned: behind the gateway there is none of them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from defusedxml import ElementTree
from gateway_scans import COLUMNS, ROWS, SLICES, RawScan, Wire
from maximal_header import Markers, maximal_header
from scripted_service import Conversation
from waiting import eventually

import recond_client
from recond_gateway.config import Logging
from recond_gateway.mrd import writer
from recond_gateway.mrd.layouts import WAVEFORM_HEADER, AcquisitionFlag
from recond_gateway.telemetry import configure_logging

NUMBER = 0x5EC7E7
"""Stands where only numbers fit."""


@pytest.fixture
def marked(scan: RawScan) -> tuple[Markers, bytes, np.ndarray]:
    """Marks, a header that has one in every element that takes text, and acquisition headers with a number in every free field."""
    import ismrmrd.xsd

    markers = Markers()
    header = maximal_header(markers)
    real = ismrmrd.xsd.CreateFromDocument(scan.xml)
    header.encoding = real.encoding
    xml = ismrmrd.xsd.ToXML(header).encode()
    headers = scan.headers.copy()
    for name in ("user_int", "physiology_time_stamp"):
        headers[name] = NUMBER
    headers["measurement_uid"] = NUMBER
    headers["acquisition_time_stamp"] = NUMBER + np.arange(len(headers))
    return markers, xml, headers


def found_in(text: bytes, markers: Markers) -> dict[str, str]:
    """The marks in some bytes and where they were planted, and the number, as it lies in a header."""
    number = {str(NUMBER): "acquisitions"} if NUMBER.to_bytes(4, "little") in text else {}
    return markers.found_in(text) | number


def held(folder: Path, least: int) -> list[bytes]:
    """The contents of all files of a folder, as soon as they are so many bytes in all."""
    kept = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return kept if sum(map(len, kept)) > least else []


def play(address: str, xml: bytes, headers: np.ndarray, scan: RawScan, mark: str) -> Wire:
    wave = np.zeros(1, WAVEFORM_HEADER)
    wave["number_of_samples"], wave["channels"], wave["version"] = 4, 1, 1
    wire = Wire(address)
    wire.send(writer.config_text(f"<patient>{mark}</patient>"), writer.text(mark), writer.header(xml))
    wire.send(writer.text(json.dumps({"parameters": {"patient": mark, mark: "1"}})))
    wire.send(writer.waveforms(wave, np.full(4, NUMBER, "<u4")), writer.text(f"scan of {mark}"))
    wire.send(writer.acquisitions(headers, np.concatenate([each.reshape(-1) for each in scan.samples])), writer.close())
    wire.finish()
    return wire


async def record(conversation: Conversation) -> None:
    await conversation.accept()
    await conversation.receive_all()
    await conversation.plan(1, "rss")
    await conversation.image(0, np.ones((ROWS, COLUMNS), np.float32))
    await conversation.summary([0], ROWS, COLUMNS)


def test_nothing_of_a_patient_is_on_the_wire_or_in_the_logs(scripted, start_gateway, scan, marked):
    markers, xml, headers = marked
    log = io.StringIO()
    configure_logging(Logging(level="debug"), log)
    scripted.peer.scripts = [record]
    wire = play(start_gateway(scripted.peer.target).ports[0].address, xml, headers, scan, markers.text("text"))
    (call,) = scripted.peer.calls
    sent = b"".join(message.SerializeToString() for message in call.received)
    assert len(sent) > headers.nbytes
    assert found_in(sent, markers) == {}
    metadata = " ".join(f"{key}={value}" for key, value in call.context.invocation_metadata())
    assert found_in(metadata.encode(), markers) == {}
    assert "deidentified" in log.getvalue()
    assert found_in(log.getvalue().encode(), markers) == {}

    # The console, which knows the patient, gets the attributes back.
    root = ElementTree.fromstring(wire.images()[0].attributes)
    restored = {meta.findtext("name"): meta.findtext("value") for meta in root.iter("meta")}
    for name in ("patientName", "patientID", "studyInstanceUID"):
        assert markers.planted[restored[name]].endswith(name)
    assert int(wire.images()[0].header["measurement_uid"]) == NUMBER


def test_nothing_of_a_patient_is_in_a_file_of_the_gateway_or_with_the_service(service, scan, marked, tmp_path):
    markers, xml, headers = marked
    folder = tmp_path / "gateway"
    folder.mkdir()
    options = ["--listen", "127.0.0.1:0", "--server", service.address, "--spool", str(folder / "spool")]
    options += ["--metrics-listen", "127.0.0.1:0", "--log-level", "debug", "--stop-with-stdin"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "recond_client", "gateway", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=folder,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        metrics = process.stdout.readline().split()[-1]
        address = process.stdout.readline().split("listening on ")[1].split()[0]
        wire = Wire(address)
        wire.send(writer.config_file("default"), writer.header(xml))
        first = scan.slice(0)
        wire.send(
            writer.acquisitions(headers[first], np.concatenate([scan.samples[each].reshape(-1) for each in first]))
        )
        size = headers[first].nbytes + sum(scan.samples[each].nbytes for each in first)
        kept = eventually(lambda: held(folder, size))
        wire.vanish()  # so that its images stay
        play(address, xml, headers, scan, markers.text("text"))
        with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=10) as answer:
            kept.append(answer.read())
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()
    kept += [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    with urllib.request.urlopen(
        f"http://127.0.0.1:{service.events('listening')[0]['metrics_port']}/metrics", timeout=10
    ) as answer:
        kept.append(answer.read())
    kept.append(Path(service.log).read_bytes())
    assert [place for each in kept for place in found_in(each, markers).values()] == []


def test_a_gateway_that_may_leaves_headers_as_they_are(scripted, start_gateway, scan, marked):
    _, xml, headers = marked
    scripted.peer.scripts = [record]
    gateway = start_gateway(scripted.peer.target, privacy={"deidentify": False})
    play(gateway.ports[0].address, xml, headers, scan, "x")
    assert scripted.peer.calls[0].received[1].mrd_header.xml == xml


def test_images_are_the_same_without_the_patient(service, start_gateway, scan):
    with recond_client.Client(service.address) as client:
        whole = client.reconstruct(scan.path, model="rss")
    gateway = start_gateway(service.address)
    wire = Wire(gateway.ports[0].address)
    wire.send(writer.config_file("default"), writer.header(scan.xml), scan.messages(), writer.close())
    wire.finish()
    assert len(wire.images()) == SLICES
    for image in wire.images():
        pixels = np.frombuffer(image.pixels, "<f4").reshape(COLUMNS, ROWS).T
        assert np.array_equal(pixels, whole.images[int(image.header["slice"])])


def test_a_mark_would_be_found(marked):
    markers, xml, headers = marked
    assert len(found_in(xml, markers)) > 40
    assert str(NUMBER) in found_in(headers.tobytes(), markers)
    assert int(AcquisitionFlag.LAST_IN_SLICE) == 128
