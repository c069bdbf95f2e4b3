"""One Triton Inference Server as a model server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import grpc
import grpc.aio
import numpy as np
import structlog

from recond_models import registry
from recond_models.registry import ModelInfo
from recond_service.backends.backend import (
    Batch,
    BatchOutcome,
    FrameInput,
    Measurement,
    ModelServer,
    ServerLostError,
    TooLargeError,
)
from recond_service.backends.triton import faults, interface
from recond_service.backends.triton.connection import Connection, Deployed
from recond_service.backends.triton.packing import Packing, outcome_of, request_for
from recond_service.backends.triton.probe import probe_frame
from recond_service.backends.triton.region_pool import RegionPool
from recond_service.types import DefectError, RecondError, UnsupportedDataError

_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.1, 5.0
_SLOWEST = 20.0  # a batch that takes this many times as long as predicted is taken for lost

_SMALL_REGION = 1 << 20

SharedMemory = Literal["auto", "off"]
Result = TypeVar("Result")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a Triton server may take.

    Parameters
    ----------
    batch_seconds
        Least time after which a batch is taken for lost.
    probe_seconds
        For the small inference that tells whether a model works.
    idle_seconds
        A model that has not proved itself for this long is asked to.
    """

    batch_seconds: float = 60.0
    probe_seconds: float = 10.0
    idle_seconds: float = 10.0


@dataclass(slots=True, eq=False)
class _Outstanding:
    """A batch that the server has. `stopped` gets the error that ends it, or None when nobody waits any more."""

    model: str
    seconds: float
    stopped: asyncio.Future[ServerLostError | None]


class TritonModelServer:
    """A Triton server that serves what ``recond triton export`` wrote.

    It counts as up after a real inference by every model that both sides have, and as down after a batch that was lost: because
    the connection broke, because a Python process of the server died, or because the batch took far too long. While it is down,
    and while a model has had nothing to do, inferences of a small frame tell how it is.

    Parameters
    ----------
    address
        ``HOST:PORT`` of its gRPC service.
    connection
        To it.
    patience
        How long it may take.
    shared_memory
        ``"auto"``: by shared memory if an inference through it works, which it does on the same host. ``"off"``: never.
    executor
        Threads that put messages together and take them apart.
    on_change
        Called when it goes up or down.
    """

    memory_bytes = 0

    def __init__(
        self,
        address: str,
        connection: Connection,
        patience: Patience,
        shared_memory: SharedMemory,
        executor: Executor,
        on_change: Callable[[ModelServer], None],
    ) -> None:
        self.name = address
        self._connection = connection
        self._patience = patience
        self._shared_memory = shared_memory
        self._executor = executor
        self._on_change = on_change
        self._regions = RegionPool(address, connection)
        self._by_region = False
        self._deployed: dict[str, Deployed] = {}
        self._proved: dict[str, float] = {}  # when a model last made an image
        self._measured: dict[str, Measurement] = {}
        self._outstanding: list[_Outstanding] = []
        self._up = False
        self._problem = ""
        self._changed = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        """It can compute."""
        return self._up

    @property
    def concurrency(self) -> int:
        """How many batches it computes at once: instances of a model."""
        return max((model.instances for model in self._deployed.values()), default=1)

    @property
    def problem(self) -> str:
        """What keeps it from computing, while it is down."""
        return self._problem

    @property
    def by_shared_memory(self) -> bool:
        """Frames reach it through shared memory."""
        return self._by_region

    @property
    def measurements(self) -> Sequence[Measurement]:
        """What the small inferences took."""
        return tuple(self._measured.values())

    def start(self) -> None:
        """Start looking after the server."""
        self._watching = asyncio.get_running_loop().create_task(self._watch(), name=f"triton-{self.name}")

    async def run(self, batch: Batch) -> BatchOutcome:
        """Reconstruct a batch. See `ModelServer.run`."""
        wanted = [number for number in range(len(batch.frames)) if number not in batch.withdrawn]
        if not wanted:
            return _spread(batch, wanted, None)
        if not self._up:
            raise ServerLostError(f"Triton server {self.name} is down: {self._problem}", begun=False)
        own = _Outstanding(batch.model.name, batch.predicted_seconds, asyncio.get_running_loop().create_future())
        allowed = max(
            self._patience.batch_seconds, _SLOWEST * (own.seconds + sum(o.seconds for o in self._outstanding))
        )
        self._outstanding.append(own)

        def on_withdraw(_: int) -> None:
            if batch.withdrawn.issuperset(wanted) and not own.stopped.done():
                own.stopped.set_result(None)

        batch.on_withdraw = on_withdraw
        work = asyncio.create_task(self._compute(batch.model, [batch.frames[number] for number in wanted], batch.heads))
        try:
            either: set[asyncio.Future[Any]] = {work, own.stopped}
            await asyncio.wait(either, timeout=allowed, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return _spread(batch, wanted, self._result(work, own))
            if not own.stopped.done():
                self._lose(f"a batch of {batch.model.name} took longer than {allowed:.1f} s", all_batches=True)
            error = own.stopped.result()
            if error is not None:
                raise error
            return _spread(batch, wanted, None)
        finally:
            batch.on_withdraw = None
            work.cancel()
            await asyncio.wait({work})  # until no thread reads the frames any more
            if not work.cancelled():
                work.exception()  # looked at, so that asyncio does not report it as forgotten
            self._outstanding.remove(own)

    def _result(self, work: asyncio.Task[BatchOutcome], own: _Outstanding) -> BatchOutcome:
        """Return what a batch came to; take note if the server is out of order."""
        try:
            outcome = work.result()
        except grpc.aio.AioRpcError as error:
            begun = self._begun(own)
            if faults.lost(error):
                self._lose(error.details() or error.code().name, all_batches=not faults.others_go_on(error))
            raise faults.meaning(error, self.name, begun=begun) from error
        self._proved[own.model] = _now()
        return outcome

    def _begun(self, own: _Outstanding) -> bool:
        """Tell whether an instance may have begun a batch: a model takes its batches in the order in which they come."""
        before = self._outstanding[: self._outstanding.index(own)]
        deployed = self._deployed.get(own.model)
        return sum(other.model == own.model for other in before) < (deployed.instances if deployed else 1)

    async def _compute(self, model: ModelInfo, frames: Sequence[FrameInput], heads: Sequence[str]) -> BatchOutcome:
        if heads:
            raise UnsupportedDataError(
                f"heads do not run on Triton servers yet, and {', '.join(heads)} was asked for", reason="NO_SUCH_HEAD"
            )
        await self._require(model)
        try:
            return await self._exchange(model, frames, by_region=self._by_region)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            # Unloaded, or loaded anew just now, or the server is shutting down, of which Triton speaks in the same way.
            if not await self._connection.ready():
                self._lose("it is shutting down", all_batches=False)
            else:
                self._deployed = await self._connection.deployed()
                await self._require(model)
            raise ServerLostError(f"Triton server {self.name}: {error.details()}", begun=False) from error

    async def _require(self, model: ModelInfo) -> None:
        """Refuse a model that the server does not have in this version."""
        if not self._has(model):
            self._deployed = await self._connection.deployed()
        if not self._has(model):
            found = self._deployed.get(model.name)
            what = "does not have it" if found is None else f"has version {found.version}, or other weights of it"
            raise UnsupportedDataError(
                f"{model.name} {model.version} cannot run on Triton server {self.name}, which {what}: run recond triton export "
                "again for the model repository of that server, and have it load the model",
                reason="MODEL_NOT_ON_SERVER",
                field="spec.model",
            )

    def _has(self, model: ModelInfo) -> bool:
        found = self._deployed.get(model.name)
        return found is not None and (found.version, found.weights_sha256) == (model.version, model.weights_sha256)

    async def _exchange(self, model: ModelInfo, frames: Sequence[FrameInput], *, by_region: bool) -> BatchOutcome:
        """Send frames and receive their images."""
        packing = Packing.of(frames)
        region = await self._regions.acquire(packing.size) if by_region else None
        name = interface.PREFIX + model.name
        parameters = {interface.VERSION: model.version, interface.WEIGHTS: model.weights_sha256}
        in_use = False
        try:
            request = await self._beside(lambda: request_for(name, parameters, frames, packing, region))
            in_use = True
            try:
                answer = await self._connection.infer(request)
            except grpc.aio.AioRpcError as error:
                in_use = not faults.answered(error)
                raise
            in_use = False
            return await self._beside(lambda: outcome_of(answer, frames, packing, region))
        finally:
            if region is not None:
                (self._regions.abandon if in_use else self._regions.release)(region)

    async def _beside(self, work: Callable[[], Result]) -> Result:
        """Run a function in a thread; does not return before it ends, even when cancelled."""
        future = asyncio.get_running_loop().run_in_executor(self._executor, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait({future})
            future.exception()
            raise

    # --- how it is ---

    def _lose(self, problem: str, *, all_batches: bool) -> None:
        """Take the server for down; the batches that it has go elsewhere."""
        if all_batches:
            lost = [(other, self._begun(other)) for other in self._outstanding if not other.stopped.done()]
            for other, begun in lost:
                other.stopped.set_result(ServerLostError(f"Triton server {self.name}: {problem}", begun=begun))
        if self._up:
            self._up = False
            self._problem = problem
            _log.error("triton-server-lost", server=self.name, problem=problem)
            self._changed.set()
            self._on_change(self)

    async def _watch(self) -> None:
        backoff = _FIRST_BACKOFF
        while True:
            self._changed.clear()
            if self._up:
                await self._wait_for_change(self._patience.idle_seconds / 2)
                if self._up:
                    await self._prove_idle_models()
                continue
            problem = await self._bring_up()
            if problem:
                if problem != self._problem or backoff == _FIRST_BACKOFF:
                    _log.warning("triton-server-down", server=self.name, problem=problem)
                self._problem = problem
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, _LONGEST_BACKOFF)
            else:
                backoff = _FIRST_BACKOFF
                self._up = True
                _log.info(
                    "triton-server-up",
                    server=self.name,
                    models=sorted(self._deployed),
                    instances=self.concurrency,
                    shared_memory=self._by_region,
                )
                self._on_change(self)

    async def _wait_for_change(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _bring_up(self) -> str:
        """Have every model make an image; return what is wrong, empty if nothing is."""
        self._regions.forget()
        self._by_region = False
        try:
            self._deployed = await self._connection.deployed()
            models = [info for info in registry.available() if self._has(info)]
            if not models:
                return "it has no model of this service ready: write its model repository with recond triton export"
            for info in models:
                await self._heal(info)
            if self._shared_memory == "auto":
                self._by_region = await self._region_works(models[0])
        except (grpc.aio.AioRpcError, OSError, RecondError, ServerLostError, TooLargeError) as error:
            return _text(error)
        except TimeoutError:
            return f"a small inference took longer than {self._patience.probe_seconds:g} s"
        self._regions.most_free = 2 * self.concurrency + 2
        return ""

    async def _heal(self, info: ModelInfo) -> None:
        """Have every instance of a model make an image; have the model loaded anew if one of its processes died."""
        try:
            await self._prove_instances(info)
        except grpc.aio.AioRpcError as error:
            if not faults.process_died(error):
                raise
            try:
                await self._connection.load_anew(info.name)
            except grpc.aio.AioRpcError as refusal:
                raise ServerLostError(
                    f"{error.details()} Restart this server. With --model-control-mode=explicit it could be told to load the model "
                    f"anew (now: {refusal.details()})"
                ) from error
            _log.info("triton-model-loaded-anew", server=self.name, model=info.name)
            await self._prove_instances(info)

    async def _prove_instances(self, info: ModelInfo) -> None:
        """Have a model make as many images at once as it has instances, so that each of them makes one."""
        probes = [self._prove(info, by_region=False) for _ in range(self._deployed[info.name].instances)]
        for result in await asyncio.gather(*probes, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _prove(self, info: ModelInfo, *, by_region: bool) -> BatchOutcome | None:
        """Have a model reconstruct a small frame; return None if it refused the frame, which proves that it works, too."""
        frame = await self._beside(lambda: probe_frame(info))
        try:
            async with asyncio.timeout(self._patience.probe_seconds):
                outcome = await self._exchange(info, [frame], by_region=by_region)
        except UnsupportedDataError:
            outcome = None
        except grpc.aio.AioRpcError as error:
            meaning = faults.meaning(error, self.name, begun=True)
            if isinstance(meaning, UnsupportedDataError):
                outcome = None
            elif isinstance(meaning, RecondError):
                raise meaning from error
            else:
                raise
        finally:
            frame.block.close()
        self._proved[info.name] = _now()
        if outcome is not None:
            layout = frame.layout
            self._measured[info.name] = Measurement(
                *(info.name, info.version, info.weights_sha256, layout.rows, layout.columns, (layout.coils,)),
                *(outcome.seconds, outcome.peak_bytes),
            )
        return outcome

    async def _region_works(self, info: ModelInfo) -> bool:
        """Tell whether an image that went through shared memory is that which travelled."""
        try:
            region = await self._regions.acquire(_SMALL_REGION)
            if region is None:
                return False
            self._regions.release(region)  # where the next image goes through
            apart = await self._prove(info, by_region=False)
            shared = await self._prove(info, by_region=True)
            await self._regions.tidy()
        except (grpc.aio.AioRpcError, ServerLostError, DefectError) as error:
            _log.info("shared-memory-not-used", server=self.name, problem=_text(error))
            return False
        return apart is not None and shared is not None and np.array_equal(_pixels(apart), _pixels(shared))

    async def _prove_idle_models(self) -> None:
        """Ask models that have had nothing to do, while the server has no batch, which would delay them and tell as much."""
        for info in registry.available():
            idle = _now() - self._proved.get(info.name, 0.0) > self._patience.idle_seconds
            if self._outstanding or not idle or not self._has(info):
                continue
            begun = _now()
            try:
                await self._prove_instances(info)
            except (grpc.aio.AioRpcError, OSError, RecondError, ServerLostError, TooLargeError) as error:
                self._lose(_text(error), all_batches=False)
                return
            except TimeoutError:
                if max(self._proved.values(), default=0.0) < begun:
                    self._lose("a small inference took too long", all_batches=True)
                    return

    async def close(self) -> None:
        """Give up what the server has, and leave nothing of ours in it."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        self._up = False
        self._problem = "this service is shutting down"
        self._lose(self._problem, all_batches=True)
        await self._regions.close()
        await self._connection.close()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _text(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return error.details() or error.code().name
    return str(error)


def _pixels(outcome: BatchOutcome) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    block = outcome.images[0]
    assert block is not None  # noqa: S101 - nothing was withdrawn
    return np.frombuffer(block.read(0, block.size), np.float32)


def _spread(batch: Batch, wanted: Sequence[int], outcome: BatchOutcome | None) -> BatchOutcome:
    """Put the outcome of the frames that were computed in the places of all."""
    count = len(batch.frames)
    if outcome is None:
        return BatchOutcome((None,) * count, (None,) * count, 0.0)
    if len(wanted) == count:
        return outcome
    places = {number: place for place, number in enumerate(wanted)}
    return replace(
        outcome,
        images=tuple(outcome.images[places[n]] if n in places else None for n in range(count)),
        residuals=tuple(outcome.residuals[places[n]] if n in places else None for n in range(count)),
        notes=tuple(outcome.notes[places[n]] if n in places else () for n in range(count)) if outcome.notes else (),
    )
