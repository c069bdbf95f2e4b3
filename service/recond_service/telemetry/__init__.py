"""What operators see: structured logs and Prometheus metrics."""

from recond_service.telemetry.logs import bind_request, configure_logging
from recond_service.telemetry.metrics import Metrics, MetricsServer

__all__ = ["Metrics", "MetricsServer", "bind_request", "configure_logging"]
