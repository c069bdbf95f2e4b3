"""Servers of the KServe v2 protocol (``inference.GRPCInferenceService``): Triton, recond's facade, and others.

A frame is one ModelInfer: ``KSPACE`` FP32 [1, coils, rows, columns, 2], ``MASK`` BOOL [1, rows, columns], answered by ``IMAGE``
FP32 with rows x columns values. A scan of several slices is as many calls at once, and ends with the last of them.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import shared_memory

from recond_loadtest.wires.call import Call
from recond_loadtest.wires.grpc_status import channel_to, end_with_error, watch
from recond_loadtest.wires.wire import Health, Job, WireError

_SERVICE: Final = "/inference.GRPCInferenceService/"
_ANSWER_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class EncodedFrames:
    """Serialized ModelInferRequests of the frames of a scan.

    Parameters
    ----------
    messages
        A request of the protocol for each frame.
    rows, columns
        Size of the images.
    """

    messages: tuple[bytes, ...]
    rows: int
    columns: int


class KserveWire:
    """Speaks KServe v2 over gRPC.

    Parameters
    ----------
    model
        Name of the model, with ``{model}``, ``{rows}``, ``{columns}`` and ``{coils}`` replaced.
    pad_coils
        Frames with fewer coils get coils of zeros up to this many, 0 for none.
    in_shared_memory
        Inputs lie in system shared memory, one region per input that is written once.
    """

    _numbers = itertools.count()

    def __init__(self, model: str = "{model}", pad_coils: int = 0, *, in_shared_memory: bool = False) -> None:
        self._model = model
        self._pad_coils = pad_coils
        self._in_shared_memory = in_shared_memory
        self._regions: list[tuple[Any, pb.SystemSharedMemoryRegisterRequest]] = []
        self._channels: dict[str, grpc.Channel] = {}
        self._methods: dict[str, Any] = {}
        self._control: grpc.Channel | None = None

    def connect(self, address: str, clients: Sequence[str]) -> None:
        """Open one connection per client, and one for everything else; make known the shared memory that there is."""
        self._disconnect()
        for client in clients:
            channel = channel_to(address)
            self._channels[client] = channel
            self._methods[client] = channel.unary_unary(
                _SERVICE + "ModelInfer",
                request_serializer=None,
                response_deserializer=pb.ModelInferResponse.FromString,
            )
        self._control = channel_to(address)
        for _, registration in self._regions:
            self._register(registration)

    def ready(self) -> bool:
        """Ask ServerReady."""
        try:
            return bool(self._ask("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse).ready)
        except grpc.RpcError:
            return False

    def encode(self, job: Job) -> EncodedFrames:
        """Serialize a request for each frame."""
        kspace, lines = job.scan.kspace, job.scan.lines
        if kspace is None or lines is None or job.scan.file is not None:
            raise WireError("a KServe server takes arrays: inputs with a file or a file format are for recond")
        coils = max(kspace.shape[1], self._pad_coils)
        kspace = np.pad(kspace, ((0, 0), (0, coils - kspace.shape[1]), (0, 0), (0, 0)))
        rows, columns = kspace.shape[2:]
        name = self._model.format(model=job.model, rows=rows, columns=columns, coils=coils)
        mask = np.ascontiguousarray(np.broadcast_to(lines, (1, rows, columns)))
        messages = []
        for frame in kspace:
            samples = np.ascontiguousarray(frame).view(np.float32).reshape(1, coils, rows, columns, 2)
            messages.append(self._request(name, samples, mask).SerializeToString())
        return EncodedFrames(tuple(messages), rows, columns)

    def send(self, call: Call, encoded: EncodedFrames, client: str) -> None:
        """Make the calls of all frames at once; what comes back ends the call."""
        method = self._methods[client]
        answers = _FrameAnswers(call, encoded)
        call.cancellable(answers.cancel)
        for number, message in enumerate(encoded.messages):
            answers.expect(number, method.future(message, timeout=call.timeout))

    def watch_health(self, report: Callable[[Health], None]) -> Iterator[None]:
        """Follow ``grpc.health.v1``, where the server has it."""
        if self._control is not None:
            yield from watch(self._control, report)

    def close(self) -> None:
        """Close the connections and free the shared memory."""
        if self._control is not None and self._regions:
            request = pb.SystemSharedMemoryUnregisterRequest
            for _, registration in self._regions:
                try:
                    self._ask(
                        "SystemSharedMemoryUnregister",
                        request(name=registration.name),
                        pb.SystemSharedMemoryUnregisterResponse,
                    )
                except grpc.RpcError:
                    break  # the server is gone, and its mapping with it
        for handle, _ in self._regions:
            shared_memory.destroy_shared_memory_region(handle)
        self._regions.clear()
        self._disconnect()

    def _disconnect(self) -> None:
        for channel in [*self._channels.values(), *([self._control] if self._control else [])]:
            channel.close()
        self._channels.clear()
        self._methods.clear()
        self._control = None

    def _request(self, name: str, samples: NDArray[np.float32], mask: NDArray[np.bool_]) -> pb.ModelInferRequest:
        request = pb.ModelInferRequest(model_name=name)
        request.outputs.add(name="IMAGE")
        tensors: list[tuple[str, str, NDArray[Any]]] = [("KSPACE", "FP32", samples), ("MASK", "BOOL", mask)]
        region = self._share([values for _, _, values in tensors]) if self._in_shared_memory else ""
        offset = 0
        for tensor, datatype, values in tensors:
            entry = request.inputs.add(name=tensor, datatype=datatype, shape=values.shape)
            if region:
                entry.parameters["shared_memory_region"].string_param = region
                entry.parameters["shared_memory_byte_size"].int64_param = values.nbytes
                entry.parameters["shared_memory_offset"].int64_param = offset
                offset += values.nbytes
            else:
                request.raw_input_contents.append(values.tobytes())
        return request

    def _share(self, arrays: list[NDArray[Any]]) -> str:
        """Write arrays one after another to a region of shared memory, and return its name."""
        name = f"recond-loadtest-{os.getpid()}-{next(self._numbers)}"
        size = sum(array.nbytes for array in arrays)
        handle = shared_memory.create_shared_memory_region(name, "/" + name, size, create_only=True)
        shared_memory.set_shared_memory_region(handle, arrays)
        registration = pb.SystemSharedMemoryRegisterRequest(name=name, key="/" + name, byte_size=size)
        self._regions.append((handle, registration))
        self._register(registration)
        return name

    def _register(self, registration: pb.SystemSharedMemoryRegisterRequest) -> None:
        try:
            self._ask("SystemSharedMemoryRegister", registration, pb.SystemSharedMemoryRegisterResponse)
        except grpc.RpcError as error:
            raise WireError(f"the server does not take shared memory: {error}") from error

    def _ask(self, method: str, request: Any, response: Any) -> Any:  # noqa: ANN401 - generated messages
        if self._control is None:
            raise WireError("not connected")
        ask: Any = self._control.unary_unary(
            _SERVICE + method, type(request).SerializeToString, response_deserializer=response.FromString
        )
        return ask(request, timeout=_ANSWER_SECONDS)


class _FrameAnswers:
    """The answers to the frames of one call; the call ends when all have come.

    Parameters
    ----------
    call
        The call.
    encoded
        Its frames.
    """

    def __init__(self, call: Call, encoded: EncodedFrames) -> None:
        self._call = call
        self._encoded = encoded
        self._futures: list[Any] = []
        self._images: dict[int, NDArray[np.float32]] = {}
        self._error: Any = None
        self._missing = len(encoded.messages)
        self._lock = threading.Lock()

    def expect(self, number: int, future: Any) -> None:  # noqa: ANN401 - a grpc.Future that is a grpc.Call
        """Take the answer to a frame as soon as it comes."""
        with self._lock:
            self._futures.append(future)
        if self._call.withdrawn:
            future.cancel()
        future.add_done_callback(lambda done: self._take(number, done))

    def cancel(self) -> None:
        """Cancel all calls."""
        with self._lock:
            futures = list(self._futures)
        for future in futures:
            future.cancel()

    def _take(self, number: int, future: Any) -> None:  # noqa: ANN401 - as above
        failed = future.cancelled() or future.exception() is not None
        image = None if failed else _image(future.result(), self._encoded)
        with self._lock:
            if image is None:
                self._error = self._error or future
            else:
                self._call.image_arrived()
                self._images[number] = image
            self._missing -= 1
            done = self._missing == 0
        if done and self._error is not None:
            if self._error.cancelled() or self._error.code() is not grpc.StatusCode.OK:
                end_with_error(self._call, self._error)
            else:
                self._call.end("MALFORMED", message="an answer has no IMAGE of the right size")
        elif done:
            self._call.end("OK", images=tuple(self._images[frame] for frame in sorted(self._images)))


def _image(response: pb.ModelInferResponse, encoded: EncodedFrames) -> NDArray[np.float32] | None:
    """Return the image of an answer, or None if there is none."""
    for number, output in enumerate(response.outputs):
        if output.name == "IMAGE":
            if number < len(response.raw_output_contents):
                values = np.frombuffer(response.raw_output_contents[number], "<f4")
            else:
                values = np.array(output.contents.fp32_contents, np.float32)
            if values.size == encoded.rows * encoded.columns:
                return values.reshape(encoded.rows, encoded.columns)
    return None
