"""The process that computes.

Started as ``python -P -m recond_service.backends.embedded.worker FD HEARTBEAT_SECONDS THREADS LOG_LEVEL LOG_FORMAT``.

Messages in: ``run`` (model, version, hash of its weights, layouts; one descriptor a frame). Messages out: ``ready``, ``beat``,
``done`` (residuals, notes, seconds; one descriptor an image), ``failed``.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any, cast

import numpy as np
import structlog
import torch

from recond_models import registry
from recond_models.batch import PackedBatch
from recond_models.store.errors import StoreError
from recond_service.telemetry import configure_logging
from recond_service.transport import (
    BlockingChannel,
    ChannelClosedError,
    FrameLayout,
    FreedMemory,
    Message,
    SharedBlock,
    die_with_parent,
    keep_freed_memory,
)
from recond_service.types import (
    DefectError,
    ModelNotFoundError,
    RecondError,
    UnavailableError,
    UnsupportedDataError,
)

_KEPT_BYTES = 1 << 30
_log = structlog.get_logger(__name__)

_MOST_ADDED = 4  # added models that stay in memory: one of the published size takes 120 MB


class Worker:
    """Computes batches, one after another, and says once in a while that it is alive.

    Parameters
    ----------
    channel
        To the supervisor.
    heartbeat_seconds
        Time between two signs of life.
    device
        Where to compute.
    """

    def __init__(self, channel: BlockingChannel, heartbeat_seconds: float, device: str) -> None:
        self._channel = channel
        self._heartbeat_seconds = heartbeat_seconds
        self._device = device
        self._models: dict[str, registry.Reconstructor] = {}
        self._memory = FreedMemory()
        self._begun = self._ended = 0

    def serve(self) -> None:
        """Serve until the supervisor closes the channel."""
        for info in registry.available():
            if info.origin != "added":
                self._warm(info)
        self._channel.send("ready", {"device": self._device, "torch_threads": torch.get_num_threads()})
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        while True:
            message = self._channel.receive()
            self._begun += 1
            self._run(message)
            self._ended += 1

    def _beat(self) -> None:
        seen = 0
        try:
            while True:
                time.sleep(self._heartbeat_seconds)
                self._channel.send("beat")
                begun, ended = self._begun, self._ended
                self._memory.look(working=begun != ended or ended != seen)
                seen = ended
        except ChannelClosedError:
            return  # the main thread sees the same, and ends the process

    def _warm(self, info: registry.ModelInfo) -> None:
        """Load a model that comes with recond. A damaged one must not keep the others from working."""
        try:
            self._model(info.name, info.version, info.weights_sha256)
        except (ArithmeticError, RecondError, RuntimeError, TypeError, ValueError) as error:
            _log.error("model-out-of-order", model=info.name, problem=str(error))

    def _model(self, name: str, version: str, weights_sha256: str) -> registry.Reconstructor:
        """Return a model, loaded at its first use; an older one of that name is forgotten, and the added one unused longest."""
        model = self._models.pop(name, None)
        if model is None or (model.info.version, model.info.weights_sha256) != (version, weights_sha256):
            try:
                model = registry.load(name, version, device=self._device)
            except StoreError as error:
                raise UnsupportedDataError(str(error), reason=error.reason, field="spec.model") from error
            except registry.UnknownModelError as error:
                raise ModelNotFoundError(str(error.args[0]), reason="NO_SUCH_MODEL", field="spec.model") from error
        self._models[name] = model
        added = [other for other, loaded in self._models.items() if loaded.info.origin == "added"]
        for other in added[:-_MOST_ADDED]:
            del self._models[other]
        if model.info.weights_sha256 != weights_sha256:
            raise UnavailableError(
                f"{name} was replaced after this request began; send it again",
                reason="MODEL_REPLACED",
                retry_after=0.1,
            )
        return model

    def _run(self, message: Message) -> None:
        batch = message.body["batch"]
        try:
            images, answer = self._reconstruct(message)
        except RecondError as error:
            self._channel.send("failed", {"batch": batch, "error": error.to_json()})
        except registry.UnsuitableModelError as error:
            refusal = UnsupportedDataError(str(error), reason="MODEL_UNSUITABLE", field="spec.model")
            self._channel.send("failed", {"batch": batch, "error": refusal.to_json()})
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, MemoryError) as error:
            # What a model can raise on a frame. The worker stays up: the next frame may be sound.
            failure = DefectError(
                f"{message.body['model']} failed on this frame ({type(error).__name__}: {error}); report the request id to "
                "the administrator",
                reason="MODEL_FAILED",
            )
            text = "".join(traceback.format_exception(error))
            self._channel.send("failed", {"batch": batch, "error": failure.to_json(), "traceback": text})
        else:
            self._channel.send("done", {"batch": batch, **answer}, [image.fd for image in images])
            for image in images:
                image.close()
        finally:
            message.close_fds()

    def _reconstruct(self, message: Message) -> tuple[list[SharedBlock], dict[str, Any]]:
        body: dict[str, Any] = message.body
        model = self._model(body["model"], body["version"], body["weights_sha256"])
        layouts = [FrameLayout.from_json(layout) for layout in body["layouts"]]
        blocks = [message.take_block(layout.size) for layout in layouts]
        start = time.perf_counter()
        batch = PackedBatch.pack(
            [layout.kspace(block) for layout, block in zip(layouts, blocks, strict=True)],
            [layout.mask(block) for layout, block in zip(layouts, blocks, strict=True)],
            [layout.calibration(block) for layout, block in zip(layouts, blocks, strict=True)],
            [layout.crop for layout in layouts],
        )
        result = model.reconstruct(batch)
        images = result.images.numpy().astype(np.float32, copy=False)
        residuals = [None] * len(layouts) if result.residuals is None else result.residuals.tolist()
        seconds = time.perf_counter() - start
        if not np.isfinite(images).all():
            raise DefectError(
                f"{body['model']} made pixels that are not finite; report the request id to the administrator",
                reason="MODEL_NOT_FINITE",
            )
        notes = [[(note.code, note.message) for note in frame] for frame in result.notes]
        answer = {"residuals": residuals, "notes": notes, "seconds": seconds}
        return [self._shared(image) for image in images], answer

    @staticmethod
    def _shared(image: np.ndarray[Any, np.dtype[np.float32]]) -> SharedBlock:
        block = SharedBlock.create("recond-image", image.nbytes)
        block.write(np.ascontiguousarray(image).data.cast("B"), 0)
        return block


def main() -> None:
    """Run a worker on the channel whose descriptor is the first argument."""
    die_with_parent(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches the whole group; the front end drains
    channel, heartbeat_seconds, threads = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    configure_logging(cast("Any", sys.argv[4]), cast("Any", sys.argv[5]))
    torch.set_num_threads(threads)
    keep_freed_memory(_KEPT_BYTES)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        Worker(BlockingChannel(socket.socket(fileno=channel)), heartbeat_seconds, device).serve()
    except ChannelClosedError:
        return


if __name__ == "__main__":
    main()
