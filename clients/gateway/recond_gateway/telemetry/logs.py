"""Structured logs on stderr, one JSON object per line.

No text that a scanner sent is ever logged, and nothing of a header: keys and messages are the gateway's own.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import TextIO

import structlog

from recond_gateway.config import Logging


def _without_values(
    _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Leave of an exception its type and where it was raised: what it says may quote what a scanner sent."""
    for each in event.get("exception", ()):
        each.pop("exc_value", None)
        each.pop("exc_notes", None)
    return event


def _show_frames(stream: TextIO, exception: structlog.typing.ExcInfo) -> None:
    """Write where an exception was raised, and its type: for people, as `_without_values` for machines."""
    kind, _, frames = exception
    traceback.print_tb(frames, file=stream)
    stream.write(f"{kind.__module__}.{kind.__qualname__}")


def configure_logging(settings: Logging, stream: TextIO | None = None) -> None:
    """Send the logs of this process to one stream in one format.

    Parameters
    ----------
    settings
        Level and format.
    stream
        Where to; stderr by default.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Local variables of a traceback may hold headers and samples, so they stay out.
    ending: list[structlog.typing.Processor] = (
        [
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            _without_values,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(sort_keys=True, default=str),
        ]
        if settings.format == "json"
        else [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=_show_frames)]
    )
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper())),
        logger_factory=structlog.WriteLoggerFactory(stream if stream is not None else sys.stderr),
        cache_logger_on_first_use=False,
    )
