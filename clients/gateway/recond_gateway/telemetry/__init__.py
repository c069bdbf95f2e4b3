"""Logs and metrics of a gateway. Nothing of a patient is in either."""

from recond_gateway.telemetry.logs import configure_logging
from recond_gateway.telemetry.metrics import Metrics

__all__ = ["Metrics", "configure_logging"]
