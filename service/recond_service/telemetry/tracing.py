"""OpenTelemetry spans: one for a request, one for each of its stages, one for each batch with links to the frames in it.

Needs the extra ``otel``; without an endpoint nothing of OpenTelemetry is imported, and nothing is recorded.

A request's span carries on the trace of the client if it sent a ``traceparent`` (W3C Trace Context). Below it lie ``upload``,
``conditioning`` (until the first frame is there), a ``frame`` for every frame with ``queue`` and ``compute`` in it, and ``encode``.
A ``batch`` is a trace of its own, for it belongs to several requests: its links name the frames.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

_SERVICE: Final = "recond"


class TracingUnavailableError(RuntimeError):
    """Spans were asked for, and OpenTelemetry is not installed."""


class RequestTrace:
    """The spans of one request. This one records nothing; `Tracing.request` gives one that does where spans are wanted."""

    def uploaded(self) -> None:
        """Take note that the data are here."""

    def frame_arrived(self, number: int) -> object:  # noqa: ARG002
        """Take note that a frame goes to the scheduler; return what the span of its batch is to be linked with."""
        return None

    def frame_done(self, number: int, queue_seconds: float, compute_seconds: float, batch_size: int) -> None:
        """Take note that a frame came back just now."""

    def encoding(self) -> None:
        """Take note that all frames are there, and figures and files are made."""

    def end(self, status: str, model: str, stages: Mapping[str, float]) -> None:
        """Take note that the request is over."""


class Tracing:
    """Makes spans and sends them to a collector.

    Parameters
    ----------
    endpoint
        ``HOST:PORT`` of a collector that speaks OTLP over gRPC without TLS; empty for no spans.
    exporter
        Where spans go instead, for tests.

    Raises
    ------
    TracingUnavailableError
        If there is an endpoint and OpenTelemetry is not installed.
    """

    def __init__(self, endpoint: str = "", exporter: SpanExporter | None = None) -> None:
        self._provider: Any = None
        self._tracer: Tracer | None = None
        if not endpoint and exporter is None:
            return
        try:
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - optional
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

            if exporter is None:
                from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

                exporter = OTLPSpanExporter(endpoint=f"http://{endpoint}", insecure=True)
        except ImportError as error:
            raise TracingUnavailableError("spans need OpenTelemetry: pip install 'recond[otel]'") from error
        self._provider = TracerProvider(resource=Resource.create({"service.name": _SERVICE}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("recond_service")

    def request(self, request_id: str, metadata: Mapping[str, str]) -> RequestTrace:
        """Begin the spans of a request.

        Parameters
        ----------
        request_id
            Names the request in logs, errors and spans.
        metadata
            What the client sent along; ``traceparent`` and ``tracestate`` count.
        """
        return RequestTrace() if self._tracer is None else _RecordedTrace(self._tracer, request_id, metadata)

    def batch(self, attributes: Mapping[str, str | int | float], seconds_ago: float, links: Sequence[object]) -> None:
        """Record a batch that has just ended.

        Parameters
        ----------
        attributes
            What is known of it.
        seconds_ago
            When it was handed over to a model server.
        links
            From `RequestTrace.frame_arrived`.
        """
        if self._tracer is None:
            return
        from opentelemetry.context import Context  # noqa: PLC0415
        from opentelemetry.trace import Link, SpanContext  # noqa: PLC0415

        now = time.time_ns()
        contexts = [link for link in links if isinstance(link, SpanContext)]
        span = self._tracer.start_span(
            "batch",
            context=Context(),
            attributes=dict(attributes),
            links=[Link(context) for context in contexts],
            start_time=now - round(seconds_ago * 1e9),
        )
        span.end(now)

    def close(self) -> None:
        """Send what is left."""
        if self._provider is not None:
            self._provider.shutdown()


class _RecordedTrace(RequestTrace):
    def __init__(self, tracer: Tracer, request_id: str, metadata: Mapping[str, str]) -> None:
        from opentelemetry.propagate import extract  # noqa: PLC0415
        from opentelemetry.trace import SpanKind, set_span_in_context  # noqa: PLC0415

        self._tracer = tracer
        self._in_context = set_span_in_context
        self._span = tracer.start_span(
            "reconstruct",
            context=extract(dict(metadata)),
            kind=SpanKind.SERVER,
            attributes={"recond.request_id": request_id},
        )
        self._stage: Span | None = self._child("upload")
        self._frames: dict[int, Span] = {}

    def _child(self, name: str) -> Span:
        return self._tracer.start_span(name, context=self._in_context(self._span))

    def _next_stage(self, name: str | None) -> None:
        if self._stage is not None:
            self._stage.end()
        self._stage = None if name is None else self._child(name)

    def uploaded(self) -> None:
        self._next_stage(None if self._frames else "conditioning")  # of a stream frames come before its end

    def frame_arrived(self, number: int) -> object:
        if not self._frames and self._stage is not None:
            self._next_stage(None)
        span = self._frames[number] = self._child("frame")
        span.set_attribute("recond.frame", number)
        return span.get_span_context()

    def frame_done(self, number: int, queue_seconds: float, compute_seconds: float, batch_size: int) -> None:
        span = self._frames[number]
        context = self._in_context(span)
        now = time.time_ns()
        computing = now - round(compute_seconds * batch_size * 1e9)
        for name, start, end in (
            ("queue", computing - round(queue_seconds * 1e9), computing),
            ("compute", computing, now),
        ):
            self._tracer.start_span(name, context=context, start_time=start).end(end)
        span.set_attribute("recond.batch_size", batch_size)
        span.end(now)

    def encoding(self) -> None:
        self._next_stage("encode")

    def end(self, status: str, model: str, stages: Mapping[str, float]) -> None:
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

        self._next_stage(None)
        for span in self._frames.values():
            if span.is_recording():
                span.end()  # withdrawn, or failed
        self._span.set_attributes(
            {"recond.model": model, "rpc.grpc.status": status}
            | {f"recond.seconds.{name}": seconds for name, seconds in stages.items()}
        )
        self._span.set_status(
            Status(StatusCode.OK if status == "OK" else StatusCode.ERROR, None if status == "OK" else status)
        )
        self._span.end()
