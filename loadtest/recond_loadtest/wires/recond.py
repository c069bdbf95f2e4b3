"""recond's own call: a spec, then the upload once the service has accepted, then images and a summary.

The synchronous API of gRPC is used on purpose: its asyncio twin reports INTERNAL in place of the status of the server when that
ends a call while the client writes (grpc/grpc issue 36066), which overload and poison do all the time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray

from recond.v1 import reconstruction_pb2 as pb
from recond_loadtest.wires.call import Call
from recond_loadtest.wires.grpc_status import channel_to, end_with_error, watch
from recond_loadtest.wires.wire import Health, Job

_METHOD: Final = "/recond.v1.ReconstructionService/Reconstruct"
_CHUNK_BYTES: Final = 1 << 20
_PRIORITIES: Final = {
    "stat": pb.PRIORITY_STAT,
    "clinical": pb.PRIORITY_CLINICAL,
    "research": pb.PRIORITY_RESEARCH,
}
_OUTPUTS: Final = {
    "h5": pb.OUTPUT_FORMAT_FASTMRI_HDF5,
    "mrd": pb.OUTPUT_FORMAT_MRD,
    "nii.gz": pb.OUTPUT_FORMAT_NIFTI,
    "png": pb.OUTPUT_FORMAT_PNG,
}


@dataclass(frozen=True, slots=True)
class EncodedRequest:
    """Serialized messages.

    Parameters
    ----------
    spec
        The first message.
    parts
        The bytes of each part.
    chunks
        The messages behind it, for uploads at full speed.
    """

    spec: bytes
    parts: tuple[bytes, ...]
    chunks: tuple[bytes, ...]


class RecondWire:
    """Speaks `ReconstructionService.Reconstruct`."""

    def __init__(self) -> None:
        self._channels: dict[str, grpc.Channel] = {}
        self._methods: dict[str, Any] = {}
        self._health: grpc.Channel | None = None

    def connect(self, address: str, clients: Sequence[str]) -> None:
        """Open one connection per client, and one to watch the health."""
        self.close()
        for client in clients:
            channel = channel_to(address)
            self._channels[client] = channel
            # Requests are serialized before the run: sending one costs no more than handing over its bytes.
            self._methods[client] = channel.stream_stream(
                _METHOD, request_serializer=None, response_deserializer=pb.ReconstructResponse.FromString
            )
        self._health = channel_to(address)

    def ready(self) -> bool:
        """Ask ``grpc.health.v1``."""
        if self._health is None:
            return False
        try:
            answer = health_pb2_grpc.HealthStub(self._health).Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def encode(self, job: Job) -> EncodedRequest:
        """Serialize the messages of a request."""
        scan = job.scan
        if scan.file is None and scan.kspace is not None and scan.lines is not None:
            announced = [
                pb.Part(
                    role=pb.PART_ROLE_KSPACE,
                    format=pb.PART_FORMAT_ARRAY,
                    shape=scan.kspace.shape,
                    size_bytes=scan.kspace.nbytes,
                ),
                pb.Part(
                    role=pb.PART_ROLE_MASK,
                    format=pb.PART_FORMAT_ARRAY,
                    shape=scan.lines.shape,
                    size_bytes=scan.lines.nbytes,
                ),
            ]
            parts: tuple[bytes, ...] = (scan.kspace.astype("<c8").tobytes(), scan.lines.astype(np.uint8).tobytes())
        else:
            parts = (scan.file or b"",)
            announced = [pb.Part(role=pb.PART_ROLE_KSPACE, name=scan.file_name, size_bytes=len(parts[0]))]
        spec = pb.ReconstructSpec(
            model=job.model,
            parts=pb.Parts(parts=announced),
            priority=_PRIORITIES[job.priority],
            outputs=[_OUTPUTS[ending] for ending in job.outputs],
        )
        first = pb.ReconstructRequest(spec=spec).SerializeToString()
        return EncodedRequest(first, parts, tuple(_chunks(parts, _CHUNK_BYTES)))

    def send(self, call: Call, encoded: EncodedRequest, client: str) -> None:
        """Make a call and wait for its end."""
        accepted = threading.Event()
        rpc = self._methods[client](_messages(call, encoded, accepted), timeout=call.timeout)
        call.cancellable(rpc.cancel)
        images: dict[int, list[pb.Image]] = {}
        order: Sequence[int] = ()
        try:
            for response in rpc:
                kind = response.WhichOneof("message")
                if kind == "accepted":
                    accepted.set()
                elif kind == "image":
                    call.image_arrived()
                    images.setdefault(response.image.index.image, []).append(response.image)
                elif kind == "summary":
                    order = response.summary.order
            call.end("OK", images=tuple(_assembled(images[number]) for number in order if number in images))
        except grpc.RpcError as error:
            end_with_error(call, error)
        finally:
            accepted.set()  # lets go of the thread in which gRPC takes the messages to send

    def watch_health(self, report: Callable[[Health], None]) -> Iterator[None]:
        """Follow ``grpc.health.v1``."""
        if self._health is not None:
            yield from watch(self._health, report)

    def close(self) -> None:
        """Close the connections."""
        for channel in [*self._channels.values(), *([self._health] if self._health else [])]:
            channel.close()
        self._channels.clear()
        self._methods.clear()
        self._health = None


def _messages(call: Call, encoded: EncodedRequest, accepted: threading.Event) -> Iterator[bytes]:
    """Yield the messages of a call; gRPC runs this in a thread of its own and asks only while there is room."""
    yield encoded.spec
    accepted.wait()
    if call.upload_bytes_per_second is None:
        for chunk in encoded.chunks:
            if call.ended.is_set():
                return
            yield chunk
        return
    rate = call.upload_bytes_per_second
    piece = max(int(rate / 4), 256)
    for chunk in _chunks(encoded.parts, min(piece, _CHUNK_BYTES)):
        if call.ended.wait(len(chunk) / rate):
            return
        yield chunk


def _chunks(parts: tuple[bytes, ...], size: int) -> Iterator[bytes]:
    for number, data in enumerate(parts):
        for offset in range(0, len(data), size):
            chunk = pb.Chunk(part=number, offset=offset, data=data[offset : offset + size])
            yield pb.ReconstructRequest(chunk=chunk).SerializeToString()


def _assembled(pieces: list[pb.Image]) -> NDArray[np.float32]:
    columns = pieces[0].columns
    rows = [np.frombuffer(piece.pixels, "<f4").reshape(-1, columns) for piece in pieces]
    return rows[0] if len(rows) == 1 else np.concatenate(rows)
