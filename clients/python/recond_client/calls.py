"""Calls over a connection: where gRPC is spoken. The clients on top decide when to call, and how to wait."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from recond.v1 import analysis_pb2, analysis_pb2_grpc, model_pb2, model_pb2_grpc, reconstruction_pb2_grpc
from recond.v1 import reconstruction_pb2 as pb
from recond_client.acquisitions import EncodedRequest
from recond_client.analysis import AnalysisCall
from recond_client.channel import Endpoint, error_of_call
from recond_client.errors import RecondError
from recond_client.heads import HeadResult
from recond_client.model import Model, ModelHistory
from recond_client.models import history_of, model_of
from recond_client.progress import ProgressReporter
from recond_client.responses import ResponseAssembler
from recond_client.result import Image, Result

Response = TypeVar("Response")
Request = pb.ReconstructRequest | EncodedRequest

_CLOSED = "Channel closed!"  # as gRPC says of calls that run when it is


class ImageStream:
    """The images of one call, as they come; made by `recond_client.Client.stream`.

    Iterate it for the images, then ask `result` for the rest. Closing it, or leaving it as a context, cancels the call
    if it still runs.

    Parameters
    ----------
    stub
        Stub on an open channel.
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
    keep_images
        Whether the result is to hold the images.
    """

    def __init__(
        self,
        stub: reconstruction_pb2_grpc.ReconstructionServiceStub,
        first: pb.ReconstructRequest,
        data: Iterable[Request],
        *,
        timeout: float | None,
        images: bool,
        reporter: ProgressReporter,
        target: str,
        keep_images: bool = True,
    ) -> None:
        self._assembler = ResponseAssembler(images=images, one_stack=bool(first.spec.stack), keep_images=keep_images)
        self._reporter = reporter
        self._target = target
        self._may_send = threading.Event()
        self._closed = False
        self._sender_error: BaseException | None = None
        reporter.attach(self._assembler)
        with _closed_channels_told(target):
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
    def version(self) -> str:
        """Version of the model that runs; empty until that is decided."""
        return self._assembler.version

    @property
    def delivered(self) -> bool:
        """Whether any image or file has arrived."""
        return self._assembler.delivered

    @property
    def head_results(self) -> tuple[HeadResult, ...]:
        """What heads have said so far: of slices while images come, of volumes after the last one."""
        return self._assembler.head_results

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

    def _requests(self, first: pb.ReconstructRequest, data: Iterable[Request]) -> Generator[Request]:
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


class Connection:
    """A channel to a service. Safe to use from several threads.

    Parameters
    ----------
    endpoint
        Where to, and how.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        credentials = endpoint.credentials()
        self.target = endpoint.target
        self._channel = (
            grpc.insecure_channel(endpoint.target, endpoint.options())
            if credentials is None
            else grpc.secure_channel(endpoint.target, credentials, endpoint.options())
        )
        self._reconstruction = reconstruction_pb2_grpc.ReconstructionServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._reconstruction.Reconstruct = self._channel.stream_stream(
            "/recond.v1.ReconstructionService/Reconstruct",
            request_serializer=_serialised,
            response_deserializer=pb.ReconstructResponse.FromString,
        )
        self._analysis = analysis_pb2_grpc.AnalysisServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._models = model_pb2_grpc.ModelServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._health = health_pb2_grpc.HealthStub(self._channel)

    def close(self) -> None:
        """Close the channel; calls that still run fail."""
        self._channel.close()

    def reconstruct(
        self,
        first: pb.ReconstructRequest,
        data: Iterable[Request],
        *,
        timeout: float | None,
        images: bool,
        reporter: ProgressReporter,
        keep_images: bool = True,
    ) -> ImageStream:
        """Start a call; parameters as for `ImageStream`."""
        return ImageStream(
            self._reconstruction,
            first,
            data,
            timeout=timeout,
            images=images,
            reporter=reporter,
            target=self.target,
            keep_images=keep_images,
        )

    def analyze(
        self, first: analysis_pb2.AnalyzeRequest, data: Iterable[analysis_pb2.AnalyzeRequest], timeout: float | None
    ) -> AnalysisCall[analysis_pb2.AnalyzeRequest]:
        """Start a call of `Analyze`; parameters as for `AnalysisCall`."""
        with _closed_channels_told(self.target):
            return AnalysisCall(
                self._analysis.Analyze,
                first,
                data,
                timeout,
                lambda error, request_id: _translated(error, self.target, request_id),
            )

    def compare(
        self, first: analysis_pb2.CompareRequest, data: Iterable[analysis_pb2.CompareRequest], timeout: float | None
    ) -> AnalysisCall[analysis_pb2.CompareRequest]:
        """Start a call of `Compare`; parameters as for `AnalysisCall`."""
        with _closed_channels_told(self.target):
            return AnalysisCall(
                self._analysis.Compare,
                first,
                data,
                timeout,
                lambda error, request_id: _translated(error, self.target, request_id),
            )

    def heads(self, timeout: float | None) -> list[Model]:
        """Return the heads of the service."""
        request = model_pb2.ListModelsRequest()
        return [model_of(model) for model in self._once(self._models.ListModels, request, timeout).heads]

    def models(self, timeout: float | None) -> list[Model]:
        """Return the models of the service."""
        request = model_pb2.ListModelsRequest()
        return [model_of(model) for model in self._once(self._models.ListModels, request, timeout).models]

    def model(self, name: str, version: str, timeout: float | None) -> Model:
        """Return one model."""
        request = model_pb2.GetModelRequest(name=name, version=version)
        return model_of(self._once(self._models.GetModel, request, timeout).model)

    def model_history(self, name: str, timeout: float | None) -> ModelHistory:
        """Return the history of a model."""
        request = model_pb2.GetModelHistoryRequest(name=name)
        return history_of(self._once(self._models.GetModelHistory, request, timeout))

    def health(self, service: str, timeout: float | None) -> str:
        """Return the name of the serving status."""
        request = health_pb2.HealthCheckRequest(service=service)
        response = self._once(self._health.Check, request, timeout)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))

    def _once(self, method: Callable[..., Response], request: object, timeout: float | None) -> Response:
        try:
            with _closed_channels_told(self.target):
                return method(request, timeout=timeout)
        except grpc.RpcError as error:
            raise _translated(error, self.target) from error


def _serialised(message: Request) -> bytes:
    """Return a message as bytes, which some are already."""
    return message.data if isinstance(message, EncodedRequest) else message.SerializeToString()


@contextlib.contextmanager
def _closed_channels_told(target: str) -> Iterator[None]:
    """Raise the error of a cancelled call where gRPC refuses to begin one because the channel was closed meanwhile."""
    try:
        yield
    except ValueError as error:
        if "closed" not in str(error).lower():
            raise
        raise error_of_call("CANCELLED", _CLOSED, None, target) from error


def _translated(error: grpc.RpcError, target: str, request_id: str = "") -> RecondError:
    """Return the error of this package for gRPC's, which is also the call."""
    call = cast("grpc.Call", error)
    return error_of_call(call.code().name, call.details(), call.trailing_metadata(), target, request_id)
