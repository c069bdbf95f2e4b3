"""A scanner plays files to a server that runs the PyPI package's codec."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import ismrmrd
import pytest
from ismrmrd.serialization import ConfigFile
from mrd_files import LINES, SLICES, noise, slices, waves, write_scan
from mrd_server import Answering, reconstruct, serving
from mrd_streams import XML, acquisition

from recond_client.errors import InputError, RecondError, RetryLaterError, ServiceError
from recond_gateway.mrd import writer
from recond_gateway.mrd.messages import Acquisitions, Close, ConfigText, Header, Text
from recond_gateway.mrd.parser import MrdParser
from recond_gateway.mrd.writer import NulConvention
from recond_gateway.replay.arrivals import Line, ReceivedImage, Replay
from recond_gateway.replay.raw_file import RawFile
from recond_gateway.replay.scanner import Scanner
from recond_gateway.replay.session import Arrival, ScannerOptions
from recond_gateway.replay.timing import Rate

MAX = Rate(None)


def play(
    path: Path,
    answer: Callable[[Answering], None] = reconstruct,
    on_arrival: Callable[[Arrival], None] | None = None,
    **options: object,
) -> tuple[Replay, Answering]:
    with serving(answer) as (port, sessions), RawFile(path) as file:
        played = Scanner("127.0.0.1", port, ScannerOptions(**{"rate": MAX} | options)).play(file, on_arrival)
    return played, sessions[0]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scan(
        tmp_path_factory.mktemp("scan") / "scan.h5", [noise(acquisition_time_stamp=90), *slices()], waves()
    )


def test_a_scan_goes_out_whole_and_images_come_back(path: Path) -> None:
    arrivals: list[Arrival] = []
    played, session = play(path, on_arrival=arrivals.append, config="simple", parameters='{"parameters": {}}')
    name, header, parameters, *items = session.received
    assert (name, type(name), parameters) == ("simple", ConfigFile, '{"parameters": {}}')
    assert header.toXML() == ismrmrd.xsd.CreateFromDocument(XML).toXML()
    lines = [item for item in items if isinstance(item, ismrmrd.Acquisition)]
    assert lines == [noise(acquisition_time_stamp=90), *slices()]
    assert [item for item in items if isinstance(item, ismrmrd.Waveform)] == waves()
    assert (played.sent.acquisitions, played.sent.waveforms, played.sent.complete) == (1 + SLICES * LINES, 5, True)
    assert (played.closed, played.failure, played.timing) == (True, None, "as fast as it is taken")
    assert played.verdict is not None
    assert (played.verdict.severity, played.verdict.text) == ("INFO", "24 acquisitions, 3 images")
    assert [int(image.header["slice"]) for image in played.images] == [0, 1, 2]
    assert {image.shape for image in played.images} == {(1, 1, 16, 8)}
    assert all(image.latency is not None and 0 <= image.latency <= played.seconds for image in played.images)
    assert arrivals == [*played.images, *played.lines]


def test_images_come_while_the_scan_runs(tmp_path: Path) -> None:
    """Half a second lies between slices."""
    lines = slices()
    for line in lines:
        line.acquisition_time_stamp += 200 * line.idx.slice
    played, _ = play(write_scan(tmp_path / "scan.h5", lines), rate=Rate(1.0))
    assert played.timing == "time stamps"
    assert played.sent.seconds > 1
    assert len(played.images) == 3
    assert all(image.seconds < played.sent.seconds for image in played.images[:2])


def test_a_damaged_file_ends_the_session(tmp_path: Path) -> None:
    path = write_scan(tmp_path / "scan.h5")
    with h5py.File(path, "a") as file:
        row = file["dataset/data"][20]
        row["data"] = row["data"][:-2]
        file["dataset/data"][20] = row
    with pytest.raises(InputError, match="has 62 values in data 20"):
        play(path)


def test_back_pressure_reaches_the_scanner(tmp_path: Path) -> None:
    """The server reads nothing until the scanner is stuck, far from its end."""
    stuck: list[int] = []

    def answer(session: Answering) -> None:
        while not stuck:
            before = session.connection.recv(1 << 24, socket.MSG_PEEK)
            time.sleep(0.3)
            after = session.connection.recv(1 << 24, socket.MSG_PEEK)
            stuck.extend([len(after)] * (len(after) == len(before)))
        reconstruct(session)

    path = write_scan(tmp_path / "scan.h5", [acquisition(16, 2000, scan_counter=line) for line in range(120)])
    played, session = play(path, answer)
    assert stuck[0] < played.sent.size // 2
    assert played.sent.complete
    assert len([item for item in session.received if isinstance(item, ismrmrd.Acquisition)]) == 120


def test_parameters_of_the_file_are_sent_unless_others_are_given(tmp_path: Path) -> None:
    path = write_scan(tmp_path / "scan.h5", parameters='{"parameters": {"model": "rss"}}')
    for given, sent in ((None, '{"parameters": {"model": "rss"}}'), ("{}", "{}")):
        _, session = play(path, parameters=given)
        assert session.received[2] == sent
    _, session = play(path, parameters="")
    assert isinstance(session.received[2], ismrmrd.Acquisition)


@pytest.mark.parametrize("nul", list(NulConvention))
def test_all_conventions_for_nuls_are_one_stream(tmp_path: Path, nul: NulConvention) -> None:
    messages: list = []
    raw = bytearray()

    def answer(session: Answering) -> None:
        parser = MrdParser()
        while not any(isinstance(message, Close) for message in messages):
            count = session.connection.recv_into(room := parser.buffer())
            raw.extend(room[:count])
            parser.received(count)
            messages.extend(parser.messages())
        session.say("INFO    done")
        session.close()

    play(
        write_scan(tmp_path / "scan.h5"),
        answer,
        nul=nul,
        config="<c/>",
        config_is_text=True,
        parameters='{"parameters": {}}',
    )
    assert messages[:3] == [ConfigText("<c/>"), Header(XML.encode()), Text('{"parameters": {}}')]
    assert sum(message.count for message in messages if isinstance(message, Acquisitions)) == 24
    assert raw.startswith(writer.config_text("<c/>", nul) + writer.header(XML.encode(), nul))


def test_a_gateway_that_ends_the_session_early_is_heard(path: Path) -> None:
    def answer(session: Answering) -> None:
        list(itertools.islice(session.items(), 6))
        session.say("ERROR   too many coils: use 1")
        session.close()
        session.connection.shutdown(socket.SHUT_WR)
        session.file.read()

    played, _ = play(path, answer, rate=Rate(1.0))
    assert not played.sent.complete
    assert (played.closed, played.failure) == (True, None)
    assert played.verdict is not None
    assert played.verdict.failed
    assert played.verdict.text == "too many coils: use 1"


def test_a_gateway_that_ends_early_must_say_why(path: Path) -> None:
    def answer(session: Answering) -> None:
        list(itertools.islice(session.items(), 6))
        session.close()
        session.connection.shutdown(socket.SHUT_WR)
        session.file.read()

    played, _ = play(path, answer, rate=Rate(1.0))
    assert isinstance(played.failure, ServiceError)
    assert played.failure.reason == "CLOSED_EARLY"


def broken_by(path: Path, answer: Callable[[Answering], None], **options: object) -> RecondError:
    played, _ = play(path, answer, **options)
    assert not played.closed
    assert played.failure is not None
    return played.failure


def test_an_end_without_close(path: Path) -> None:
    def leave(session: Answering) -> None:
        list(session.items())

    def leave_inside(session: Answering) -> None:
        list(session.items())
        session.connection.sendall(writer.text("INFO    done")[:-1])

    assert "without CLOSE (between messages)" in broken_by(path, leave).message
    assert "without CLOSE (in the middle of a message)" in broken_by(path, leave_inside).message


def test_a_broken_connection_is_no_hang(path: Path) -> None:
    def reset(session: Answering) -> None:
        list(itertools.islice(session.items(), 4))
        session.reset()

    assert broken_by(path, reset, rate=Rate(1.0)).reason == "NO_CLOSE"


def test_a_silent_gateway_is_given_up(path: Path) -> None:
    def wait(session: Answering) -> None:
        list(session.items())
        session.file.read()

    failure = broken_by(path, wait, timeout=0.5)
    assert isinstance(failure, RetryLaterError)
    assert failure.reason == "SILENT_GATEWAY"


def test_what_comes_back_must_be_mrd(path: Path) -> None:
    def babble(session: Answering) -> None:
        list(session.items())
        session.connection.sendall(b"HTTP/1.1 400 Bad Request")
        session.file.read()

    failure = broken_by(path, babble)
    assert isinstance(failure, ServiceError)
    assert "not MRD version 1" in failure.message


def test_pixels_may_be_left_out(path: Path) -> None:
    played, _ = play(path, keep_pixels=False)
    assert [len(image.pixels) for image in played.images] == [0, 0, 0]


def test_an_error_of_the_listener_reaches_the_caller(path: Path) -> None:
    def fail(arrival: Arrival) -> None:
        raise KeyError(type(arrival).__name__)

    with pytest.raises(KeyError, match="ReceivedImage"):
        play(path, on_arrival=fail)


def test_nobody_listens(path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with RawFile(path) as file, pytest.raises(RetryLaterError, match="no gateway answers"):
        Scanner("127.0.0.1", port).play(file)


def test_a_file_without_times_is_not_begun(tmp_path: Path) -> None:
    with (
        RawFile(write_scan(tmp_path / "scan.h5", slices(ticks=0))) as file,
        pytest.raises(InputError, match="--rate MAX"),
    ):
        Scanner("127.0.0.1", 1).play(file)


@pytest.mark.parametrize(
    ("text", "severity", "rest", "failed"),
    [
        ("INFO    3 images", "INFO", "3 images", False),
        ("ERROR   no", "ERROR", "no", True),
        ("CRITICALno", "CRITICAL", "no", True),
        ("WARNING slow", "WARNING", "slow", False),
        ("ERR no", "ERROR", "no", True),
        ("DBG: a", "DEBUG", "a", False),
        ("ERRATA are none", "", "ERRATA are none", False),
        ("hello", "", "hello", False),
    ],
)
def test_both_conventions_for_severities(text: str, severity: str, rest: str, failed: bool) -> None:
    line = Line.parse(1.0, text)
    assert (line.severity, line.text, line.failed) == (severity, rest, failed)


def test_received_images_are_arrays(path: Path) -> None:
    played, _ = play(path)
    image = played.images[0]
    assert isinstance(image, ReceivedImage)
    assert image.array.shape == image.shape
    assert image.array.max() > 0
