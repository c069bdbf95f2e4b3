"""One Triton Inference Server as a model server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, Literal

import grpc
import grpc.aio
import structlog

from recond_models import registry
from recond_models.model import ModelInfo
from recond_service.backends.backend import (
    Batch,
    BatchOutcome,
    FrameInput,
    Measurement,
    ModelServer,
    ServerLostError,
    Work,
    work_of,
)
from recond_service.backends.triton import faults
from recond_service.backends.triton.checks import Checks
from recond_service.backends.triton.connection import Connection, Deployed
from recond_service.backends.triton.exchange import Exchange
from recond_service.backends.triton.region_pool import RegionPool
from recond_service.types import DefectError, RecondError, UnsupportedDataError

_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.1, 5.0
_FORGOTTEN_SECONDS = 30.0  # after which nobody waits any more for a server that is down
_SLOWEST = 20.0  # a batch that takes this many times as long as predicted is taken for lost

SharedMemory = Literal["auto", "off"]

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
class BatchInFlight:
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
        The gRPC connection to the server.
    patience
        How long it may take.
    shared_memory
        ``"auto"``: by shared memory if an inference through it works, which it does on the same host. ``"off"``: never.
    executor
        Threads that put messages together and take them apart.
    on_change
        Called when it goes up or down, and when it has other models.
    """

    memory_bytes = 0
    work: frozenset[Work] = frozenset({"reconstruction"})

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
        self._on_change = on_change
        self._regions = RegionPool(address, connection)
        self._exchange = Exchange(connection, self._regions, executor)
        self._checks = Checks(address, connection, self._exchange, self._regions, patience.probe_seconds)
        self._by_region = False
        self._deployed: dict[str, Deployed] = {}
        self._in_flight: list[BatchInFlight] = []
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
        return tuple(self._checks.measured.values())

    def has(self, model: ModelInfo) -> bool:
        """Tell whether it has a model in this version; see `ModelServer.has`."""
        return _is_among(model, self._deployed)

    def start(self) -> None:
        """Start looking after the server."""
        self._watching = asyncio.get_running_loop().create_task(self._watch(), name=f"triton-{self.name}")

    async def run(self, batch: Batch) -> BatchOutcome:
        """Reconstruct a batch. See `ModelServer.run`."""
        if work_of(batch.model) not in self.work:
            raise UnsupportedDataError(
                f"{batch.model.name} runs on embedded workers, and this service has none: leave heads empty, ask one that has, "
                "or have it started with --head-workers 1",
                reason="NO_WORKER_FOR_HEADS",
                field="spec.heads",
            )
        frames = [frame for frame in batch.frames if isinstance(frame, FrameInput)]
        wanted = [number for number in range(len(batch.frames)) if number not in batch.withdrawn]
        if not wanted:
            return _spread(batch, wanted, None)
        if not self._up:
            raise ServerLostError(f"Triton server {self.name} is down: {self._problem}", begun=False)
        own = BatchInFlight(batch.model.name, batch.predicted_seconds, asyncio.get_running_loop().create_future())
        allowed = max(self._patience.batch_seconds, _SLOWEST * (own.seconds + sum(o.seconds for o in self._in_flight)))
        self._in_flight.append(own)

        def on_withdraw(_: int) -> None:
            if batch.withdrawn.issuperset(wanted) and not own.stopped.done():
                own.stopped.set_result(None)

        batch.on_withdraw = on_withdraw
        work = asyncio.create_task(self._compute(batch.model, [frames[number] for number in wanted]))
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
            self._in_flight.remove(own)

    def _result(self, work: asyncio.Task[BatchOutcome], own: BatchInFlight) -> BatchOutcome:
        """Return what a batch came to; take note if the server is out of order."""
        try:
            outcome = work.result()
        except grpc.aio.AioRpcError as error:
            begun = self._begun(own)
            if faults.lost(error):
                self._lose(error.details() or error.code().name, all_batches=not faults.others_go_on(error))
            raise faults.meaning(error, self.name, begun=begun) from error
        self._checks.proved[own.model] = _now()
        return outcome

    def _begun(self, own: BatchInFlight) -> bool:
        """Tell whether an instance may have begun a batch: a model takes its batches in the order in which they come."""
        before = self._in_flight[: self._in_flight.index(own)]
        deployed = self._deployed.get(own.model)
        return sum(other.model == own.model for other in before) < (deployed.instances if deployed else 1)

    async def _compute(self, model: ModelInfo, frames: Sequence[FrameInput]) -> BatchOutcome:
        await self._require(model)
        try:
            return await self._exchange.send(model, frames, by_region=self._by_region)
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
        if not self.has(model):
            self._deployed = await self._connection.deployed()
        if not self.has(model):
            found = self._deployed.get(model.name)
            what = "does not have it" if found is None else f"has version {found.version}, or other weights of it"
            raise UnsupportedDataError(
                f"{model.name} {model.version} cannot run on Triton server {self.name}, which {what}: run recond triton export "
                "again for the model repository of that server, and have it load the model",
                reason="MODEL_NOT_ON_SERVER",
                field="spec.model",
            )

    # --- how it is ---

    def _lose(self, problem: str, *, all_batches: bool) -> None:
        """Take the server for down; the batches that it has go elsewhere."""
        if all_batches:
            lost = [(other, self._begun(other)) for other in self._in_flight if not other.stopped.done()]
            for other, begun in lost:
                other.stopped.set_result(ServerLostError(f"Triton server {self.name}: {problem}", begun=begun))
        if self._up:
            self._up = False
            self._problem = problem
            _log.error("triton-server-lost", server=self.name, problem=problem)
            self._changed.set()
            self._on_change(self)

    async def _watch(self) -> None:
        backoff, down_since = _FIRST_BACKOFF, _now()
        while True:
            self._changed.clear()
            if self._up:
                await self._wait_for_change(self._patience.idle_seconds / 2)
                if self._up:
                    await self._look_for_models()
                    await self._check_idle_models()
                down_since = _now()
                continue
            problem = await self._bring_up()
            if problem:
                if problem != self._problem or backoff == _FIRST_BACKOFF:
                    _log.warning("triton-server-down", server=self.name, problem=problem)
                self._problem = problem
                if self._deployed and _now() - down_since > _FORGOTTEN_SECONDS:
                    self._deployed = {}
                    self._on_change(self)
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
            deployed = await self._connection.deployed()
            models = [info for info in registry.available() if _is_among(info, deployed)]
            if not models:  # perhaps it is still loading them: those that it had count until it is given up
                return "it has no model of this service ready: write its model repository with recond triton export"
            self._deployed = deployed
            await self._checks.start_over(models, deployed)
            if self._shared_memory == "auto":
                self._by_region = await self._checks.region_works(models[0])
        except (grpc.aio.AioRpcError, OSError, RecondError, ServerLostError) as error:
            return faults.text_of(error)
        except TimeoutError:
            return f"a small frame took longer than {self._patience.probe_seconds:g} s"
        self._regions.most_free = 2 * self.concurrency + 2
        return ""

    async def _look_for_models(self) -> None:
        """Take note of models that were loaded or unloaded."""
        try:
            deployed = await self._connection.deployed()
            if deployed == self._deployed:
                return
            ready = await self._connection.ready()
        except grpc.aio.AioRpcError:
            return  # an image will tell whether the server is in order
        if ready:
            self._deployed = deployed
            self._on_change(self)
        else:
            self._lose("it is shutting down", all_batches=False)

    async def _check_idle_models(self) -> None:
        """Ask models that have had nothing to do, while the server has no batch, which would delay them and tell as much."""
        for info in registry.available():
            idle = _now() - self._checks.proved.get(info.name, 0.0) > self._patience.idle_seconds
            if self._in_flight or not idle or not self.has(info):
                continue
            begun = _now()
            try:
                await self._checks.all_instances(info, self._deployed[info.name].instances)
            except DefectError as error:
                if info.name in self._checks.measured:  # it made images before
                    self._lose(str(error), all_batches=False)
            except (grpc.aio.AioRpcError, OSError, RecondError) as error:
                self._lose(faults.text_of(error), all_batches=False)
            except TimeoutError:
                if max(self._checks.proved.values(), default=0.0) < begun:
                    self._lose("a small frame took too long", all_batches=True)
            if not self._up:
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


def _is_among(model: ModelInfo, deployed: Mapping[str, Deployed]) -> bool:
    """Tell whether a model is there in just this version."""
    found = deployed.get(model.name)
    return found is not None and (found.version, found.weights_sha256) == (model.version, model.weights_sha256)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _spread(batch: Batch, wanted: Sequence[int], outcome: BatchOutcome | None) -> BatchOutcome:
    """Put the outcome of the frames that were computed in the places of all."""
    count = len(batch.frames)
    if outcome is None:
        return BatchOutcome((None,) * count)
    if len(wanted) == count:
        return outcome
    computed = dict(zip(wanted, outcome.frames, strict=True))
    return replace(outcome, frames=tuple(computed.get(number) for number in range(count)))
