from __future__ import annotations

import io
import json
import logging
import urllib.request
from collections.abc import Iterator

import pytest
import structlog

from recond_service.telemetry import Metrics, MetricsServer, bind_request, configure_logging


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_one_object_per_line_with_the_request_id(log: io.StringIO) -> None:
    logger = structlog.get_logger("recond.api")
    with bind_request("r-1"):
        logger.info("accepted", parts=2)
        logging.getLogger("grpc").warning("from %s", "elsewhere")
    logger.debug("not shown")
    logger.info("idle")
    first, second, third = lines(log)
    assert (first["message"], first["parts"], first["request_id"], first["level"]) == ("accepted", 2, "r-1", "info")
    assert first["logger"] == "recond.api"
    assert str(first["timestamp"]).endswith("Z")
    assert (second["message"], second["request_id"], second["logger"]) == ("from elsewhere", "r-1", "grpc")
    assert "request_id" not in third


def test_privacy(log: io.StringIO) -> None:
    structlog.get_logger().info("part", file="/home/ward/scan.h5", patient_name="Doe^Jane", subjectInformation="x")
    (line,) = lines(log)
    assert line["file"] == "scan.h5"
    assert line["patient_name"] == line["subjectInformation"] == "<removed>"


def test_tracebacks_have_no_locals(log: io.StringIO) -> None:
    secret = "Doe^Jane"  # noqa: F841, S105 - stays in the frame on purpose
    try:
        float("bad header")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = lines(log)
    assert "Doe" not in log.getvalue()
    assert "bad header" in json.dumps(line["exception"])


def test_console(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logging("warning", "console")
        structlog.get_logger().info("hidden")
        structlog.get_logger().error("shown", number=3)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "shown" in shown.err
    assert "number=3" in shown.err
    assert "hidden" not in shown.err


def test_metrics_over_http() -> None:
    metrics = Metrics()
    metrics.request_ended("OK", 0.2, {"upload": 0.01, "total": 0.2})
    metrics.request_failed("INVALID_ARGUMENT", "NOT_HDF5")
    metrics.request_rejected("TOO_MANY_REQUESTS")
    metrics.observe_figures({"ssim": 0.93, "psnr": None, "ssim_object": 0.96})
    metrics.images.labels("rss").inc(3)
    metrics.server_up.labels("worker-0").set(1)
    with (
        MetricsServer(metrics, "127.0.0.1", 0) as server,
        urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=5) as response,
    ):
        text = response.read().decode()
    assert 'recond_requests_total{status="OK"} 1.0' in text
    assert 'recond_errors_total{reason="NOT_HDF5",status="INVALID_ARGUMENT"} 1.0' in text
    assert 'recond_rejected_total{reason="TOO_MANY_REQUESTS"} 1.0' in text
    assert 'recond_stage_seconds_count{stage="upload"} 1.0' in text
    assert 'recond_stage_seconds_count{stage="compute"} 0.0' in text
    assert "recond_figure_ssim_count 1.0" in text
    assert 'recond_figure_ssim_object_bucket{le="0.95"} 0.0' in text
    assert 'recond_figure_ssim_object_bucket{le="0.97"} 1.0' in text
    assert "recond_figure_psnr_count 0.0" in text
    assert 'recond_images_total{model="rss"} 3.0' in text
    assert 'recond_server_up{server="worker-0"} 1.0' in text


def test_unknown_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="no such stage: brewing"):
        Metrics().request_ended("OK", 1.0, {"brewing": 1.0})
