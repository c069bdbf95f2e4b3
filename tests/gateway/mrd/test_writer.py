"""Messages as bytes: what is written is read back, and what cannot be written is refused."""

from __future__ import annotations

import numpy as np
import pytest
from mrd_streams import acquisition, fed, flat, image, scan, serialized, waveform

from recond_gateway.mrd import writer
from recond_gateway.mrd.layouts import ACQUISITION_HEADER, IMAGE_HEADER, WAVEFORM_HEADER
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
from recond_gateway.mrd.writer import NulConvention


def written(message: Message) -> bytes:  # noqa: C901, PLR0911 - one case for each message
    match message:
        case ConfigFile(name):
            return writer.config_file(name)
        case ConfigText(text):
            return writer.config_text(text)
        case Header(xml):
            return writer.header(xml)
        case Text(text):
            return writer.text(text)
        case Close():
            return writer.close()
        case Query(correlation, query):
            return writer.query(correlation, query)
        case Response(correlation, text):
            return writer.response(correlation, text)
        case GadgetronError(text):
            return writer.gadgetron_error(text)
        case Acquisitions(headers, samples, trajectories):
            return writer.acquisitions(headers, samples, trajectories)
        case Waveforms(headers, samples):
            return writer.waveforms(headers, samples)
        case ImageMessage(header, attributes, pixels):
            return writer.image(header, attributes, pixels)
        case NdArray(array):
            return writer.ndarray(array)


def test_a_stream_read_and_written_is_the_same() -> None:
    stream = (
        serialized(scan()) + writer.query(3, "gadgetron::info") + writer.response(3, "4") + writer.gadgetron_error("e")
    )
    assert b"".join(written(message) for message in fed(MrdParser(), stream, ())) == stream


@pytest.mark.parametrize(
    ("nul", "ends"),
    [
        (NulConvention.NONE, (False, False, False)),
        (NulConvention.FIRE, (True, True, True)),
        (NulConvention.PULSERVER, (True, False, False)),
    ],
)
def test_conventions_for_nuls(nul: NulConvention, ends: tuple[bool, ...]) -> None:
    messages = (writer.config_text("<c/>", nul), writer.header(b"<h/>", nul), writer.text("{}", nul))
    assert tuple(message.endswith(b"\0") for message in messages) == ends
    for message in messages:
        assert int.from_bytes(message[2:6], "little") == len(message) - 6
    assert list(fed(MrdParser(), b"".join(messages), ())) == [ConfigText("<c/>"), Header(b"<h/>"), Text("{}")]


def test_names_of_configurations_have_room_for_their_nul() -> None:
    assert writer.config_file("n" * 1023)[-1:] == b"\0"
    with pytest.raises(ValueError, match="1024 bytes"):
        writer.config_file("n" * 1024)


def test_acquisitions_from_arrays_and_bytes() -> None:
    made = [acquisition(2, 8, 1), acquisition(2, 8, 1), acquisition(1, 4)]
    headers = np.frombuffer(b"".join(bytes(one.getHead()) for one in made), ACQUISITION_HEADER)
    samples = np.concatenate([one.data.ravel() for one in made])
    path = np.concatenate([one.traj.ravel() for one in made])
    expected = serialized(made)[:-2]
    assert writer.acquisitions(headers, samples, path) == expected
    assert writer.acquisitions(headers, samples.tobytes(), path.tobytes()) == expected
    assert writer.acquisitions(headers[:0], b"") == b""
    with pytest.raises(ValueError, match="headers announce"):
        writer.acquisitions(headers, samples[:-1], path)
    with pytest.raises(ValueError, match="headers announce"):
        writer.acquisitions(headers, samples)


def test_waveforms() -> None:
    made = [waveform(2, 5), waveform(1, 3), waveform(1, 3)]
    headers = np.frombuffer(b"".join(bytes(one.getHead()) for one in made), WAVEFORM_HEADER)
    samples = np.concatenate([one.data.ravel() for one in made])
    assert writer.waveforms(headers, samples) == serialized(made)[:-2]
    with pytest.raises(ValueError, match="headers announce"):
        writer.waveforms(headers, samples[1:])


def test_nothing_of_our_memory_goes_out_between_the_fields() -> None:
    rows = np.full(400, 0xAA, np.uint8).view([("head", WAVEFORM_HEADER), ("other", "V10")])
    headers = rows["head"]
    headers["number_of_samples"] = 0
    octets = np.frombuffer(writer.waveforms(headers, b""), np.uint8).reshape(8, 2 + 40)[:, 2:]
    assert not octets[:, 2:8].any()
    assert not octets[:, 38:].any()
    assert (octets[:, 8:28] == 0xAA).all()


def test_images_say_how_long_their_attributes_are() -> None:
    made = image()
    header = np.frombuffer(bytes(made.getHead()), IMAGE_HEADER)[0]
    stream = writer.image(header, "<ä/>", made.data)
    (message,) = fed(MrdParser(), stream, ())
    assert message.header["attribute_string_len"] == len("<ä/>".encode())
    assert header["attribute_string_len"] == 0  # what was given is left as it is
    assert flat([message])[0][2:] == ("<ä/>", made.data.tobytes())
    assert writer.image(header, "<ä/>", made.data.astype(">f4")) == stream


def test_pixels_must_be_what_the_header_says() -> None:
    made = image()
    header = np.frombuffer(bytes(made.getHead()), IMAGE_HEADER)[0]
    with pytest.raises(ValueError, match="header says float32"):
        writer.image(header, "", made.data.astype(np.int16))
    with pytest.raises(ValueError, match="header announces 96"):
        writer.image(header, "", made.data[..., 1:])
