"""The plain server that one writes first: grpcio, a lock, the model. KServe v2, one frame a call."""

from __future__ import annotations

import argparse
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
from core import Core
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as pb_grpc


class Loop(pb_grpc.GRPCInferenceServiceServicer):
    """Computes frames as they come, so many at a time."""

    def __init__(self, core: Core, workers: int) -> None:
        self._core = core
        self._turn = threading.Semaphore(workers)

    def ServerReady(self, request, context):  # noqa: N802
        return pb.ServerReadyResponse(ready=True)

    def ModelInfer(self, request, context):  # noqa: N802
        (_, coils, rows, columns, _), (kspace, mask) = request.inputs[0].shape, request.raw_input_contents
        samples = np.frombuffer(kspace, np.complex64).reshape(coils, rows, columns)
        lines = np.frombuffer(mask, np.bool_).reshape(rows, columns)
        with self._turn:
            (image,) = self._core.reconstruct([samples], [lines])
        response = pb.ModelInferResponse(model_name=request.model_name)
        response.outputs.add(name="IMAGE", datatype="FP32", shape=[1, rows, columns])
        response.raw_output_contents.append(image.tobytes())
        return response


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    server = grpc.server(
        ThreadPoolExecutor(64), options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    )
    pb_grpc.add_GRPCInferenceServiceServicer_to_server(Loop(Core(options.model, 1), options.workers), server)
    server.add_insecure_port(f"127.0.0.1:{options.port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
