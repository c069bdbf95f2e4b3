"""Sessions from connection to CLOSE, with a real service behind the gateway."""

from __future__ import annotations

import json
import struct
import threading
import time

import numpy as np
import pytest
from defusedxml import ElementTree
from gateway_scans import COLUMNS, ROWS, SLICES, Wire
from waiting import eventually

import recond_client
from recond_gateway.mrd import messages as mrd
from recond_gateway.mrd import writer
from recond_gateway.mrd.layouts import IMAGE_HEADER
from recond_gateway.mrd.layouts import AcquisitionFlag as Flag

PIXELS = ROWS * COLUMNS


@pytest.fixture
def gateway(service, start_gateway):
    return start_gateway(
        service.address,
        pipelines={
            "default": {"model": "rss"},
            "whole": {"model": "cg-sense", "outputs": ["magnitude", "phase", "complex"]},
            "integers": {"model": "rss", "pixels": "int16"},
        },
        limits={"config_seconds": 1.0, "header_seconds": 1.0, "idle_seconds": 1.0},
    )


@pytest.fixture(scope="module")
def expected(service, scan):
    with recond_client.Client(service.address) as client:
        return client.reconstruct(scan.path, model="rss")


def wire_to(gateway) -> Wire:
    return Wire(gateway.ports[0].address)


def attributes(image: mrd.ImageMessage) -> dict[str, list[str]]:
    root = ElementTree.fromstring(image.attributes)
    return {meta.findtext("name"): [value.text or "" for value in meta.iter("value")] for meta in root.iter("meta")}


def pixels(image: mrd.ImageMessage, dtype: str = "<f4") -> np.ndarray:
    """(rows, columns), as recond has them."""
    x, y, _ = image.header["matrix_size"]
    return np.frombuffer(image.pixels, dtype).reshape(y, x).T


def metric(gateway, name: str, **labels: str) -> float:
    return gateway.services.metrics.registry.get_sample_value(f"recond_gateway_{name}", labels) or 0.0


def test_a_scan_comes_back_as_its_images(gateway, scan, expected):
    wire = wire_to(gateway)
    wire.send(writer.config_file("default"), writer.header(scan.xml), scan.messages(), writer.close())
    lines = wire.finish()
    assert wire.closed
    images = wire.images()
    assert [int(image.header["slice"]) for image in images] == [index.slice for index in expected.index]
    for image, whole, geometry in zip(images, expected.images, expected.geometry, strict=True):
        assert np.array_equal(pixels(image), whole)
        for field, value in (
            ("position", geometry.position),
            ("read_dir", geometry.row_direction),
            ("phase_dir", geometry.column_direction),
            ("slice_dir", geometry.slice_direction),
        ):
            assert image.header[field] == pytest.approx(value)
        assert image.header["field_of_view"] == pytest.approx(
            (ROWS * geometry.spacing[0], COLUMNS * geometry.spacing[1], geometry.spacing[2])
        )
        assert (int(image.header["data_type"]), int(image.header["image_type"])) == (5, 1)
        about = attributes(image)
        assert about["DataRole"] == ["Image"]
        assert about["Keep_image_geometry"] == ["1"]
        assert [float(value) for value in about["ImageRowDir"]] == pytest.approx(geometry.row_direction)
        assert about["RecondModel"] == ["rss"]
        assert "rss" in about["ImageComments"][0]
    assert {int(image.header["image_series_index"]) for image in images} == {1}
    assert [int(image.header["image_index"]) for image in images] == list(range(1, SLICES + 1))
    assert lines[-1].startswith("INFO    recond scan ")
    assert f"{len(scan.headers)} acquisitions received, {len(scan.headers)} used; {SLICES} images" in lines[-1]
    assert not [line for line in lines if line.startswith("ERROR")]
    assert metric(gateway, "images_total", device="scanner", by="asked") == SLICES
    eventually(lambda: metric(gateway, "sessions_total", device="scanner", end="done") == 1)
    assert not gateway.services.spool.scans()


def test_an_image_comes_while_other_slices_are_still_measured(gateway, scan):
    wire = wire_to(gateway)
    wire.send(writer.config_file("default"), writer.header(scan.xml))
    for number in range(SLICES):
        wire.send(scan.messages(scan.slice(number)))
        wire.wait_for(lambda number=number: len(wire.images()) == number + 1)
    wire.send(writer.close())
    assert wire.finish()[-1].startswith("INFO")


def test_outputs_are_series_of_their_own(gateway, scan):
    wire = wire_to(gateway)
    wire.send(writer.config_file("whole"), writer.header(scan.xml), scan.messages(), writer.close())
    wire.finish()
    series: dict[int, list[mrd.ImageMessage]] = {}
    for image in wire.images():
        series.setdefault(int(image.header["image_series_index"]), []).append(image)
    assert sorted(map(len, series.values())) == [SLICES] * 3
    kinds = {int(images[0].header["image_type"]): images for images in series.values()}
    assert set(kinds) == {1, 2, 5}
    for magnitude, phase, whole in zip(kinds[1], kinds[2], kinds[5], strict=True):
        values = pixels(whole, "<c8")
        assert np.abs(values) == pytest.approx(pixels(magnitude), rel=1e-5, abs=1e-6)
        assert np.angle(values) == pytest.approx(pixels(phase), abs=1e-5)


def test_integers_keep_their_scale_in_the_attributes(gateway, scan, expected):
    wire = wire_to(gateway)
    wire.send(writer.config_file("integers"), writer.header(scan.xml), scan.messages(), writer.close())
    wire.finish()
    slopes = set()
    for image, whole in zip(wire.images(), expected.images, strict=True):
        about = attributes(image)
        slope = float(about["RescaleSlope"][0])
        slopes.add(slope)
        assert int(image.header["data_type"]) == 2
        assert pixels(image, "<i2") * slope == pytest.approx(whole, abs=0.51 * slope)
        assert about["WindowWidth"][0].isdigit()
        assert about["WindowCenter"][0].isdigit()
    assert len(slopes) == 1


def test_phases_are_integers_where_magnitudes_are(service, start_gateway, scan):
    outputs = {"model": "cg-sense", "outputs": ["magnitude", "phase"]}
    gateway = start_gateway(
        service.address, pipelines={"floats": outputs, "integers": {**outputs, "pixels": "int16"}, "default": {}}
    )
    phases = {}
    for name in ("floats", "integers"):
        wire = wire_to(gateway)
        wire.send(writer.config_file(name), writer.header(scan.xml), scan.messages(), writer.close())
        wire.finish()
        phases[name] = [image for image in wire.images() if int(image.header["image_type"]) == 2]
    for whole, image in zip(phases["floats"], phases["integers"], strict=True):
        slope = float(attributes(image)["RescaleSlope"][0])
        assert slope == pytest.approx(np.pi / 4096)
        assert pixels(image, "<i2") * slope == pytest.approx(pixels(whole), abs=0.51 * slope)


def test_openrecon_sends_its_fixed_name_and_parameters(gateway, scan):
    wire = wire_to(gateway)
    parameters = {
        "parameters": {"config": "openrecon", "model": "rss", "phase": "false", "zoom": "3", "sliceDeadline": "x"}
    }
    wire.send(writer.config_file("openrecon"), writer.header(scan.xml), writer.text(json.dumps(parameters)))
    wire.send(scan.messages(), writer.close())
    lines = wire.finish()
    warnings = [line for line in lines if line.startswith("WARNING ")]
    assert any("zoom" in line for line in warnings)
    assert any("sliceDeadline" in line for line in warnings)
    assert {int(image.header["data_type"]) for image in wire.images()} == {2}
    assert len(wire.images()) == SLICES


def test_a_configuration_as_text_and_texts_of_megabytes(gateway, scan):
    wire = wire_to(gateway)
    wire.send(writer.config_text("<configuration/>"), writer.header(scan.xml), writer.text("x" * 3_000_000))
    wire.send(scan.messages(), writer.text("another line"), writer.close())
    assert wire.finish()[-1].startswith("INFO")
    assert len(wire.images()) == SLICES


def test_a_scanner_that_only_asks(gateway):
    wire = wire_to(gateway)
    wire.send(
        writer.config_file("default"), writer.query(7, "gadgetron::info"), writer.query(8, "what?"), writer.close()
    )
    assert wire.finish()[-1].startswith("INFO")
    answers = {each.correlation: each.text for each in wire.messages if isinstance(each, mrd.Response)}
    assert answers[7].startswith("recond gateway")
    assert answers[8] == "Unknown query"
    assert wire.closed


def test_close_alone_and_close_after_the_configuration(gateway):
    for begin in ((), (writer.config_file("default"),)):
        wire = wire_to(gateway)
        wire.send(*begin, writer.close())
        assert wire.finish()[-1].startswith("INFO")
        assert wire.closed


BROKEN = {
    "HEADER_BEFORE_CONFIG": lambda scan: [writer.header(scan.xml)],
    "SECOND_CONFIG": lambda scan: [writer.config_file("a"), writer.config_file("b")],
    "SECOND_HEADER": lambda scan: [writer.config_file("a"), writer.header(scan.xml), writer.header(scan.xml)],
    "DATA_BEFORE_HEADER": lambda scan: [writer.config_file("a"), scan.messages()],
    "UNKNOWN_MESSAGE": lambda scan: [writer.config_file("a"), writer.header(scan.xml), struct.pack("<H", 4711)],
    "DEPRECATED_MESSAGE": lambda scan: [writer.config_file("a"), writer.header(scan.xml), struct.pack("<H", 1004)],
    "MESSAGE_TOO_LARGE": lambda scan: [writer.config_file("a"), struct.pack("<HI", 3, 0xFFFFFFFF)],
    "BAD_HEADER": lambda scan: [writer.config_file("a"), writer.header(b"<ismrmrdHeader"), scan.messages()],
    "SCANNER_SILENT": lambda scan: [writer.config_file("a")],
}


@pytest.mark.parametrize("reason", BROKEN)
def test_what_breaks_the_protocol_ends_with_an_error_and_close(gateway, scan, reason):
    wire = wire_to(gateway)
    wire.send(*BROKEN[reason](scan))
    lines = wire.finish()
    assert lines[-1].startswith("ERROR   ")
    assert reason in lines[-1]
    assert wire.closed
    eventually(lambda: metric(gateway, "errors_total", device="scanner", reason=reason) == 1)


def test_what_came_before_garbage_is_reconstructed(gateway, scan):
    wire = wire_to(gateway)
    wire.send(writer.config_file("default"), writer.header(scan.xml), scan.messages(scan.slice(0, 1)))
    wire.send(scan.messages(scan.slice(2)[:20]), struct.pack("<H", 4711), b"\0" * 100)
    lines = wire.finish()
    assert lines[-1].startswith("ERROR   ")
    assert len(wire.images()) >= 2
    assert wire.closed


def test_a_silent_scanner_gets_its_images_and_is_told(gateway, scan):
    wire = wire_to(gateway)
    wire.send(writer.config_file("default"), writer.header(scan.xml), scan.messages())
    lines = wire.finish()
    assert "SCANNER_SILENT" in lines[-1]
    assert len(wire.images()) == SLICES
    assert wire.closed


def test_images_of_a_console_that_vanished_wait_for_its_return(gateway, scan, expected):
    wire = wire_to(gateway)
    wire.send(writer.config_file("default"), writer.header(scan.xml), scan.messages(scan.slice(0, 1, 2)))
    wire.send(scan.messages(scan.slice(3)[:10])[:-50])
    name = wire.wait_for(lambda: next((line for line in wire.lines() if "recond scan" in line), ""))
    scan_id = name.split("recond scan ")[1].split(":")[0]
    wire.wait_for(lambda: len(wire.images()) == 3)
    wire.vanish()
    eventually(lambda: [each for each in gateway.services.spool.scans() if not each.held])
    eventually(lambda: metric(gateway, "sessions_total", device="scanner", end="gone") == 1)

    again = wire_to(gateway)
    again.send(writer.config_file(f"recond-resume:{scan_id}"), writer.header(scan.xml), writer.close())
    lines = again.finish()
    assert f"recond scan {scan_id}" in lines[-1]
    held = {int(image.header["slice"]): pixels(image) for image in again.images()}
    for number in range(3):
        assert np.array_equal(held[number], expected.images[number])
    eventually(lambda: not gateway.services.spool.scans())

    third = wire_to(gateway)
    third.send(writer.config_file(f"recond-resume:{scan_id}"), writer.close())
    assert "NO_SUCH_SCAN" in third.finish()[-1]


def test_lines_that_are_missing_are_named(gateway, scan):
    kept = np.setdiff1d(np.arange(len(scan.headers)), scan.slice(1)[[5, 17]])
    wire = wire_to(gateway)
    wire.send(writer.config_file("default"), writer.header(scan.xml), scan.messages(kept), writer.close())
    lines = wire.finish()
    told = next(line for line in lines if "lack lines" in line)
    assert f"slice 1 has {COLUMNS - 2} of {COLUMNS} lines: missing 5, 17" in told
    assert "slice 0" not in told


def test_what_makes_no_image_is_counted(gateway, scan):
    headers = scan.headers.copy()
    extra = headers[:3].copy()
    extra["flags"] = (int(Flag.NAVIGATION), int(Flag.DUMMY), int(Flag.NAVIGATION))
    wave = np.zeros(2, mrd_waveform())
    wave["number_of_samples"], wave["channels"] = 5, 1
    wire = wire_to(gateway)
    wire.send(writer.config_file("default"), writer.header(scan.xml), writer.waveforms(wave, np.zeros(10, "<u4")))
    wire.send(writer.acquisitions(extra, np.concatenate(scan.samples[:3])), scan.messages(), writer.close())
    line = wire.finish()[-1]
    count = len(headers) + 3
    assert f"{count} acquisitions received, {len(headers)} used, 3 dropped (2 navigator, 1 dummy)" in line
    assert "2 waveforms not used" in line


def test_images_of_the_scanner_are_declined(gateway, scan):
    header = np.zeros(1, IMAGE_HEADER)[0]
    header["matrix_size"], header["channels"], header["data_type"] = (2, 2, 1), 1, 5
    wire = wire_to(gateway)
    wire.send(writer.config_file("default"), writer.header(scan.xml))
    wire.send(*[writer.image(header, "", bytes(16))] * 3, writer.close())
    lines = wire.finish()
    (warning,) = [line for line in lines if line.startswith("WARNING")]
    assert "raw data" in warning
    assert lines[-1].startswith("ERROR   ")
    assert "NO_ACQUISITIONS" in lines[-1]
    assert wire.closed


def mrd_waveform():
    from recond_gateway.mrd.layouts import WAVEFORM_HEADER

    return WAVEFORM_HEADER


def test_eight_scanners_at_once(gateway, scan, expected):
    wires = [wire_to(gateway) for _ in range(8)]

    def play(wire: Wire) -> None:
        wire.send(writer.config_file("default"), writer.header(scan.xml))
        for number in range(SLICES):
            wire.send(scan.messages(scan.slice(number)))
        wire.send(writer.close())

    threads = [threading.Thread(target=play, args=(wire,)) for wire in wires]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for wire in wires:
        assert wire.finish()[-1].startswith("INFO")
        for image in wire.images():
            assert np.array_equal(pixels(image), expected.images[int(image.header["slice"])])
        assert len(wire.images()) == SLICES


def test_one_scanner_more_than_a_port_takes(service, start_gateway, scan):
    gateway = start_gateway(service.address, listen=({"address": "127.0.0.1:0", "connections": 1},))
    first = wire_to(gateway)
    first.send(writer.config_file("default"))
    eventually(lambda: metric(gateway, "open_sessions", device="scanner") == 1)
    second = wire_to(gateway)
    assert "TOO_MANY_SESSIONS" in second.finish()[-1]
    assert second.closed
    first.send(writer.close())
    assert first.finish()[-1].startswith("INFO")


def test_strangers_are_not_let_in(service, start_gateway):
    gateway = start_gateway(service.address, listen=({"address": "127.0.0.1:0", "scanner_network": ["10.9.0.0/16"]},))
    wire = wire_to(gateway)
    assert wire.finish() == []
    assert not wire.messages
    eventually(lambda: metric(gateway, "sessions_total", device="scanner", end="refused") == 1)


def test_a_console_that_does_not_read_holds_nobody_up(service, start_gateway, scan):
    gateway = start_gateway(service.address, limits={"write_seconds": 1.0})
    import socket

    deaf = socket.create_connection(("127.0.0.1", int(gateway.ports[0].address.rpartition(":")[2])))
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.sendall(writer.config_file("default") + writer.header(scan.xml))
    for _ in range(3):
        deaf.sendall(scan.messages())
    time.sleep(0.2)
    deaf.sendall(writer.close())
    wire = wire_to(gateway)
    wire.send(writer.config_file("default"), writer.header(scan.xml), scan.messages(), writer.close())
    assert wire.finish()[-1].startswith("INFO")
    deaf.close()
