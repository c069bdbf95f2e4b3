"""Servers whose behaviour the tests decide, spoken to over real connections."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
import numpy as np
from recond_testing import rss_of
from tritonclient.grpc import service_pb2, service_pb2_grpc

Handler = Callable[[int, grpc.ServicerContext], None]


@dataclass
class KserveServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Root sum of squares behind KServe v2, one frame at a time.

    Parameters
    ----------
    before
        Called with the number of the request before each is computed: may wait, or abort.
    """

    before: Handler = lambda _number, _context: None
    address: str = ""
    models: list[str] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    peers: set[str] = field(default_factory=set)
    scale: float = 1.0

    def __post_init__(self) -> None:
        self._regions: dict[str, np.memmap] = {}
        self._one_at_a_time = threading.Lock()

    def ServerReady(self, request, context):  # noqa: N802 - the protocol's
        return service_pb2.ServerReadyResponse(ready=True)

    def SystemSharedMemoryRegister(self, request, context):  # noqa: N802
        self._regions[request.name] = np.memmap(f"/dev/shm{request.key}", np.uint8, "r", shape=(request.byte_size,))  # noqa: S108
        return service_pb2.SystemSharedMemoryRegisterResponse()

    def SystemSharedMemoryUnregister(self, request, context):  # noqa: N802
        del self._regions[request.name]
        return service_pb2.SystemSharedMemoryUnregisterResponse()

    def ModelInfer(self, request, context):  # noqa: N802
        with self._one_at_a_time:
            self.models.append(request.model_name)
            self.peers.add(context.peer())
            self.before(len(self.models) - 1, context)
            if not context.is_active():
                context.abort(grpc.StatusCode.CANCELLED, "nobody waits")
            tensors = {}
            for number, tensor in enumerate(request.inputs):
                if tensor.parameters:
                    start = tensor.parameters["shared_memory_offset"].int64_param
                    size = tensor.parameters["shared_memory_byte_size"].int64_param
                    data = self._regions[tensor.parameters["shared_memory_region"].string_param][
                        start : start + size
                    ].tobytes()
                else:
                    data = request.raw_input_contents[number]
                tensors[tensor.name] = (data, tuple(tensor.shape))
            samples, shape = tensors["KSPACE"]
            mask, mask_shape = tensors["MASK"]
            assert shape[0] == mask_shape[0] == 1
            assert len(mask) == shape[2] * shape[3]
            self.shapes.append(shape)
            kspace = np.frombuffer(samples, np.complex64).reshape(shape[:-1]) * np.frombuffer(mask, bool).reshape(
                mask_shape
            )
            response = service_pb2.ModelInferResponse(model_name=request.model_name)
            response.outputs.add(name="IMAGE", datatype="FP32", shape=(1, *shape[2:4]))
            response.raw_output_contents.append((rss_of(kspace) * np.float32(self.scale)).tobytes())
            return response


@contextlib.contextmanager
def serving(add: Callable[[grpc.Server], None], threads: int = 200) -> Iterator[str]:
    """Run a gRPC server in this process; yield its address."""
    server = grpc.server(ThreadPoolExecutor(threads), options=[("grpc.max_receive_message_length", -1)])
    add(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
