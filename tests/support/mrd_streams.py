"""Streams of MRD version 1 for tests, and a way to compare what a parser makes of them however they are cut."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

import ismrmrd
import numpy as np
from ismrmrd.serialization import ConfigFile, ConfigText, ProtocolSerializer

from recond_gateway.mrd.messages import Acquisitions, ImageMessage, Message, NdArray, Waveforms
from recond_gateway.mrd.parser import MrdParser

XML = """<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
<experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
<encoding><encodedSpace><matrixSize><x>16</x><y>8</y><z>1</z></matrixSize>
<fieldOfView_mm><x>160</x><y>80</y><z>5</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>8</x><y>8</y><z>1</z></matrixSize>
<fieldOfView_mm><x>80</x><y>80</y><z>5</z></fieldOfView_mm></reconSpace>
<encodingLimits/><trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"""


def acquisition(channels: int, samples: int, dimensions: int = 0, **fields: Any) -> ismrmrd.Acquisition:
    generator = np.random.default_rng(channels + 100 * samples + 10000 * dimensions)
    data = generator.normal(size=(channels, samples, 2)).astype(np.float32).view(np.complex64)[..., 0]
    trajectory = generator.normal(size=(samples, dimensions)).astype(np.float32)
    return ismrmrd.Acquisition.from_array(data, trajectory, **fields)


def waveform(channels: int, samples: int, **fields: Any) -> ismrmrd.Waveform:
    data = np.arange(channels * samples, dtype=np.uint32).reshape(channels, samples)
    return ismrmrd.Waveform.from_array(data, waveform_id=1, **fields)


def image(rows: int = 4, columns: int = 6, dtype: Any = np.float32) -> ismrmrd.Image:
    made = ismrmrd.Image.from_array(np.arange(rows * columns).reshape(rows, columns).astype(dtype), image_index=3)
    made.meta = ismrmrd.Meta({"SeriesDescription": "prüfung"})
    return made


def serialized(items: Iterable[Any]) -> bytes:
    """Return what the PyPI package writes for the items, with the CLOSE at the end."""
    stream = io.BytesIO()
    serializer = ProtocolSerializer(stream)
    for item in items:
        serializer.serialize(item)
    serializer.close()
    return stream.getvalue()


def scan() -> list[Any]:
    """Return a small scan with each kind of message that the PyPI package knows."""
    return [
        ConfigFile("simple"),
        ConfigText("<configuration/>"),
        ismrmrd.xsd.CreateFromDocument(XML),
        '{"parameters": {"config": "x"}}',
        *(acquisition(2, 16, scan_counter=line) for line in range(4)),
        waveform(2, 5, scan_counter=7),
        waveform(1, 3, scan_counter=8),
        *(acquisition(2, 16, 2, scan_counter=line) for line in range(2)),
        acquisition(1, 16),
        acquisition(3, 0),
        acquisition(2, 8),
        image(),
        np.arange(6, dtype=np.complex64).reshape(1, 2, 3),
        "ready",
    ]


def fed(parser: MrdParser, stream: bytes, pieces: Iterable[int]) -> Iterator[Message]:
    """Yield the messages of a stream that arrives in pieces of these sizes, the rest at once."""
    at = 0
    sizes = iter(pieces)
    while at < len(stream):
        piece = next(sizes, len(stream))
        end = min(at + max(piece, 1), len(stream))
        while at < end:
            room = parser.buffer()
            count = min(len(room), end - at)
            room[:count] = stream[at : at + count]
            parser.received(count)
            at += count
            yield from parser.messages()


def flat(messages: Iterable[Message]) -> list[tuple[Any, ...]]:
    """Return messages as values that compare, acquisitions and waveforms one by one."""
    values: list[tuple[Any, ...]] = []
    for message in messages:
        name = type(message).__name__
        if isinstance(message, Acquisitions):
            samples = trajectories = 0
            for header in message.headers:
                count = int(header["number_of_samples"])
                size, path = (
                    8 * count * int(header["active_channels"]),
                    4 * count * int(header["trajectory_dimensions"]),
                )
                values.append(
                    (
                        name,
                        header.tobytes(),
                        message.samples[samples : samples + size],
                        message.trajectories[trajectories : trajectories + path],
                    )
                )
                samples, trajectories = samples + size, trajectories + path
            assert (samples, trajectories) == (len(message.samples), len(message.trajectories))
        elif isinstance(message, Waveforms):
            at = 0
            for header in message.headers:
                size = 4 * int(header["number_of_samples"]) * int(header["channels"])
                values.append((name, header.tobytes(), message.samples[at : at + size]))
                at += size
            assert at == len(message.samples)
        elif isinstance(message, ImageMessage):
            values.append((name, message.header.tobytes(), message.attributes, message.pixels))
        elif isinstance(message, NdArray):
            values.append((name, message.array.dtype, message.array.shape, message.array.tobytes()))
        else:
            values.append((name, message))
    return values
