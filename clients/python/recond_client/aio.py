"""The asyncio client, twin of `recond_client.Client`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Sequence,
)
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import ArrayLike

from recond.v1 import model_pb2, model_pb2_grpc, reconstruction_pb2_grpc
from recond.v1 import reconstruction_pb2 as pb
from recond_client.acquisitions import AcquisitionBatch
from recond_client.channel import Endpoint, Pem, error_of_call
from recond_client.errors import RecondError, RetryLaterError
from recond_client.models import model_of
from recond_client.progress import ProgressCallback, ProgressReporter
from recond_client.responses import ResponseAssembler
from recond_client.result import Image, Model, Result
from recond_client.retry import Clock, RetryPolicy, Schedule
from recond_client.spec import Options, Priority, file_request, stream_request
from recond_client.upload import Source, Upload, upload_of

Response = TypeVar("Response")
Value = TypeVar("Value")

_FAILED_WRITE: Final = "Internal error from Core"
_STATUS_POLLS: Final = 100
_STATUS_POLL_SECONDS: Final = 0.01


class AsyncImageStream:
    """The images of one call, as they come; made by `Client.stream`.

    Iterate it for the images, then await `result` for the rest. Closing it, or leaving it as a context, cancels the call
    if it still runs.

    Parameters
    ----------
    stub
        Where to call.
    first
        The message with the spec.
    data
        The messages behind it; none is taken before the service has admitted the request.
    timeout
        Seconds, None for no end.
    images
        Whether the images were asked for.
    reporter
        Told about what was sent and what came.
    target
        Name of the service in messages.
    """

    def __init__(
        self,
        stub: reconstruction_pb2_grpc.ReconstructionServiceStub,
        first: pb.ReconstructRequest,
        data: AsyncGenerator[pb.ReconstructRequest],
        *,
        timeout: float | None,
        images: bool,
        reporter: ProgressReporter,
        target: str,
    ) -> None:
        self._assembler = ResponseAssembler(images=images)
        self._reporter = reporter
        self._target = target
        self._may_send = asyncio.Event()
        self._sender_error: BaseException | None = None
        reporter.attach(self._assembler)
        self._status: tuple[str, str | None, list[tuple[str, str | bytes]]] | None = None
        self._call: Any = stub.Reconstruct(timeout=timeout)
        self._call.add_done_callback(self._remember_status)
        self._sender = asyncio.create_task(self._send(first, data))
        self._images = self._receive()
        self._taking = False

    @property
    def request_id(self) -> str:
        """Names the request in the logs of the service; empty until it is admitted."""
        return self._assembler.request_id

    @property
    def model(self) -> str:
        """Name of the model that runs; empty until that is decided."""
        return self._assembler.model

    @property
    def delivered(self) -> bool:
        """Whether any image or file has arrived."""
        return self._assembler.delivered

    def __aiter__(self) -> AsyncIterator[Image]:
        return self

    async def __anext__(self) -> Image:
        self._taking = True
        try:
            return await anext(self._images)
        finally:
            self._taking = False

    async def result(self) -> Result:
        """Wait for the images that have not been taken yet, and return the whole.

        Raises
        ------
        RecondError
            If the call failed.
        """
        async for _ in self:
            pass
        return self._assembler.result()

    async def close(self) -> None:
        """Cancel the call if it still runs, and wait until nothing of it is left."""
        self._call.cancel()
        self._sender.cancel()
        await asyncio.wait([self._sender])
        if not self._taking:  # otherwise another task waits for the next image, and is told by the cancelled call
            await self._images.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(self, first: pb.ReconstructRequest, data: AsyncGenerator[pb.ReconstructRequest]) -> None:
        try:
            await self._call.write(first)
            await self._may_send.wait()
            async with contextlib.aclosing(data):
                async for message in data:
                    await self._call.write(message)
                    self._reporter.sent(message)
            await self._call.done_writing()
        except (grpc.RpcError, asyncio.InvalidStateError):
            return  # the call has ended; whoever reads the responses is told how
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - carried over to whoever waits for the images
            self._sender_error = error
            self._call.cancel()

    async def _receive(self) -> AsyncGenerator[Image]:
        try:
            while (response := await self._call.read()) is not grpc.aio.EOF:
                image = self._assembler.feed(response)
                if self._assembler.accepted:
                    self._may_send.set()
                self._reporter.report()
                if image is not None:
                    yield image
        except grpc.aio.AioRpcError as error:
            final = await self._final_error(error)
            if final is not None:
                raise final from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # gRPC reports a call that was cancelled on this side in the same way as a task that is being cancelled.
            if self._sender_error is not None:
                raise self._sender_error from None
            raise error_of_call("CANCELLED", "on this side", None, self._target, self.request_id) from None
        finally:
            self._call.cancel()
            self._sender.cancel()

    def _remember_status(self, call: grpc.aio.Call) -> None:
        """Keep the first status of the call, before a failed write can replace it.

        A write into a call that the service has just ended makes gRPC replace the status of the service by an INTERNAL of
        its own (grpc/grpc issue 36066). It calls back on every change, with the status at hand.
        """
        details = _at_hand(call.details())
        if self._status is None and details != _FAILED_WRITE:
            self._status = (_at_hand(call.code()).name, details, list(_at_hand(call.trailing_metadata())))

    async def _final_error(self, error: grpc.aio.AioRpcError) -> RecondError | None:
        """Return why the call ended, None if all went well; also where the status comes after the failed write."""
        if error.details() != _FAILED_WRITE:
            return _translated(error, self._target, self.request_id)
        for _ in range(_STATUS_POLLS):
            if self._status is not None:
                ended_well = self._status[0] == "OK"
                return None if ended_well else error_of_call(*self._status, self._target, self.request_id)
            await asyncio.sleep(_STATUS_POLL_SECONDS)
        return _translated(error, self._target, self.request_id)


class Client:
    """A connection to a reconstruction service for asyncio; belongs to the event loop in which it was made.

    Parameters
    ----------
    target
        ``HOST:PORT`` of the service.
    ca, certificate, key
        PEM files or their bytes: the authorities that vouch for the service, and what this client shows of itself (mutual
        TLS). Any of them turns TLS on.
    tls
        True for TLS with the system's authorities.
    retry
        When to try again.
    clock, sleep
        Where time comes from, and how to let it pass.

    Raises
    ------
    InputError
        If a certificate cannot be read.
    """

    def __init__(
        self,
        target: str,
        *,
        ca: Pem | None = None,
        certificate: Pem | None = None,
        key: Pem | None = None,
        tls: bool | None = None,
        retry: RetryPolicy | None = None,
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        endpoint = Endpoint(target, ca, certificate, key, tls)
        credentials = endpoint.credentials()
        self._channel = (
            grpc.aio.insecure_channel(target, endpoint.options())
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, endpoint.options())
        )
        self._target = target
        self._retry = retry or RetryPolicy()
        self._clock = clock or Clock()
        self._sleep = sleep
        self._reconstruction = reconstruction_pb2_grpc.ReconstructionServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._models = model_pb2_grpc.ModelServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._health = health_pb2_grpc.HealthStub(self._channel)

    async def close(self) -> None:
        """Close the connection; calls that still run fail."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def reconstruct(
        self,
        source: Source | None = None,
        *,
        kspace: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        reference: Source | ArrayLike | None = None,
        model: str = "auto",
        model_version: str = "",
        undersample: str | None = None,
        outputs: Sequence[str] = (),
        heads: Sequence[str] = (),
        priority: Priority = "clinical",
        images: bool = True,
        timeout: float | None = None,  # noqa: ASYNC109 - becomes the deadline of the call, which the service sees
        on_progress: ProgressCallback | None = None,
    ) -> Result:
        """Reconstruct one scan; parameters, result and errors as for `recond_client.Client.reconstruct`.

        `on_progress` is called in the event loop.
        """
        upload = upload_of(source, kspace, mask, reference)
        options = Options(model, model_version, undersample, tuple(outputs), tuple(heads), priority, images)
        first = file_request(options, upload)
        reporter = ProgressReporter(on_progress, upload.size)
        schedule = Schedule(self._retry, timeout, self._clock)
        while True:
            async with AsyncImageStream(
                self._reconstruction,
                first,
                _upload_data(upload),
                timeout=schedule.remaining(),
                images=images,
                reporter=reporter,
                target=self._target,
            ) as stream:
                try:
                    return await stream.result()
                except RecondError as error:
                    delay = schedule.delay_after(error, repeatable=not stream.delivered)
                    if delay is None:
                        raise
            await self._sleep(delay)

    def stream(
        self,
        header_xml: str | bytes,
        batches: AsyncIterable[AcquisitionBatch] | Iterable[AcquisitionBatch],
        *,
        model: str = "auto",
        model_version: str = "",
        undersample: str | None = None,
        outputs: Sequence[str] = (),
        heads: Sequence[str] = (),
        priority: Priority = "clinical",
        images: bool = True,
        expected_bytes: int = 0,
        timeout: float | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> AsyncImageStream:
        """Reconstruct a scan while it is measured; as `recond_client.Client.stream`.

        `batches` may be an asynchronous iterable; an ordinary one must not wait for long, because it runs in the event
        loop. Call it in a running event loop, and use what it returns as an asynchronous context, or close it.
        """
        options = Options(model, model_version, undersample, tuple(outputs), tuple(heads), priority, images)
        return AsyncImageStream(
            self._reconstruction,
            stream_request(options, expected_bytes),
            _stream_data(header_xml, batches),
            timeout=timeout,
            images=images,
            reporter=ProgressReporter(on_progress, expected_bytes),
            target=self._target,
        )

    async def models(self, *, timeout: float | None = 30.0) -> list[Model]:  # noqa: ASYNC109
        """Return the models of the service, in the order of their names."""
        response = await self._unary(self._models.ListModels, model_pb2.ListModelsRequest(), timeout)
        return [model_of(model) for model in response.models]

    async def model(self, name: str, version: str = "", *, timeout: float | None = 30.0) -> Model:  # noqa: ASYNC109
        """Return one model.

        Raises
        ------
        InputError
            If there is none of that name and version.
        """
        request = model_pb2.GetModelRequest(name=name, version=version)
        return model_of((await self._unary(self._models.GetModel, request, timeout)).model)

    async def health(self, service: str = "", *, timeout: float | None = 10.0) -> str:  # noqa: ASYNC109
        """Return ``"SERVING"`` or ``"NOT_SERVING"``; as `recond_client.Client.health`."""
        request = health_pb2.HealthCheckRequest(service=service)
        response = await self._once(self._health.Check, request, timeout)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))

    async def wait_until_ready(self, timeout: float = 60.0) -> None:  # noqa: ASYNC109
        """Wait until the service is up and has a worker; as `recond_client.Client.wait_until_ready`."""
        end = self._clock.now() + timeout
        while (left := end - self._clock.now()) > 0:
            try:
                if await self.health(timeout=left) == "SERVING":
                    return
            except RetryLaterError:
                pass
            await self._sleep(min(0.1, left))
        msg = f"the service at {self._target} is not ready after {timeout:g} s"
        raise RetryLaterError(msg, status="UNAVAILABLE", reason="NOT_READY")

    async def _once(
        self, method: Callable[..., Awaitable[Response]], request: object, seconds: float | None
    ) -> Response:
        try:
            return await method(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            raise _translated(error, self._target) from error

    async def _unary(
        self, method: Callable[..., Awaitable[Response]], request: object, seconds: float | None
    ) -> Response:
        schedule = Schedule(self._retry, seconds, self._clock)
        while True:
            try:
                return await self._once(method, request, schedule.remaining())
            except RecondError as error:
                delay = schedule.delay_after(error, repeatable=True)
                if delay is None:
                    raise
            await self._sleep(delay)


async def _upload_data(upload: Upload) -> AsyncGenerator[pb.ReconstructRequest]:
    """Yield the chunks of an upload, read in a thread: a disk may be slow."""
    chunks = upload.chunks()
    while (message := await asyncio.to_thread(next, chunks, None)) is not None:
        yield message


async def _stream_data(
    header_xml: str | bytes, batches: AsyncIterable[AcquisitionBatch] | Iterable[AcquisitionBatch]
) -> AsyncGenerator[pb.ReconstructRequest]:
    """Yield the messages of an acquisition stream behind its spec."""
    xml = header_xml.encode() if isinstance(header_xml, str) else header_xml
    yield pb.ReconstructRequest(mrd_header=pb.MrdHeader(xml=xml))
    if isinstance(batches, AsyncIterable):
        async for batch in batches:
            yield batch.to_wire()
    else:
        for batch in batches:
            yield batch.to_wire()


def _at_hand(coroutine: Coroutine[Any, Any, Value]) -> Value:
    """Return the result of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: Value = end.value
        return value
    coroutine.close()
    msg = "the status of a call that has ended is not at hand"
    raise RuntimeError(msg)


def _translated(error: grpc.aio.AioRpcError, target: str, request_id: str = "") -> RecondError:
    """Return the error of this package for gRPC's."""
    return error_of_call(error.code().name, error.details(), error.trailing_metadata(), target, request_id)
