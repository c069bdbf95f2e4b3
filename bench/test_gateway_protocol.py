"""The scanner gateway's protocol: acquisitions received from a socket and parsed, beside the ismrmrd package on the same bytes.

Another process sends; what is compared is the processor time of the one that receives, with the kernel's copies, so that neither a
slow sender nor a full machine counts. 16 coils x 640 samples are 82 KB, which any reader mostly copies; 4 x 128 are 4 KB.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import socket
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from ismrmrd.serialization import ProtocolDeserializer

from recond_gateway.mrd import writer
from recond_gateway.mrd.layouts import ACQUISITION_HEADER
from recond_gateway.mrd.messages import Acquisitions
from recond_gateway.mrd.parser import MrdParser

COUNT = 4_000
ROUNDS = 5
SIZES = {"16 x 640": (16, 640), "4 x 128": (4, 128)}


def acquisitions(coils: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    headers = np.zeros(COUNT, ACQUISITION_HEADER)
    headers["version"], headers["active_channels"], headers["number_of_samples"] = 1, coils, samples
    headers["scan_counter"] = np.arange(COUNT)
    data = np.zeros(COUNT * coils * samples, np.complex64)
    data.real = np.arange(data.size) % 4099
    return headers, data


def send(end: socket.socket, stream: bytes) -> None:
    with end:
        end.sendall(stream)


@contextlib.contextmanager
def sender(stream: bytes) -> Iterator[socket.socket]:
    """Another process that sends the stream to the socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname())
        there, _ = server.accept()
    process = multiprocessing.get_context("fork").Process(target=send, args=(there, stream))
    process.start()
    there.close()
    with here:
        yield here
    process.join()


def parsed(connection: socket.socket) -> int:
    parser = MrdParser()
    count = 0
    while size := connection.recv_into(parser.buffer()):
        parser.received(size)
        count += sum(message.count for message in parser.messages() if isinstance(message, Acquisitions))
    return count


def deserialized(connection: socket.socket) -> int:
    with connection.makefile("rb", buffering=1 << 20) as file:
        return sum(1 for _ in ProtocolDeserializer(file).deserialize())


def seconds(read: Callable[[socket.socket], int], stream: bytes) -> float:
    """Return the processor time for an acquisition."""
    with sender(stream) as connection:
        start = time.process_time()
        assert read(connection) == COUNT
        return (time.process_time() - start) / COUNT


@pytest.mark.parametrize("size", SIZES)
def test_receiving(benchmark, size):
    stream = writer.acquisitions(*acquisitions(*SIZES[size])) + writer.close()
    seconds(parsed, stream)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ours: list[float] = []
    benchmark.pedantic(lambda: ours.append(seconds(parsed, stream)), rounds=ROUNDS)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    theirs = statistics.median(seconds(deserialized, stream) for _ in range(ROUNDS))
    each = statistics.median(ours)
    benchmark.extra_info |= {
        "microseconds_each": round(1e6 * each, 1),
        "acquisitions_per_second_of_one_core": round(1 / each),
        "gigabytes_per_second_of_one_core": round(len(stream) / COUNT / each / 1e9, 2),
        "memory_grown_mb": round(grown / 1024, 1),
        "times_the_ismrmrd_package": round(theirs / each, 1),
    }


@pytest.mark.parametrize("size", SIZES)
def test_writing(benchmark, size):
    headers, data = acquisitions(*SIZES[size])
    made = benchmark.pedantic(writer.acquisitions, (headers, data), rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info["gigabytes_per_second"] = round(
        len(made) / statistics.median(benchmark.stats.stats.data) / 1e9, 2
    )
