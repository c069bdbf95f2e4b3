"""Logs name nobody, in both formats, also where something fails."""

from __future__ import annotations

import io
import json

import pytest
import structlog

from recond_gateway.config import Logging
from recond_gateway.telemetry import configure_logging


@pytest.mark.parametrize("kind", ["json", "console"])
def test_what_an_exception_says_is_not_logged(kind):
    stream = io.StringIO()
    configure_logging(Logging(format=kind), stream)
    try:
        try:
            raise KeyError("PATIENT")
        except KeyError as error:
            error.add_note("PATIENT")
            raise ValueError("PATIENT") from error
    except ValueError:
        structlog.get_logger().exception("failed", scan="a1")
    finally:
        structlog.reset_defaults()
    text = stream.getvalue()
    assert "test_logs.py" in text
    assert "ValueError" in text
    # The source lines of this test are part of a traceback for people.
    assert "PATIENT" not in text.replace('raise ValueError("PATIENT")', "").replace('raise KeyError("PATIENT")', "")
    if kind == "json":
        (line,) = text.splitlines()
        assert json.loads(line)["scan"] == "a1"
