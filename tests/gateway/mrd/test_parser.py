"""Streams into messages: every message, however the bytes arrive, and what is refused."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable

import numpy as np
import pytest
from mrd_streams import acquisition, fed, flat, image, scan, serialized, waveform

from recond_client.acquisitions import MAX_BATCH_BYTES, AcquisitionBatch
from recond_client.errors import InputError
from recond_gateway.mrd import writer
from recond_gateway.mrd.errors import ProtocolError
from recond_gateway.mrd.layouts import ACQUISITION_HEADER, IMAGE_HEADER, WAVEFORM_HEADER
from recond_gateway.mrd.limits import LARGEST_BATCH, WireLimits
from recond_gateway.mrd.messages import (
    Acquisitions,
    Close,
    ConfigFile,
    ConfigText,
    GadgetronError,
    Header,
    ImageMessage,
    Message,
    NdArray,
    Query,
    Response,
    Text,
    Waveforms,
)
from recond_gateway.mrd.parser import MrdParser


def parsed(stream: bytes, pieces: Iterable[int] = (), limits: WireLimits | None = None) -> list[Message]:
    parser = MrdParser(limits)
    messages = list(fed(parser, stream, pieces))
    assert not parser.pending
    assert parser.at == len(stream)
    return messages


def refused(stream: bytes, limits: WireLimits | None = None) -> ProtocolError:
    """Return why a stream is refused, the same whether it comes at once or byte by byte."""
    reasons = []
    for pieces in ((), itertools.repeat(1)):
        with pytest.raises(ProtocolError) as caught:
            list(fed(MrdParser(limits), stream, pieces))
        reasons.append((caught.value.reason, caught.value.message))
    assert reasons[0] == reasons[1]
    return caught.value


def header_of(channels: int, samples: int, dimensions: int = 0, version: int = 1, flags: int = 0) -> np.ndarray:
    header = np.zeros(1, ACQUISITION_HEADER)
    header["version"], header["active_channels"], header["number_of_samples"] = version, channels, samples
    header["trajectory_dimensions"] = dimensions
    header["flags"] = flags
    return header


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (writer.config_file("simple"), ConfigFile("simple")),
        (struct.pack("<HI", 2, 5) + b"<a/>\0", ConfigText("<a/>")),
        (struct.pack("<HI", 3, 6) + b"<xml>\0", Header(b"<xml>")),
        (struct.pack("<HI", 3, 5) + b"<xml>", Header(b"<xml>")),
        (struct.pack("<H", 4), Close()),
        (struct.pack("<HI", 5, 7) + b"INFO a\0", Text("INFO a")),
        (struct.pack("<HI", 5, 6) + b"a\0b\0\0c", Text("a")),
        (struct.pack("<HI", 5, 0), Text("")),
        (struct.pack("<HI", 5, 3) + b"M\xfcl", Text("M\ufffdl")),
        (struct.pack("<HQQQ", 6, 0, 7, 15) + b"gadgetron::info", Query(7, "gadgetron::info")),
        (struct.pack("<HQQ", 7, 7, 4) + b"4.1\0", Response(7, "4.1")),
        (struct.pack("<HQ", 8, 6) + b"broken", GadgetronError("broken")),
    ],
)
def test_small_messages(stream: bytes, message: Message) -> None:
    for pieces in ((), itertools.repeat(1)):
        assert parsed(stream, pieces) == [message]


def test_a_name_that_fills_its_field_is_taken() -> None:
    assert parsed(struct.pack("<H", 1) + b"n" * 1024) == [ConfigFile("n" * 1024)]


def test_a_stream_is_the_same_wherever_it_is_cut() -> None:
    stream = serialized(scan())
    whole = flat(parsed(stream))
    assert len(whole) == len(scan()) + 1
    for cut in range(1, len(stream)):
        assert flat(parsed(stream, [cut])) == whole, cut
    for piece in (1, 2, 3, 5, 341, 1000):
        assert flat(parsed(stream, itertools.repeat(piece))) == whole


def test_neighbours_come_as_one_message_and_others_stay_in_order() -> None:
    kinds = [type(message) for message in parsed(serialized(scan()))]
    assert kinds == [
        ConfigFile,
        ConfigText,
        Header,
        Text,
        Acquisitions,
        Waveforms,
        Acquisitions,
        ImageMessage,
        NdArray,
        Text,
        Close,
    ]


def test_acquisitions_are_what_the_service_takes() -> None:
    for message in parsed(serialized(scan())):
        if isinstance(message, Acquisitions):
            batch = AcquisitionBatch(message.headers, message.samples, message.trajectories)
            assert (batch.count, batch.size) == (message.count, message.size)


def test_batches_stay_within_their_bytes() -> None:
    stream = serialized(acquisition(4, 32, scan_counter=line) for line in range(50))
    one = 340 + 4 * 32 * 8
    for most, count in ((one, 1), (2 * one - 1, 1), (3 * one, 3), (50 * one, 50)):
        messages = parsed(stream, limits=WireLimits(batch_bytes=most))[:-1]
        assert max(message.count for message in messages) == count
        assert all(message.size <= most for message in messages)
        assert [line for message in messages for line in message.headers["scan_counter"]] == list(range(50))


def test_sizes_may_differ_from_one_to_the_next() -> None:
    generator = np.random.default_rng(1)
    sizes = generator.integers((1, 0, 0), (5, 40, 4), (200, 3)).tolist()
    sizes[20:60] = [sizes[20]] * 40
    made = [acquisition(*size, scan_counter=line) for line, size in enumerate(sizes)]
    (message, _) = parsed(serialized(made))
    assert flat([message]) == [
        ("Acquisitions", bytes(one.getHead()), one.data.tobytes(), one.traj.tobytes()) for one in made
    ]


def test_equal_bytes_but_other_sizes_do_not_join_a_run() -> None:
    """Each has the bytes of its neighbour: 2 x 8 samples, 4 x 4, 1 x 8 with 2 dimensions of trajectory."""
    made = [acquisition(2, 8), acquisition(4, 4), acquisition(1, 8, 2), acquisition(2, 8)]
    (message, _) = parsed(serialized(made))
    assert message.headers["active_channels"].tolist() == [2, 4, 1, 2]
    assert flat([message])[2][2:] == (made[2].data.tobytes(), made[2].traj.tobytes())


@pytest.mark.parametrize("shape", [(0, 16, 0), (3, 0, 0), (0, 0, 3), (0, 4, 2), (1, 65535, 0)])
def test_extreme_sizes(shape: tuple[int, int, int]) -> None:
    channels, samples, dimensions = shape
    data, path = bytes(8 * channels * samples), bytes(4 * samples * dimensions)
    one = struct.pack("<H", 1008) + header_of(*shape).tobytes() + path + data
    *messages, _ = parsed(one * 3 + writer.close())
    assert sum(message.count for message in messages) == 3
    assert b"".join(message.samples for message in messages) == 3 * data
    assert b"".join(message.trajectories for message in messages) == 3 * path


def test_memory_that_is_handed_out_stays() -> None:
    parser = MrdParser(WireLimits(batch_bytes=2000))
    made = [acquisition(1, 16, scan_counter=line) for line in range(100)]
    messages = list(fed(parser, serialized(made), itertools.repeat(700)))
    assert flat(messages[:-1]) == [("Acquisitions", bytes(one.getHead()), one.data.tobytes(), b"") for one in made]


def test_memory_grows_with_what_comes_and_goes_back() -> None:
    limits = WireLimits(batch_bytes=4096, data_bytes=1 << 20)
    parser = MrdParser(limits)
    usual = parser.capacity
    parser.buffer()[:6] = struct.pack("<HI", 5, 16 << 20)
    parser.received(6)
    assert not list(parser.messages())
    parser.buffer()
    assert parser.capacity == usual  # 16 MiB are announced, and nothing of them is there

    parser = MrdParser(limits)
    long = writer.text("x" * (3 << 20))
    largest = 0
    for _ in fed(parser, long, itertools.repeat(1 << 16)):
        largest = parser.capacity
    assert len(long) <= largest <= 2 * len(long)
    parser.buffer()
    assert parser.capacity == usual


def test_messages_left_waiting_do_not_grow_without_end() -> None:
    parser = MrdParser(WireLimits(batch_bytes=4096, text_bytes=4096, data_bytes=4096))

    def fill() -> None:
        while True:
            parser.received(len(parser.buffer()))

    with pytest.raises(RuntimeError, match="take the messages"):
        fill()
    assert parser.capacity < 8 << 20


def test_more_than_fits_cannot_have_been_received() -> None:
    parser = MrdParser()
    with pytest.raises(ValueError, match="cannot have been received"):
        parser.received(len(parser.buffer()) + 1)


def test_pending_tells_of_an_unfinished_message() -> None:
    parser = MrdParser()
    stream = writer.text("abc")
    assert list(fed(parser, stream[:-1], ())) == []
    assert (parser.pending, parser.at) == (True, 0)
    assert list(fed(parser, stream[-1:], ())) == [Text("abc")]
    assert (parser.pending, parser.at) == (False, len(stream))


@pytest.mark.parametrize("number", [0, 9, 999, 1013, 1025, 1027, 65535])
def test_unknown_messages(number: int) -> None:
    error = refused(writer.text("a") + struct.pack("<H", number))
    assert error.reason == "UNKNOWN_MESSAGE"
    assert f"message {number} at byte 7" in error.message


@pytest.mark.parametrize("number", [1004, 1007, 1009, 1012, 1015, 1017, 1020, 1021])
def test_old_forms_of_images_name_the_new_one(number: int) -> None:
    error = refused(struct.pack("<H", number))
    assert error.reason == "DEPRECATED_MESSAGE"
    assert "1022" in error.message


@pytest.mark.parametrize(
    ("number", "name"), [(1023, "RECONDATA"), (1024, "IMAGE_ARRAY"), (1050, "BUCKET"), (1051, "BUNDLE")]
)
def test_messages_inside_gadgetron(number: int, name: str) -> None:
    error = refused(struct.pack("<H", number))
    assert error.reason == "INTERNAL_GADGETRON_MESSAGE"
    assert name in error.message


@pytest.mark.parametrize(
    ("begin", "hint"),
    [
        (b"yardl", "--mrd2"),
        (b"GET / HTTP/1.1", "HTTP"),
        (b"\x16\x03\x01\x02", "TLS"),
        (b"\x89HDF", "recond gateway replay"),
    ],
)
def test_other_protocols_are_recognised_at_the_beginning(begin: bytes, hint: str) -> None:
    assert hint in refused(begin).message
    assert hint not in refused(writer.text("a") + begin).message


@pytest.mark.parametrize(
    ("stream", "size"),
    [
        (struct.pack("<HI", 2, 2**32 - 1), 2**32 - 1),
        (struct.pack("<HI", 3, (16 << 20) + 1), (16 << 20) + 1),
        (struct.pack("<HI", 5, 2**31), 2**31),
        (struct.pack("<HQQQ", 6, 0, 1, 2**64 - 1), 2**64 - 1),
        (struct.pack("<HQQ", 7, 1, 2**63), 2**63),
        (struct.pack("<HQ", 8, 2**63), 2**63),
        (struct.pack("<H", 1008) + header_of(64, 65535).tobytes()[:178], 340 + 64 * 65535 * 8),
        (struct.pack("<H", 1008) + header_of(1, 65535, 65535).tobytes()[:178], 340 + 65535 * (8 + 65535 * 4)),
        (struct.pack("<HHHHQQ", 1030, 5, 0, 2, 2**40, 2**40), 4 * 2**80),
        (struct.pack("<HHHHQQ", 1030, 5, 0, 2, 0, 2**62), 4 * 2**62),
    ],
)
def test_what_announces_too_much_is_refused_before_it_comes(stream: bytes, size: int) -> None:
    error = refused(writer.text("a") + stream)
    assert error.reason == "MESSAGE_TOO_LARGE"
    assert f"at byte 7 announces {size} bytes" in error.message


def test_the_largest_acquisition_is_what_the_service_takes() -> None:
    error = refused(struct.pack("<H", 1008) + header_of(64, 65535).tobytes())
    assert str(LARGEST_BATCH) in error.message
    assert "64 channels x 65535 samples" in error.message
    samples = (LARGEST_BATCH - 340) // (8 * 8)
    stream = struct.pack("<H", 1008) + header_of(8, samples).tobytes() + bytes(8 * 8 * samples)
    (message,) = parsed(stream, itertools.repeat(1 << 20))
    batch = AcquisitionBatch(message.headers, message.samples)
    assert LARGEST_BATCH - 64 < batch.size <= LARGEST_BATCH < MAX_BATCH_BYTES
    assert len(batch.to_wire().SerializeToString()) < MAX_BATCH_BYTES


def test_what_came_before_is_yielded_and_the_error_stays() -> None:
    stream = serialized([acquisition(1, 4)] * 3)[:-2] + struct.pack("<H", 77)
    parser = MrdParser()
    room = parser.buffer()
    room[: len(stream)] = stream
    parser.received(len(stream))
    messages = parser.messages()
    assert next(messages).count == 3
    with pytest.raises(ProtocolError, match=f"message 77 at byte {len(stream) - 2}"):
        next(messages)
    with pytest.raises(InputError, match="message 77"):
        list(parser.messages())


def test_a_bad_acquisition_behind_good_ones_does_not_take_them_along() -> None:
    good = serialized([acquisition(1, 4)] * 3)[:-2]
    for header, reason in (
        (header_of(64, 65535), "MESSAGE_TOO_LARGE"),
        (header_of(1, 4, version=2), "BAD_HEADER_VERSION"),
        (header_of(1, 4, flags=1 << 53), "COMPRESSED_ACQUISITION"),
    ):
        messages = fed(MrdParser(), good + struct.pack("<H", 1008) + header.tobytes(), ())
        assert next(messages).count == 3
        with pytest.raises(ProtocolError) as caught:
            next(messages)
        assert caught.value.reason == reason
        assert f"at byte {len(good)}" in caught.value.message


@pytest.mark.parametrize("flag", range(1, 65))
def test_flags_of_compression_alone_are_refused(flag: int) -> None:
    stream = struct.pack("<H", 1008) + header_of(1, 2, flags=1 << (flag - 1)).tobytes() + bytes(16)
    if 53 <= flag <= 56:
        assert refused(stream).reason == "COMPRESSED_ACQUISITION"
    else:
        (message,) = parsed(3 * stream)
        assert message.count == 3


@pytest.mark.parametrize(
    ("number", "layout"), [(1008, ACQUISITION_HEADER), (1022, IMAGE_HEADER), (1026, WAVEFORM_HEADER)]
)
def test_headers_of_another_version(number: int, layout: np.dtype) -> None:
    header = np.zeros((), layout)
    header["version"] = 2
    assert refused(struct.pack("<H", number) + header.tobytes()).reason == "BAD_HEADER_VERSION"


def test_libraries_that_leave_the_version_out_are_read() -> None:
    (message,) = parsed(struct.pack("<H", 1008) + header_of(1, 2, version=0).tobytes() + bytes(16))
    assert message.count == 1


def test_a_query_must_leave_its_reserved_field_alone() -> None:
    error = refused(struct.pack("<HQQQ", 6, 5, 1, 0))
    assert error.reason == "BAD_QUERY"


def test_types_of_pixels_that_do_not_exist() -> None:
    header = np.zeros((), IMAGE_HEADER)
    header["data_type"] = 9
    assert refused(struct.pack("<H", 1022) + header.tobytes()).reason == "BAD_IMAGE"
    assert refused(struct.pack("<HHHH", 1030, 0, 0, 1)).reason == "BAD_ARRAY"
    assert refused(struct.pack("<HHHH", 1030, 1, 0, 33)).reason == "BAD_ARRAY"


def test_large_images_and_waveforms() -> None:
    header = np.zeros((), IMAGE_HEADER)
    header["data_type"], header["channels"], header["matrix_size"] = 8, 65535, (65535, 65535, 65535)
    assert refused(struct.pack("<H", 1022) + header.tobytes()).reason == "MESSAGE_TOO_LARGE"
    header["data_type"], header["channels"], header["matrix_size"] = 1, 1, (2, 2, 1)
    assert (
        refused(struct.pack("<H", 1022) + header.tobytes() + struct.pack("<Q", 2**64 - 1)).reason == "MESSAGE_TOO_LARGE"
    )
    waves = np.zeros((), WAVEFORM_HEADER)
    waves["channels"] = waves["number_of_samples"] = 65535
    assert refused(struct.pack("<H", 1026) + waves.tobytes()).reason == "MESSAGE_TOO_LARGE"


def test_attributes_lose_their_nuls() -> None:
    made = image()
    header = np.frombuffer(bytes(made.getHead()), IMAGE_HEADER)[0]
    stream = struct.pack("<H", 1022) + header.tobytes() + struct.pack("<Q", 5) + b"<a/>\0" + made.data.tobytes()
    (message,) = parsed(stream)
    assert (message.attributes, message.pixels) == ("<a/>", made.data.tobytes())
    assert message.size == 198 + 4 + made.data.nbytes


def test_waveforms_keep_their_padded_header() -> None:
    made = waveform(2, 5, scan_counter=7, time_stamp=2**32 - 1, flags=2**63)
    (message, _) = parsed(serialized([made]))
    assert message.headers.tobytes() == bytes(made.getHead())
    assert (message.headers["time_stamp"][0], message.headers["flags"][0]) == (2**32 - 1, 2**63)
    assert message.size == 40 + 40


@pytest.mark.parametrize(
    ("name", "value"), [("batch_bytes", 0), ("text_bytes", -1), ("batch_bytes", LARGEST_BATCH + 1)]
)
def test_limits_that_make_no_sense(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=name):
        WireLimits(**{name: value})
