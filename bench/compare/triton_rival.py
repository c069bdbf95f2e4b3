"""Triton with a model repository for one of the variants that are tried: ends when it is told to."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "support"))

from triton_server import TritonServer  # noqa: E402

CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: 8
input [
  {{ name: "KSPACE", data_type: TYPE_FP32, dims: [-1, -1, -1, 2] }},
  {{ name: "MASK", data_type: TYPE_BOOL, dims: [-1, -1] }}
]
output [ {{ name: "IMAGE", data_type: TYPE_FP32, dims: [-1, -1] }} ]
instance_group [ {{ count: {instances}, kind: KIND_CPU }} ]
{batching}
parameters [
  {{ key: "model", value: {{ string_value: "{model}" }} }},
  {{ key: "threads", value: {{ string_value: "{threads}" }} }},
  {{ key: "core", value: {{ string_value: "{core}" }} }}
]
"""


def write_repository(folder: Path, options: argparse.Namespace) -> None:
    """Write one model, or one for each shape in `options.shapes`."""
    for name in options.shapes.split(",") if options.shapes else ["rival"]:
        batching = f"dynamic_batching {{ max_queue_delay_microseconds: {round(options.delay * 1000)} }}"
        if options.delay < 0:
            batching = ""
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "1" / "model.py").write_text((HERE / "triton_model.py").read_text())
        (folder / name / "config.pbtxt").write_text(
            CONFIG.format(
                name=name,
                instances=options.workers,
                batching=batching,
                model=options.model,
                threads=1,
                core=HERE,
            )
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--delay", type=float, default=0.0, help="ms that the batcher may wait; below 0 for no batching"
    )
    parser.add_argument("--shapes", default="", help="a model for each: recon_64x64,recon_96x96")
    options = parser.parse_args()
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "models"
        write_repository(repository, options)
        server = TritonServer(repository, Path(folder) / "log", options.port)
        server.start(120)
        try:
            over.wait()
        finally:
            server.stop()


if __name__ == "__main__":
    main()
