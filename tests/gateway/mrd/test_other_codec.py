"""Both directions against the codec of the PyPI package ismrmrd."""

from __future__ import annotations

import io
import struct
from typing import Any

import ismrmrd
import numpy as np
import pytest
from ismrmrd.serialization import ConfigFile, ConfigText, ProtocolDeserializer
from mrd_streams import XML, acquisition, fed, flat, image, scan, serialized, waveform

from recond_gateway.mrd import writer
from recond_gateway.mrd.layouts import ACQUISITION_HEADER, IMAGE_HEADER, WAVEFORM_HEADER
from recond_gateway.mrd.messages import Acquisitions, Header, ImageMessage, NdArray, Text, Waveforms
from recond_gateway.mrd.parser import MrdParser


def deserialized(stream: bytes) -> list[Any]:
    return list(ProtocolDeserializer(io.BytesIO(stream)).deserialize())


def test_their_stream_read_by_us() -> None:
    items = scan()
    values = flat(fed(MrdParser(), serialized(items), ()))[:-1]
    for item, value in zip(items, values, strict=True):
        match item:
            case ismrmrd.Acquisition():
                assert value == ("Acquisitions", bytes(item.getHead()), item.data.tobytes(), item.traj.tobytes())
            case ismrmrd.Waveform():
                assert value == ("Waveforms", bytes(item.getHead()), item.data.tobytes())
            case ismrmrd.Image():
                assert value == ("ImageMessage", bytes(item.getHead()), item.attribute_string, item.data.tobytes())
            case np.ndarray():
                assert value == ("NdArray", item.dtype, item.shape, item.tobytes())
            case ismrmrd.xsd.ismrmrdHeader():
                assert value[1].xml == item.toXML().encode()
            case _:
                assert (value[1].name if isinstance(item, ConfigFile) else value[1].text) == item


def test_our_stream_read_by_them() -> None:
    acquisitions = [acquisition(2, 16, 2, scan_counter=line) for line in range(3)] + [acquisition(1, 8)]
    waves = [waveform(2, 5)]
    picture = image(dtype=np.complex64)
    array = np.arange(12, dtype=np.uint16).reshape(3, 2, 2)
    stream = b"".join(
        (
            writer.config_file("simple"),
            writer.config_text("<c/>"),
            writer.header(XML.encode()),
            writer.text('{"parameters": {}}'),
            writer.acquisitions(
                np.frombuffer(b"".join(bytes(one.getHead()) for one in acquisitions), ACQUISITION_HEADER),
                b"".join(one.data.tobytes() for one in acquisitions),
                b"".join(one.traj.tobytes() for one in acquisitions),
            ),
            writer.waveforms(np.frombuffer(bytes(waves[0].getHead()), WAVEFORM_HEADER), waves[0].data.tobytes()),
            writer.image(
                np.frombuffer(bytes(picture.getHead()), IMAGE_HEADER)[0], picture.attribute_string, picture.data
            ),
            writer.ndarray(array),
            writer.close(),
        )
    )
    name, configuration, header, parameters, *items = deserialized(stream)
    assert (name, type(name), configuration, type(configuration)) == ("simple", ConfigFile, "<c/>", ConfigText)
    assert header.toXML() == ismrmrd.xsd.CreateFromDocument(XML).toXML()
    assert parameters == '{"parameters": {}}'
    assert items[:4] == acquisitions
    assert items[4] == waves[0]
    assert np.array_equal(items[5].data, picture.data)
    assert items[5].meta == picture.meta
    assert bytes(items[5].getHead())[:194] == bytes(picture.getHead())[:194]
    assert np.array_equal(items[6], array)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint32, np.float32, np.float64, np.complex64, np.complex128])
def test_pixels_and_items_of_each_type(dtype: Any) -> None:
    """Without int32, for which that package reads and writes 8 bytes where the specification has 4."""
    picture, array = image(dtype=dtype), np.arange(4).astype(dtype)
    message, items, _ = fed(MrdParser(), serialized([picture, array]), ())
    assert isinstance(message, ImageMessage)
    assert isinstance(items, NdArray)
    assert message.pixels == picture.data.tobytes()
    assert np.array_equal(items.array, array)
    back, again = deserialized(
        writer.image(message.header, message.attributes, message.pixels) + writer.ndarray(items.array) + writer.close()
    )
    assert np.array_equal(back.data, picture.data)
    assert np.array_equal(again, array)


def test_both_forms_of_texts_give_one_reading() -> None:
    """The FIRE client's form is the other package's with a NUL that the length counts."""
    theirs = serialized([ismrmrd.xsd.CreateFromDocument(XML), "INFO    begun"])[:-2]
    xml, text = (message for message in fed(MrdParser(), theirs, ()))
    fire = writer.header(xml.xml, writer.NulConvention.FIRE) + writer.text("INFO    begun", writer.NulConvention.FIRE)
    assert fire != theirs
    assert len(fire) == len(theirs) + 2
    assert list(fed(MrdParser(), fire, ())) == [xml, text] == [Header(xml.xml), Text("INFO    begun")]


def test_a_text_of_megabytes() -> None:
    long = "ü" * (1 << 20)
    (message,) = fed(MrdParser(), serialized([long])[:-2], iter([3, 100_000, 1]))
    assert message == Text(long)
    assert deserialized(writer.text(long) + writer.close()) == [long]


def test_many_acquisitions_in_bulk_are_what_they_read_one_by_one() -> None:
    made = [acquisition(3, 24, line % 3, scan_counter=line) for line in range(200)]
    stream = serialized(made)
    messages = list(fed(MrdParser(), stream, iter([5000, 17, 60_000])))[:-1]
    assert all(isinstance(message, Acquisitions) for message in messages)
    assert flat(messages) == [
        ("Acquisitions", bytes(one.getHead()), one.data.tobytes(), one.traj.tobytes()) for one in deserialized(stream)
    ]


def test_waveform_headers_have_40_bytes_on_both_sides() -> None:
    stream = serialized([waveform(1, 1)])
    assert len(stream) == 2 + 40 + 4 + 2
    (message, _) = fed(MrdParser(), stream, ())
    assert isinstance(message, Waveforms)
    assert struct.unpack_from("<H", stream, 2 + 28) == (1,)
