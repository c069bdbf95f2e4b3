"""What operators see: structured logs, Prometheus metrics, OpenTelemetry spans."""

from recond_service.telemetry.logs import bind_request, configure_logging
from recond_service.telemetry.metrics import Metrics, MetricsServer
from recond_service.telemetry.model_use import ModelUse
from recond_service.telemetry.tracing import RequestTrace, Tracing, TracingUnavailableError

__all__ = [
    "Metrics",
    "MetricsServer",
    "ModelUse",
    "RequestTrace",
    "Tracing",
    "TracingUnavailableError",
    "bind_request",
    "configure_logging",
]
