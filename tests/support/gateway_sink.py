"""A service that takes readouts and makes one empty image of each slice at once: what a gateway costs is left when it is driven.

``python gateway_sink.py`` prints its port and runs until stdin is closed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent import futures

import grpc
import numpy as np

from recond.v1 import reconstruction_pb2 as pb
from recond.v1 import reconstruction_pb2_grpc as pb_grpc

LAST_IN_SLICE = np.uint64(1 << 7)
ROWS = COLUMNS = 320
_HEADER = np.dtype(
    {
        "names": ["flags", "slice", "repetition"],
        "formats": ["<u8", "<u2", "<u2"],
        "offsets": [2, 248, 254],
        "itemsize": 340,
    }
)


class Sink(pb_grpc.ReconstructionServiceServicer):
    """Answers at once."""

    def Reconstruct(self, requests: Iterator[pb.ReconstructRequest], context: grpc.ServicerContext):  # noqa: N802
        next(requests)
        yield pb.ReconstructResponse(accepted=pb.Accepted(request_id="sink"))
        yield pb.ReconstructResponse(plan=pb.Plan(model="sink", version="1"))
        pixels = bytes(4 * ROWS * COLUMNS)
        count = 0
        for request in requests:
            headers = np.frombuffer(request.acquisitions.headers, _HEADER)
            for header in headers[(headers["flags"] & LAST_IN_SLICE) != 0]:
                index = pb.ImageIndex(image=count, slice=int(header["slice"]), repetition=int(header["repetition"]))
                count += 1
                yield pb.ReconstructResponse(image=pb.Image(index=index, rows=ROWS, columns=COLUMNS, pixels=pixels))
        summary = pb.Summary(model="sink", version="1", images=count, shape=(count, ROWS, COLUMNS), order=range(count))
        yield pb.ReconstructResponse(summary=summary)


def main() -> None:
    """Serve until stdin is closed."""
    server = grpc.server(futures.ThreadPoolExecutor(16))
    pb_grpc.add_ReconstructionServiceServicer_to_server(Sink(), server)
    sys.stdout.write(f"{server.add_insecure_port('127.0.0.1:0')}\n")
    sys.stdout.flush()
    server.start()
    sys.stdin.read()
    server.stop(None)


if __name__ == "__main__":
    main()
