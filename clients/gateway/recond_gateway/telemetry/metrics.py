"""Prometheus metrics, named ``recond_gateway_<object>_<measure>``, labelled by the device that a port is for."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from recond_gateway.errors import ConfigurationError

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)


class Metrics:
    """All metrics of one gateway.

    Parameters
    ----------
    registry
        Where to register; a new one by default.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry: Final = CollectorRegistry() if registry is None else registry
        self.sessions: Final = self._counter(
            "sessions_total", "Sessions that ended, by how: done, error, gone, kept, query, refused.", ["device", "end"]
        )
        self.errors: Final = self._counter(
            "errors_total", "Sessions that ended with an error, by reason.", ["device", "reason"]
        )
        self.open_sessions: Final = Gauge(
            "recond_gateway_open_sessions", "Sessions that are open.", ["device"], registry=self.registry
        )
        self.acquisitions: Final = self._counter("acquisitions_total", "Acquisitions received.", ["device"])
        self.received_bytes: Final = self._counter("received_bytes_total", "Bytes received from scanners.", ["device"])
        self.images: Final = self._counter(
            "images_total", "Images delivered, by what made them: asked, or fallback.", ["device", "by"]
        )
        self.image_seconds: Final = Histogram(
            "recond_gateway_image_seconds",
            "Seconds from the last acquisition of an image until it was handed to the console.",
            ["device"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.spool_bytes: Final = Gauge("recond_gateway_spool_bytes", "Bytes in the spool.", registry=self.registry)
        self.waiting_scans: Final = Gauge(
            "recond_gateway_waiting_scans", "Scans in the spool that wait for the service.", registry=self.registry
        )
        self.held_scans: Final = Gauge(
            "recond_gateway_held_scans", "Scans whose images wait for their console.", registry=self.registry
        )

    def _counter(self, name: str, about: str, labels: list[str]) -> Counter:
        return Counter(f"recond_gateway_{name}", about, labels, registry=self.registry)

    def serve(self, host: str, port: int) -> int:
        """Show the metrics over HTTP; return the port, for port 0.

        Raises
        ------
        ConfigurationError
            If the address cannot be bound.
        """
        try:
            server, _ = start_http_server(port, host, self.registry)
        except (OSError, UnicodeError) as error:
            what = error.strerror if isinstance(error, OSError) else "no such host"
            msg = f"metrics cannot be shown on {host}:{port} ({what}): give another address, or end what uses this one"
            raise ConfigurationError(msg, field="logging.metrics_listen") from error
        return int(server.server_port)
