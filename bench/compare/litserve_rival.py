"""LitServe with its own batching. Bodies are JSON: LitServe takes no other ones from clients that are not browsers."""

from __future__ import annotations

import argparse
import base64

import litserve
import numpy as np
from core import Core


class Reconstruction(litserve.LitAPI):
    """One model."""

    def __init__(self, model: str, threads: int, **options) -> None:
        super().__init__(**options)
        self._wanted = (model, threads)

    def setup(self, device):
        self._core = Core(*self._wanted)

    def decode_request(self, request):
        shape = request["shape"]
        kspace = np.frombuffer(base64.b64decode(request["kspace"]), np.complex64).reshape(shape)
        lines = np.frombuffer(base64.b64decode(request["mask"]), np.bool_)
        return kspace[0], np.broadcast_to(lines, kspace.shape[2:])

    def predict(self, batch):
        if isinstance(batch, tuple):
            return self._core.reconstruct([batch[0]], [batch[1]])[0]
        return self._core.reconstruct([kspace for kspace, _ in batch], [lines for _, lines in batch])

    def batch(self, inputs):
        return inputs

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        image = np.ascontiguousarray(output)
        return {"images": base64.b64encode(image.tobytes()).decode(), "shape": [1, *image.shape]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    api = Reconstruction(
        options.model, 1, max_batch_size=options.batch, batch_timeout=0.002 if options.batch > 1 else 0.0
    )
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=options.workers, timeout=False)
    server.run(host="127.0.0.1", port=options.port, num_api_servers=1, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
