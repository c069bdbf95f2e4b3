"""The asyncio client, twin of `recond_client.Client`.

Calls run in threads: gRPC's own asyncio interface replaces the status of a call by INTERNAL when a write fails because the
service has just ended it, and drops the responses that came before (grpc/grpc issue 36066). A service that refuses an
upload half-way is everyday life here.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from numpy.typing import ArrayLike

from recond_client.acquisitions import AcquisitionBatch
from recond_client.analysis import (
    Analysis,
    Comparison,
    Images,
    Visit,
    analysis_request,
    analysis_upload,
    compare_request,
)
from recond_client.calls import Connection, ImageStream
from recond_client.channel import Endpoint, Pem
from recond_client.errors import RecondError, RetryLaterError
from recond_client.heads import HeadResult
from recond_client.model import Model, ModelHistory
from recond_client.progress import ProgressCallback, ProgressReporter
from recond_client.result import Image, Progress, Result
from recond_client.retry import Clock, RetryPolicy, Schedule, check_timeout
from recond_client.spec import Options, PartialFourier, Priority, file_request, names_of, stream_request
from recond_client.upload import Source, stream_data, upload_of

Answer = TypeVar("Answer")


class _BatchesFromLoop:
    """Hands the batches of an asynchronous iterable, which lives in the event loop, to the thread that sends them.

    Parameters
    ----------
    batches
        Batches of acquisitions, as they are measured.
    """

    def __init__(self, batches: AsyncIterable[AcquisitionBatch]) -> None:
        self._loop = asyncio.get_running_loop()
        self._iterator = aiter(batches)
        self._next: concurrent.futures.Future[AcquisitionBatch | None] | None = None
        self._stopped = False

    def __iter__(self) -> Generator[AcquisitionBatch]:
        while True:
            self._next = asyncio.run_coroutine_threadsafe(self._take(), self._loop)
            if self._stopped:
                self._next.cancel()
            try:
                batch = self._next.result()
            except concurrent.futures.CancelledError:
                return
            if batch is None:
                return
            yield batch

    async def _take(self) -> AcquisitionBatch | None:
        return await anext(self._iterator, None)

    def stop(self) -> None:
        """Take nothing more, and stop waiting."""
        self._stopped = True
        if self._next is not None:
            self._next.cancel()


class AsyncImageStream:
    """The images of one call, as they come; made by `Client.stream`.

    Iterate it for the images, then await `result` for the rest. Closing it, or leaving it as a context, cancels the call
    if it still runs.

    Parameters
    ----------
    stream
        An open `Reconstruct` call of gRPC.
    batches
        What hands the acquisitions to it, if that needs to be stopped.
    """

    def __init__(self, stream: ImageStream, batches: _BatchesFromLoop | None = None) -> None:
        self._stream = stream
        self._batches = batches
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="recond-call")

    @property
    def request_id(self) -> str:
        """Names the request in the logs of the service; empty until it is admitted."""
        return self._stream.request_id

    @property
    def model(self) -> str:
        """Name of the model that runs; empty until that is decided."""
        return self._stream.model

    @property
    def version(self) -> str:
        """Version of the model that runs; empty until that is decided."""
        return self._stream.version

    @property
    def delivered(self) -> bool:
        """Whether any image or file has arrived."""
        return self._stream.delivered

    @property
    def head_results(self) -> tuple[HeadResult, ...]:
        """What heads have said so far; see `ImageStream.head_results`."""
        return self._stream.head_results

    def __aiter__(self) -> AsyncIterator[Image]:
        return self

    async def __anext__(self) -> Image:
        image = await asyncio.get_running_loop().run_in_executor(self._thread, next, self._stream, None)
        if image is None:
            raise StopAsyncIteration
        return image

    async def result(self) -> Result:
        """Wait for the images that have not been taken yet, and return the whole.

        Raises
        ------
        RecondError
            If the call failed.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._stream.result)

    async def close(self) -> None:
        """Cancel the call if it still runs, and wait until nothing of it is left."""
        self._stream.close()
        if self._batches is not None:
            self._batches.stop()
        await asyncio.to_thread(self._thread.shutdown)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class Client:
    """A connection to a reconstruction service, for asyncio.

    Parameters
    ----------
    target
        ``HOST:PORT`` of the service, or several: ``ipv4:10.0.0.5:50051,10.0.0.6:50051``.
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
        self._connection = Connection(Endpoint(target, ca, certificate, key, tls))
        self._retry = retry or RetryPolicy()
        self._clock = clock or Clock()
        self._sleep = sleep

    async def close(self) -> None:
        """Close the connection; calls that still run fail."""
        await asyncio.to_thread(self._connection.close)

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
        attention: bool = False,
        priority: Priority = "clinical",
        images: bool = True,
        partial_fourier: PartialFourier = "zero-fill",
        virtual_coils: int = 0,
        coil_energy: float = 0.0,
        stack: str = "",
        complex_images: bool = False,
        uncertainty: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - becomes the deadline of the call, which the service sees
        on_progress: ProgressCallback | None = None,
    ) -> Result:
        """Reconstruct one scan; parameters, result and errors as for `recond_client.Client.reconstruct`.

        `on_progress` is called in the event loop.
        """
        upload = upload_of(source, kspace, mask, reference)
        options = Options(
            model=model,
            model_version=model_version,
            undersample=undersample,
            outputs=names_of(outputs, "outputs"),
            heads=names_of(heads, "heads"),
            attention=attention,
            priority=priority,
            images=images,
            partial_fourier=partial_fourier,
            virtual_coils=virtual_coils,
            coil_energy=coil_energy,
            stack=stack,
            complex_images=complex_images,
            uncertainty=uncertainty,
        )
        first = file_request(options, upload)
        reporter = ProgressReporter(_in_loop(on_progress), upload.size)
        schedule = Schedule(self._retry, timeout, self._clock)
        while True:
            call = self._connection.reconstruct(
                first, upload.chunks(), timeout=schedule.remaining(), images=images, reporter=reporter
            )
            async with AsyncImageStream(call) as stream:
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
        attention: bool = False,
        priority: Priority = "clinical",
        images: bool = True,
        partial_fourier: PartialFourier = "zero-fill",
        virtual_coils: int = 0,
        coil_energy: float = 0.0,
        stack: str = "",
        complex_images: bool = False,
        uncertainty: bool = False,
        expected_bytes: int = 0,
        keep_images: bool = True,
        timeout: float | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> AsyncImageStream:
        """Reconstruct a scan while it is measured; as `recond_client.Client.stream`.

        `batches` may be an asynchronous iterable, which is taken in the event loop; an ordinary one is taken by another
        thread, and may wait. Call this in a running event loop, and use what it returns as an asynchronous context, or
        close it.
        """
        options = Options(
            model=model,
            model_version=model_version,
            undersample=undersample,
            outputs=names_of(outputs, "outputs"),
            heads=names_of(heads, "heads"),
            attention=attention,
            priority=priority,
            images=images,
            partial_fourier=partial_fourier,
            virtual_coils=virtual_coils,
            coil_energy=coil_energy,
            stack=stack,
            complex_images=complex_images,
            uncertainty=uncertainty,
        )
        handed = _BatchesFromLoop(batches) if isinstance(batches, AsyncIterable) else None
        call = self._connection.reconstruct(
            stream_request(options, expected_bytes),
            stream_data(header_xml, handed if handed is not None else batches),  # type: ignore[arg-type]
            timeout=check_timeout(timeout),
            images=images,
            reporter=ProgressReporter(_in_loop(on_progress), expected_bytes),
            keep_images=keep_images,
        )
        return AsyncImageStream(call, handed)

    async def analyze(
        self,
        images: Images,
        *,
        heads: Sequence[str],
        outputs: Sequence[str] = (),
        attention: bool = False,
        spacing: Sequence[float] | None = None,
        priority: Priority = "clinical",
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Analysis:
        """Run heads on images that were reconstructed elsewhere; see `recond_client.Client.analyze`."""
        upload = analysis_upload(images)
        first = analysis_request(
            upload, names_of(heads, "heads"), names_of(outputs, "outputs"), priority, spacing, attention=attention
        )
        schedule = Schedule(self._retry, timeout, self._clock)
        while True:
            call = self._connection.analyze(first, upload.requests(), schedule.remaining())
            try:
                return await asyncio.to_thread(call.result)
            except asyncio.CancelledError:
                call.close()
                raise
            except RecondError as error:
                delay = schedule.delay_after(error, repeatable=not call.delivered)
                if delay is None:
                    raise
            await self._sleep(delay)

    async def compare(
        self,
        visits: Sequence[Visit],
        *,
        heads: Sequence[str] = (),
        patient: str = "",
        clinical_rows: Source | None = None,
        priority: Priority = "clinical",
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Comparison:
        """Compare the scans of a patient; see `recond_client.Client.compare`."""
        first, upload = compare_request(visits, names_of(heads, "heads"), patient, clinical_rows, priority)
        schedule = Schedule(self._retry, timeout, self._clock)
        while True:
            call = self._connection.compare(first, upload.compare_requests(), schedule.remaining())
            try:
                return await asyncio.to_thread(call.comparison)
            except asyncio.CancelledError:
                call.close()
                raise
            except RecondError as error:
                delay = schedule.delay_after(error, repeatable=not call.delivered)
                if delay is None:
                    raise
            await self._sleep(delay)

    async def heads(self, *, timeout: float | None = 30.0) -> list[Model]:  # noqa: ASYNC109
        """Return the heads of the service, in the order of their names."""
        return await self._repeated(self._connection.heads, timeout)

    async def models(self, *, timeout: float | None = 30.0) -> list[Model]:  # noqa: ASYNC109
        """Return the models of the service, in the order of their names."""
        return await self._repeated(self._connection.models, timeout)

    async def model(self, name: str, version: str = "", *, timeout: float | None = 30.0) -> Model:  # noqa: ASYNC109
        """Return one model.

        Raises
        ------
        InputError
            If there is none of that name and version.
        """
        return await self._repeated(lambda left: self._connection.model(name, version, left), timeout)

    async def model_history(self, name: str, *, timeout: float | None = 30.0) -> ModelHistory:  # noqa: ASYNC109
        """Return the history of a model; as `recond_client.Client.model_history`."""
        return await self._repeated(lambda left: self._connection.model_history(name, left), timeout)

    async def health(self, service: str = "", *, timeout: float | None = 10.0) -> str:  # noqa: ASYNC109
        """Return ``"SERVING"`` or ``"NOT_SERVING"``; as `recond_client.Client.health`."""
        return await asyncio.to_thread(self._connection.health, service, check_timeout(timeout))

    async def wait_until_ready(self, timeout: float = 60.0) -> None:  # noqa: ASYNC109
        """Wait until the service is up and has a worker; as `recond_client.Client.wait_until_ready`."""
        check_timeout(timeout)
        end = self._clock.now() + timeout
        while (left := end - self._clock.now()) > 0:
            try:
                if await self.health(timeout=left) == "SERVING":
                    return
            except RetryLaterError:
                pass
            await self._sleep(min(0.1, left))
        msg = f"the service at {self._connection.target} is not ready after {timeout:g} s"
        raise RetryLaterError(msg, status="UNAVAILABLE", reason="NOT_READY")

    async def _repeated(self, ask: Callable[[float | None], Answer], seconds: float | None) -> Answer:
        schedule = Schedule(self._retry, seconds, self._clock)
        while True:
            try:
                return await asyncio.to_thread(ask, schedule.remaining())
            except RecondError as error:
                delay = schedule.delay_after(error, repeatable=True)
                if delay is None:
                    raise
            await self._sleep(delay)


def _in_loop(callback: ProgressCallback | None) -> ProgressCallback | None:
    """Return a callback for any thread that runs another in this event loop, and waits until it has run."""
    if callback is None:
        return None
    loop = asyncio.get_running_loop()

    async def run(progress: Progress) -> None:
        callback(progress)

    return lambda progress: asyncio.run_coroutine_threadsafe(run(progress), loop).result()
