"""Structured logs on stderr, one JSON object per line, with the id of the request they belong to.

Logs never hold patient data. Messages and keys are chosen by the service, never taken from a file; what the processor
below catches is what slips through: folders of file names, and anything under a key that speaks of a patient.
"""

from __future__ import annotations

import logging
import sys
from contextlib import AbstractContextManager
from pathlib import PurePath
from typing import TYPE_CHECKING, Final, Literal, TextIO

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

_FILE_KEYS: Final = frozenset({"file", "path", "filename", "file_name"})
_PATIENT_KEYS: Final = ("patient", "subject", "birth")


def _keep_private(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Cut files down to their base names and take out whatever is filed under a patient."""
    for key, value in event.items():
        if key in _FILE_KEYS:
            event[key] = PurePath(str(value)).name
        elif key.lower().startswith(_PATIENT_KEYS):
            event[key] = "<removed>"
    return event


def configure_logging(
    level: Literal["debug", "info", "warning", "error"] = "info",
    log_format: Literal["json", "console"] = "json",
    stream: TextIO | None = None,
) -> None:
    """Send the logs of this process, structlog's and the standard library's alike, to one stream in one format.

    Parameters
    ----------
    level
        Least severe message to log.
    log_format
        ``"json"`` for machines, ``"console"`` for people.
    stream
        Where to; stderr by default. stdout is kept for the line that says the service is ready.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _keep_private,
    ]
    # Local variables of a traceback may hold headers and samples, so they stay out.
    if log_format == "json":
        transformer = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        ending: list[Processor] = [
            structlog.processors.ExceptionRenderer(transformer),
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(sort_keys=True, default=str),
        ]
    else:
        ending = [
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def bind_request(request_id: str) -> AbstractContextManager[None]:
    """Return a context in which every message of this task carries the request id.

    Parameters
    ----------
    request_id
        As in `Accepted.request_id`.
    """
    return structlog.contextvars.bound_contextvars(request_id=request_id)
