"""The synchronous client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import grpc
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
from recond_client.upload import Source, upload_of

Response = TypeVar("Response")


class ImageStream:
    """The images of one call, as they come; made by `Client.stream`.

    Iterate it for the images, then ask `result` for the rest. Closing it, or leaving it as a context, cancels the call
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
        data: Iterable[pb.ReconstructRequest],
        *,
        timeout: float | None,
        images: bool,
        reporter: ProgressReporter,
        target: str,
    ) -> None:
        self._assembler = ResponseAssembler(images=images)
        self._reporter = reporter
        self._target = target
        self._may_send = threading.Event()
        self._closed = False
        self._sender_error: BaseException | None = None
        reporter.attach(self._assembler)
        self._call: Any = stub.Reconstruct(self._requests(first, data), timeout=timeout)
        self._images = self._receive()

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

    def __iter__(self) -> Iterator[Image]:
        return self

    def __next__(self) -> Image:
        return next(self._images)

    def result(self) -> Result:
        """Wait for the images that have not been taken yet, and return the whole.

        Raises
        ------
        RecondError
            If the call failed.
        """
        for _ in self:
            pass
        return self._assembler.result()

    def close(self) -> None:
        """Cancel the call if it still runs."""
        self._closed = True
        self._may_send.set()
        self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _requests(
        self, first: pb.ReconstructRequest, data: Iterable[pb.ReconstructRequest]
    ) -> Generator[pb.ReconstructRequest]:
        """Yield the messages to send; gRPC runs this in a thread of its own and asks only while there is room."""
        yield first
        self._may_send.wait()
        try:
            for message in data:
                if self._closed:
                    return
                yield message
                self._reporter.sent(message)
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - carried over to the thread that waits for the images
            self._sender_error = error
            self._call.cancel()

    def _receive(self) -> Generator[Image]:
        try:
            for response in self._call:
                image = self._assembler.feed(response)
                if self._assembler.accepted:
                    self._may_send.set()
                self._reporter.report()
                if image is not None:
                    yield image
        except grpc.RpcError as error:
            if self._sender_error is not None:
                raise self._sender_error from None
            raise _translated(error, self._target, self.request_id) from error
        finally:
            self.close()


class Client:
    """A connection to a reconstruction service. Safe to use from several threads.

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

    Examples
    --------
    >>> with Client("localhost:50051") as client:  # doctest: +SKIP
    ...     result = client.reconstruct("scan.h5", model="cg-sense")
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
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        endpoint = Endpoint(target, ca, certificate, key, tls)
        credentials = endpoint.credentials()
        self._channel = (
            grpc.insecure_channel(target, endpoint.options())
            if credentials is None
            else grpc.secure_channel(target, credentials, endpoint.options())
        )
        self._target = target
        self._retry = retry or RetryPolicy()
        self._clock = clock or Clock()
        self._sleep = sleep
        self._reconstruction = reconstruction_pb2_grpc.ReconstructionServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._models = model_pb2_grpc.ModelServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._health = health_pb2_grpc.HealthStub(self._channel)

    def close(self) -> None:
        """Close the connection; calls that still run fail."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def reconstruct(
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
        timeout: float | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> Result:
        """Reconstruct one scan.

        Failed attempts are repeated as the `RetryPolicy` allows, unless something was delivered already.

        Parameters
        ----------
        source
            Path of an ISMRMRD or fastMRI file or of either file of a BART pair; or bytes; or a seekable binary file object.
        kspace
            Instead of `source`: complex (slices, coils, rows, columns), or (coils, rows, columns) for one slice; centred,
            rows = readout.
        mask
            With `kspace`: (columns) or (rows, columns), nonzero where measured.
        reference
            Images to score against: a file, or real (slices, rows, columns).
        model, model_version
            What to run; ``"auto"`` lets the service choose.
        undersample
            ``"KIND:R[:CENTRE]"``: undersample fully sampled data first and score against the full data; KIND is
            ``random``, ``equispaced`` or ``equispaced-fraction``.
        outputs
            Endings of files to encode: ``.h5``, ``.mrd``, ``.nii.gz``, ``.png``.
        heads
            Names of the heads to run on the images.
        priority
            ``"stat"``, ``"clinical"`` or ``"research"``.
        images
            False leaves the images out, when only files or figures are wanted.
        timeout
            Seconds for everything, None for no end.
        on_progress
            Called with `Progress`, also from another thread while the upload runs.

        Raises
        ------
        InputError
            Fix the data or the options.
        RetryLaterError
            The service is full, away, or too slow for the timeout.
        ServiceError
            Ask the administrator.
        """
        upload = upload_of(source, kspace, mask, reference)
        options = Options(model, model_version, undersample, tuple(outputs), tuple(heads), priority, images)
        first = file_request(options, upload)
        reporter = ProgressReporter(on_progress, upload.size)
        schedule = Schedule(self._retry, timeout, self._clock)
        while True:
            with ImageStream(
                self._reconstruction,
                first,
                upload.chunks(),
                timeout=schedule.remaining(),
                images=images,
                reporter=reporter,
                target=self._target,
            ) as stream:
                try:
                    return stream.result()
                except RecondError as error:
                    delay = schedule.delay_after(error, repeatable=not stream.delivered)
                    if delay is None:
                        raise
            self._sleep(delay)

    def stream(
        self,
        header_xml: str | bytes,
        batches: Iterable[AcquisitionBatch],
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
    ) -> ImageStream:
        """Reconstruct a scan while it is measured.

        The batches are taken by another thread, as fast as the service accepts them; none is taken before the request is
        admitted, so after a `RetryLaterError` at that point the same iterable can be used again. Never repeated by itself.

        Parameters
        ----------
        header_xml
            The ISMRMRD XML header.
        batches
            Acquisitions in the order in which they are measured; may wait for the scanner. `batches_of` makes them from
            `ismrmrd.Acquisition` objects.
        expected_bytes
            Bytes of samples in all, 0 if that is not known.
        model, model_version, undersample, outputs, heads, priority, images, timeout, on_progress
            As for `reconstruct`.

        Returns
        -------
        The images as they come, and the result at the end. Errors are raised while iterating, as in `reconstruct`; what
        `batches` raises is raised there too.
        """
        options = Options(model, model_version, undersample, tuple(outputs), tuple(heads), priority, images)
        return ImageStream(
            self._reconstruction,
            stream_request(options, expected_bytes),
            _stream_data(header_xml, batches),
            timeout=timeout,
            images=images,
            reporter=ProgressReporter(on_progress, expected_bytes),
            target=self._target,
        )

    def models(self, *, timeout: float | None = 30.0) -> list[Model]:
        """Return the models of the service, in the order of their names."""
        response = self._unary(self._models.ListModels, model_pb2.ListModelsRequest(), timeout)
        return [model_of(model) for model in response.models]

    def model(self, name: str, version: str = "", *, timeout: float | None = 30.0) -> Model:
        """Return one model.

        Raises
        ------
        InputError
            If there is none of that name and version.
        """
        request = model_pb2.GetModelRequest(name=name, version=version)
        return model_of(self._unary(self._models.GetModel, request, timeout).model)

    def health(self, service: str = "", *, timeout: float | None = 10.0) -> str:
        """Return ``"SERVING"`` or ``"NOT_SERVING"``.

        Parameters
        ----------
        service
            What to ask about; empty for the service as a whole.
        timeout
            Seconds, None for no end.

        Raises
        ------
        InputError
            If the service knows nothing of that name.
        """
        request = health_pb2.HealthCheckRequest(service=service)
        response = self._once(self._health.Check, request, timeout)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Wait until the service is up and has a worker.

        Parameters
        ----------
        timeout
            Seconds.

        Raises
        ------
        RetryLaterError
            If it is not ready in time.
        ServiceError
            If it does not let this client in.
        """
        end = self._clock.now() + timeout
        while (left := end - self._clock.now()) > 0:
            try:
                if self.health(timeout=left) == "SERVING":
                    return
            except RetryLaterError:
                pass
            self._sleep(min(0.1, left))
        msg = f"the service at {self._target} is not ready after {timeout:g} s"
        raise RetryLaterError(msg, status="UNAVAILABLE", reason="NOT_READY")

    def _once(self, method: Callable[..., Response], request: object, timeout: float | None) -> Response:
        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as error:
            raise _translated(error, self._target) from error

    def _unary(self, method: Callable[..., Response], request: object, timeout: float | None) -> Response:
        schedule = Schedule(self._retry, timeout, self._clock)
        while True:
            try:
                return self._once(method, request, schedule.remaining())
            except RecondError as error:
                delay = schedule.delay_after(error, repeatable=True)
                if delay is None:
                    raise
            self._sleep(delay)


def _stream_data(header_xml: str | bytes, batches: Iterable[AcquisitionBatch]) -> Generator[pb.ReconstructRequest]:
    """Yield the messages of an acquisition stream behind its spec."""
    xml = header_xml.encode() if isinstance(header_xml, str) else header_xml
    yield pb.ReconstructRequest(mrd_header=pb.MrdHeader(xml=xml))
    for batch in batches:
        yield batch.to_wire()


def _translated(error: grpc.RpcError, target: str, request_id: str = "") -> RecondError:
    """Return the error of this package for gRPC's, which is also the call."""
    call = cast("grpc.Call", error)
    return error_of_call(call.code().name, call.details(), call.trailing_metadata(), target, request_id)
