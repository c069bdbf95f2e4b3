"""Prometheus metrics, named ``recond_<object>_<measure>``, and the HTTP server that shows them.

Labels have few values: statuses, reasons, stages and names of models, never shapes, files or requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from recond_service.telemetry.model_use import ModelUse

STAGES: Final = ("admission", "upload", "ingest", "conditioning", "queue", "compute", "encode", "total")
FIGURES: Final = (
    "ssim",
    "psnr",
    "nmse",
    "ssim_object",
    "psnr_object",
    "nmse_object",
    "data_consistency_residual",
    "noise_level",
)

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500)
_SLACK: Final = (-100, -10, -1, -0.1, 0, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500)
_SSIM: Final = (0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 1.0)
_PSNR: Final = (10, 15, 20, 22.5, 25, 27.5, 30, 32.5, 35, 37.5, 40, 45, 50, 60)
_NMSE: Final = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1)
_FIGURE_BUCKETS: Final = {
    "ssim": _SSIM,
    "psnr": _PSNR,
    "nmse": _NMSE,
    "ssim_object": _SSIM,
    "psnr_object": _PSNR,
    "nmse_object": _NMSE,
    "data_consistency_residual": (1e-4, 1e-3, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1),
    "noise_level": (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2),
}


class Metrics:
    """All metrics of one service, in a registry of their own.

    Parameters
    ----------
    registry
        Where to register; a new one by default, so that several services in one process do not mix.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry: Final = CollectorRegistry() if registry is None else registry
        self.requests: Final = Counter(
            "recond_requests_total", "Requests that ended, by gRPC status.", ["status"], registry=self.registry
        )
        self.request_seconds: Final = Histogram(
            "recond_request_seconds",
            "Seconds from the first message to the end.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.stage_seconds: Final = Histogram(
            "recond_stage_seconds",
            "Seconds that a request spent in a stage.",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.errors: Final = Counter(
            "recond_errors_total",
            "Requests that failed, by status and reason.",
            ["status", "reason"],
            registry=self.registry,
        )
        self.rejected: Final = Counter(
            "recond_rejected_total",
            "Requests that were turned away before any work.",
            ["reason"],
            registry=self.registry,
        )
        self.requests_in_flight: Final = Gauge(
            "recond_requests_in_flight", "Requests that are being served.", registry=self.registry
        )
        self.bytes_in_flight: Final = Gauge(
            "recond_bytes_in_flight", "Bytes of uploads and frames that are held.", registry=self.registry
        )
        self.queue_frames: Final = Gauge(
            "recond_queue_frames", "Frames that wait for a worker.", registry=self.registry
        )
        self.images: Final = Counter(
            "recond_images_total", "Images finished, by model.", ["model"], registry=self.registry
        )
        self.model_requests: Final = Counter(
            "recond_model_requests_total",
            "Requests that ended, by the version of the model that ran and whether it failed on them.",
            ["model", "version", "outcome"],
            registry=self.registry,
        )
        self.model_seconds: Final = Histogram(
            "recond_model_request_seconds",
            "Seconds of requests that went well, by the version of the model that ran.",
            ["model", "version"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.model_residual: Final = Histogram(
            "recond_model_data_consistency_residual",
            "Data-consistency residual of scans, by the version of the model that ran.",
            ["model", "version"],
            buckets=_FIGURE_BUCKETS["data_consistency_residual"],
            registry=self.registry,
        )
        self.model_uses: Final[dict[tuple[str, str], ModelUse]] = {}
        self.decisions: Final = Counter(
            "recond_model_decisions_total",
            "Requests whose model was chosen by evidence, by model and by what decided.",
            ["model", "basis"],
            registry=self.registry,
        )
        self.heads: Final = Counter(
            "recond_head_results_total",
            "Results of heads, by head and by outcome: done, or refused.",
            ["head", "outcome"],
            registry=self.registry,
        )
        self.trial_seconds: Final = Counter(
            "recond_trial_seconds_total",
            "Seconds of model servers that trials with held-out samples took.",
            registry=self.registry,
        )
        self.backlog: Final = Gauge(
            "recond_backlog_seconds",
            "Predicted time until all frames that are here are computed.",
            registry=self.registry,
        )
        self.server_up: Final = Gauge(
            "recond_server_up", "1 while a model server can compute.", ["server"], registry=self.registry
        )
        self.server_lost: Final = Counter(
            "recond_server_lost_total",
            "Times that a model server went away and was started again or given up.",
            ["server"],
            registry=self.registry,
        )
        self.frame_queue: Final = Histogram(
            "recond_frame_queue_seconds",
            "Seconds that a frame waited for a model server.",
            ["priority"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.deadline_slack: Final = Histogram(
            "recond_frame_deadline_slack_seconds",
            "Seconds between a frame's image and its deadline.",
            ["priority"],
            buckets=_SLACK,
            registry=self.registry,
        )
        self.batch_frames: Final = Histogram(
            "recond_batch_frames",
            "Frames in a batch.",
            ["model"],
            buckets=(1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64),
            registry=self.registry,
        )
        self.batch_fill: Final = Histogram(
            "recond_batch_fill_ratio",
            "Frames in a batch over frames at which a frame is cheapest.",
            buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
            registry=self.registry,
        )
        self.batch_forming: Final = Histogram(
            "recond_batch_forming_seconds",
            "Seconds that a batch was held back for company while a model server was free.",
            buckets=(0.0, *_SECONDS),
            registry=self.registry,
        )
        self.batch_compute: Final = Histogram(
            "recond_batch_compute_seconds",
            "Seconds that a batch was computed.",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_cost_ratio: Final = Histogram(
            "recond_batch_cost_ratio",
            "Actual over predicted seconds of a batch.",
            buckets=(0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0, 4.0),
            registry=self.registry,
        )
        self.frames_again: Final = Counter(
            "recond_frames_again_total",
            "Frames that had to wait again: lost with their server, apart from a batch that failed, for memory, recalled.",
            ["why"],
            registry=self.registry,
        )
        self.frames_withdrawn: Final = Counter(
            "recond_frames_withdrawn_total",
            "Frames that nobody waited for any more, by where they were.",
            ["where"],
            registry=self.registry,
        )
        self.figures: Final = {
            name: Histogram(
                f"recond_figure_{name}", f"Figure {name} of the scans.", buckets=buckets, registry=self.registry
            )
            for name, buckets in _FIGURE_BUCKETS.items()
        }
        for why in ("lost", "apart", "memory", "recalled"):
            self.frames_again.labels(why)
        for where in ("queue", "server"):
            self.frames_withdrawn.labels(where)
        for stage in STAGES:
            self.stage_seconds.labels(stage)

    def request_ended(self, status: str, seconds: float, stages: Mapping[str, float] | None = None) -> None:
        """Count a request that ended.

        Parameters
        ----------
        status
            Name of the gRPC status, such as ``"OK"``.
        seconds
            From its first message to its end.
        stages
            Seconds by stage, for those that it reached.

        Raises
        ------
        ValueError
            If a stage is not one of `STAGES`.
        """
        unknown = set(stages or ()) - set(STAGES)
        if unknown:
            msg = f"no such stage: {', '.join(sorted(unknown))}; the stages are {', '.join(STAGES)}"
            raise ValueError(msg)
        self.requests.labels(status).inc()
        self.request_seconds.observe(seconds)
        for stage, spent in (stages or {}).items():
            self.stage_seconds.labels(stage).observe(spent)

    def model_ended(self, model: str, version: str, seconds: float, residual: float | None) -> None:
        """Count a request that went well by the version of the model that ran.

        Parameters
        ----------
        model, version
            What ran.
        seconds
            Of the request.
        residual
            Data-consistency residual of the scan, None where the model does not fit the samples.
        """
        self.model_requests.labels(model, version, "done").inc()
        self.model_seconds.labels(model, version).observe(seconds)
        if residual is not None:
            self.model_residual.labels(model, version).observe(residual)
        self.model_uses.setdefault((model, version), ModelUse()).ended(seconds, residual)

    def model_failed(self, model: str, version: str) -> None:
        """Count a request on which a version of a model failed."""
        self.model_requests.labels(model, version, "failed").inc()
        self.model_uses.setdefault((model, version), ModelUse()).failed()

    def request_failed(self, status: str, reason: str) -> None:
        """Count an error by gRPC status and `ErrorInfo` reason."""
        self.errors.labels(status, reason).inc()

    def request_rejected(self, reason: str) -> None:
        """Count a request that was turned away before any work."""
        self.rejected.labels(reason).inc()

    def observe_figures(self, figures: Mapping[str, float | None]) -> None:
        """Record the figures of a scan; those that are None do not apply.

        Parameters
        ----------
        figures
            Values by name, of `FIGURES`.
        """
        for name, value in figures.items():
            if value is not None:
                self.figures[name].observe(value)


class MetricsServer:
    """Serves ``/metrics`` over HTTP from a thread of its own.

    Parameters
    ----------
    metrics
        What to show.
    host
        Address to listen on.
    port
        Port to listen on, 0 for a free one.

    Raises
    ------
    OSError
        If the address cannot be bound.
    """

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        self._server, self._thread = start_http_server(port, addr=host, registry=metrics.registry)

    @property
    def port(self) -> int:
        """The port that is bound."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
