"""Scanners on the codec of the PyPI package ismrmrd: the gateway reads what its serializer writes, and it reads what comes back.

The scanner here behaves as the client of FIRE's reference server: configuration, header, parameters, waveforms, acquisitions,
CLOSE; and reads until CLOSE. Nothing of recond's own codec is on its side.
"""

from __future__ import annotations

import io
import json
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from gateway_process import gateway_process
from recond_testing import Service

import recond_client
from recond_models.simulate.commands import simulate

ismrmrd = pytest.importorskip("ismrmrd")
serialization = pytest.importorskip("ismrmrd.serialization", reason="needs a release of ismrmrd with serialization")

SLICES, COILS, ROWS, COLUMNS = 3, 4, 64, 48
CONFIG = """
[spool]
min_free_bytes = 0
[pipelines.default]
model = "rss"
[pipelines.whole]
model = "cg-sense"
outputs = ["magnitude", "phase", "complex"]
[pipelines.openrecon]
model = "rss"
pixels = "int16"
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.h5"
    options = ["--phantom", "shepp-logan", "--acceleration", "1", "--slices", str(SLICES), "--coils", str(COILS)]
    done = CliRunner().invoke(simulate, ["-o", str(path), *options, "--matrix", f"{ROWS}x{COLUMNS}"])
    assert done.exit_code == 0, done.output
    return path


@pytest.fixture(scope="module")
def gateway(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with gateway_process(tmp_path_factory.mktemp("gateway"), service.address, CONFIG) as (_, address):
        yield address


@pytest.fixture(scope="module")
def expected(service: Service, path: Path) -> recond_client.Result:
    with recond_client.Client(service.address) as client:
        return client.reconstruct(path, model="rss")


@dataclass
class Scan:
    """What a file holds, as the package reads it."""

    header: Any
    acquisitions: list[Any]
    waveforms: list[Any]


@pytest.fixture(scope="module")
def scan(path: Path) -> Scan:
    with ismrmrd.Dataset(path, "dataset", create_if_needed=False) as dataset:
        header = ismrmrd.xsd.CreateFromDocument(dataset.read_xml_header())
        acquisitions = [dataset.read_acquisition(number) for number in range(dataset.number_of_acquisitions())]
    waves = [
        ismrmrd.Waveform.from_array(
            np.arange(2 * 50, dtype=np.uint32).reshape(2, 50), waveform_id=0, scan_counter=count
        )
        for count in range(3)
    ]
    return Scan(header, acquisitions, waves)


@dataclass
class Answer:
    """What came back until CLOSE."""

    images: list[Any] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    after_close: bytes = b""
    ended: str = ""


class Scanner:
    """A connection: the package's codec on both its directions, and another thread that reads, as in FIRE's client."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=60)
        self.out = self.socket.makefile("wb")
        self.serializer = serialization.ProtocolSerializer(self.out)
        self.answer = Answer()
        self.image = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def send(self, *items: Any) -> None:
        for item in items:
            self.serializer.serialize(item)
        self.out.flush()

    def send_with_nul(self, number: int, text: str) -> None:
        """Send a text as FIRE's client does: with a NUL that the length counts."""
        encoded = text.encode() + b"\0"
        self.out.write(struct.pack("<HI", number, len(encoded)) + encoded)
        self.out.flush()

    def wait_for_images(self, count: int) -> None:
        with self.image:
            assert self.image.wait_for(lambda: len(self.answer.images) >= count, 60), self.answer.lines

    def close(self) -> Answer:
        self.serializer.close()
        self._thread.join(120)
        assert not self._thread.is_alive(), self.answer.lines
        self.out.close()
        self.socket.close()
        return self.answer

    def _read(self) -> None:
        answer = self.answer
        with self.socket.makefile("rb") as stream:
            try:
                for item in serialization.ProtocolDeserializer(stream).deserialize():
                    with self.image:
                        if isinstance(item, ismrmrd.Image):
                            answer.images.append(item)
                        else:
                            assert isinstance(item, str), type(item)
                            answer.lines.append(item)
                        self.image.notify_all()
                answer.ended = "CLOSE"
                answer.after_close = stream.read()
            except Exception as error:  # noqa: BLE001 - shown by the assertion on `ended`
                answer.ended = repr(error)


def pixels(image: Any) -> np.ndarray:
    """(rows, columns), as recond has them, of (channels, z, y, x)."""
    return np.asarray(image.data)[0, 0].T


def meta(image: Any) -> dict[str, Any]:
    """The attributes by the package's own parser of MetaContainers, from the text that came."""
    text = image.attribute_string
    assert "\0" not in text
    return dict(ismrmrd.Meta.deserialize(text))


def check(answer: Answer, scan: Scan, expected: recond_client.Result) -> None:
    assert (answer.ended, answer.after_close) == ("CLOSE", b"")
    assert [image.slice for image in answer.images] == [index.slice for index in expected.index]
    for image, whole, geometry in zip(answer.images, expected.images, expected.geometry, strict=True):
        assert np.array_equal(pixels(image), whole)
        assert list(image.read_dir) == pytest.approx(geometry.row_direction)
        assert list(image.position) == pytest.approx(geometry.position)
        about = meta(image)
        assert about["DataRole"] == "Image"
        assert about["Keep_image_geometry"] == "1"
        assert [float(value) for value in about["ImageRowDir"]] == pytest.approx(geometry.row_direction)
        assert about["RecondModel"] == "rss"
        # What it read it writes again, and reads back: nothing in the attributes is out of its schema.
        again = io.BytesIO()
        image.serialize_into(again.write)
        again.seek(0)
        back = ismrmrd.Image.deserialize_from(again.read)
        assert dict(back.meta) == about
        assert np.array_equal(back.data, image.data)
    assert answer.lines[-1].startswith("INFO    recond scan ")
    assert f"{len(scan.acquisitions)} acquisitions received" in answer.lines[-1]


PARAMETERS = {"parameters": {"config": "default", "customconfig": "", "phase": "false"}}


@pytest.mark.parametrize("nul", [False, True], ids=["without NULs", "NULs as FIRE"])
def test_a_session_as_of_fire(gateway: str, scan: Scan, expected: recond_client.Result, nul: bool) -> None:
    scanner = Scanner(gateway)
    scanner.send(serialization.ConfigFile("default"))
    if nul:
        scanner.send_with_nul(3, scan.header.toXML())
        scanner.send_with_nul(5, json.dumps(PARAMETERS))
    else:
        scanner.send(scan.header, json.dumps(PARAMETERS))
    scanner.send(*scan.waveforms, *scan.acquisitions)
    answer = scanner.close()
    check(answer, scan, expected)
    assert f"{len(scan.waveforms)} waveforms not used" in answer.lines[-1]
    assert not [line for line in answer.lines if line.startswith("WARNING")]


@pytest.mark.parametrize("nul", [False, True], ids=["without NULs", "NULs as FIRE"])
def test_a_configuration_as_text(gateway: str, scan: Scan, expected: recond_client.Result, nul: bool) -> None:
    """Gadgetron's clients may send the XML of a chain: what it says is not followed, and the scan goes by the default."""
    chain = '<?xml version="1.0"?><gadgetronStreamConfiguration/>'
    scanner = Scanner(gateway)
    if nul:
        scanner.send_with_nul(2, chain)
    else:
        scanner.send(serialization.ConfigText(chain))
    scanner.send(scan.header, *scan.acquisitions)
    check(scanner.close(), scan, expected)


def by_slice(scan: Scan) -> Iterable[list[Any]]:
    for number in range(SLICES):
        yield [one for one in scan.acquisitions if one.idx.slice == number]


def test_images_come_between_acquisitions(gateway: str, scan: Scan, expected: recond_client.Result) -> None:
    scanner = Scanner(gateway)
    scanner.send(serialization.ConfigFile("default"), scan.header)
    for count, lines in enumerate(by_slice(scan), start=1):
        scanner.send(*lines, scan.waveforms[0], "INFO    a line of the scanner's log")
        scanner.wait_for_images(count)
    check(scanner.close(), scan, expected)


def test_kinds_of_pixels(gateway: str, scan: Scan) -> None:
    """Each output is a series of one shape and type: what an HDF5 file of the package can hold."""
    scanner = Scanner(gateway)
    scanner.send(serialization.ConfigFile("whole"), scan.header, *scan.acquisitions)
    answer = scanner.close()
    assert answer.ended == "CLOSE"
    series: dict[int, list[Any]] = {}
    for image in answer.images:
        series.setdefault(image.image_series_index, []).append(image)
    kinds = {images[0].image_type: images for images in series.values()}
    assert set(kinds) == {ismrmrd.IMTYPE_MAGNITUDE, ismrmrd.IMTYPE_PHASE, ismrmrd.IMTYPE_COMPLEX}
    for magnitude, phase, whole in zip(*(kinds[kind] for kind in sorted(kinds)), strict=True):
        assert whole.data.dtype == np.complex64
        assert np.abs(whole.data) == pytest.approx(magnitude.data, rel=1e-5, abs=1e-6)
        assert np.angle(whole.data) == pytest.approx(phase.data, abs=1e-5)


def test_integers_for_openrecon(gateway: str, scan: Scan, expected: recond_client.Result, tmp_path: Path) -> None:
    scanner = Scanner(gateway)
    scanner.send(serialization.ConfigFile("openrecon"), scan.header)
    scanner.send(json.dumps({"parameters": {"config": "openrecon", "model": "rss"}}), *scan.acquisitions)
    answer = scanner.close()
    assert answer.ended == "CLOSE"
    with ismrmrd.Dataset(tmp_path / "out.h5", "dataset", create_if_needed=True) as dataset:
        for image, whole in zip(answer.images, expected.images, strict=True):
            slope = float(meta(image)["RescaleSlope"])
            assert image.data.dtype == np.int16
            assert pixels(image) * slope == pytest.approx(whole, abs=0.51 * slope)
            dataset.append_image(f"image_{image.image_series_index}", image)
    with ismrmrd.Dataset(tmp_path / "out.h5", "dataset", create_if_needed=False) as dataset:
        assert dataset.number_of_images("image_1") == SLICES


def test_an_error_ends_with_a_line_and_close(gateway: str, scan: Scan) -> None:
    scanner = Scanner(gateway)
    scanner.send(serialization.ConfigFile("default"), scan.acquisitions[0])
    answer = scanner.close()
    assert (answer.ended, answer.images) == ("CLOSE", [])
    assert answer.lines[-1].startswith("ERROR   ")
    assert "DATA_BEFORE_HEADER" in answer.lines[-1]
