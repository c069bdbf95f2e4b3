"""``recond serve``: run the service until a signal ends it."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import click
import structlog

from recond_service.api import Server
from recond_service.config import Settings, SettingsError, load_settings, settings_options, split_address
from recond_service.processes import keep_freed_memory
from recond_service.telemetry import configure_logging
from recond_service.types import RecondError

_KEPT_BYTES = 64 << 20
_FEWEST_DESCRIPTORS = 192  # what an idle service has open, and a request with many parts
_DESCRIPTORS = 1 << 16
_USAGE, _UNAVAILABLE = 2, 4  # exit codes, as everywhere in the command line

_log = structlog.get_logger(__name__)


@click.command()
@click.option("--config", "config", type=click.Path(path_type=Path), help="TOML file with settings.")
@click.option("--show-config", is_flag=True, help="Print the settings as JSON, secrets redacted, and exit.")
@click.option("--stop-with-stdin", is_flag=True, hidden=True, help="Drain when stdin is closed: the parent is gone.")
@settings_options
def serve(config: Path | None, *, show_config: bool, stop_with_stdin: bool, **flags: Any) -> None:  # noqa: ANN401
    """Serve reconstructions over gRPC until SIGTERM or Ctrl-C, which let accepted requests finish; a second one does not."""
    try:
        settings = load_settings(config, flags, unread_files=show_config)
    except SettingsError as error:
        click.echo(f"recond serve: {error}", err=True)
        sys.exit(_USAGE)
    if show_config:
        click.echo(json.dumps(settings.redacted(), indent=2))
        return
    keep_freed_memory(_KEPT_BYTES)
    descriptors = _raise_descriptor_limit()
    if descriptors < _FEWEST_DESCRIPTORS:
        click.echo(
            f"recond serve: this process may have {descriptors} files open, and needs {_FEWEST_DESCRIPTORS} at least: raise the "
            "limit (ulimit -n, or LimitNOFILE= of a systemd unit)",
            err=True,
        )
        sys.exit(_USAGE)
    configure_logging(settings.telemetry.log_level, settings.telemetry.log_format)
    try:
        asyncio.run(_serve(settings, stop_with_stdin=stop_with_stdin))
    except SettingsError as error:
        click.echo(f"recond serve: {error}", err=True)
        sys.exit(_USAGE)
    except RecondError as error:
        click.echo(f"recond serve: {error.message}", err=True)
        sys.exit(_UNAVAILABLE)


def _raise_descriptor_limit() -> int:
    """Raise the limit of open files as far as that is allowed, and return it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, _DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    return wanted


async def _serve(settings: Settings, *, stop_with_stdin: bool) -> None:
    server = Server(settings)
    signals: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, signal.Signals(number).name)
    if stop_with_stdin:
        loop.add_reader(sys.stdin.fileno(), _on_stdin, loop, signals)
    interrupted = asyncio.create_task(signals.get())
    try:
        starting = asyncio.create_task(server.start())
        await asyncio.wait({starting, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            return
        starting.result()
        host, _ = split_address(settings.server.listen)
        shown = f"[{host}]" if ":" in host else host
        _log.info("listening", address=f"{shown}:{server.port}", metrics_port=server.metrics_port)
        click.echo(f"recond: listening on {shown}:{server.port}")
        sys.stdout.flush()
        _log.info("signal", name=await interrupted)
        draining = asyncio.create_task(server.drain())
        again = asyncio.create_task(signals.get())
        await asyncio.wait({draining, again}, return_when=asyncio.FIRST_COMPLETED)
        for task in (draining, again):
            task.cancel()
    finally:
        interrupted.cancel()
        await server.stop()


def _on_stdin(loop: asyncio.AbstractEventLoop, signals: asyncio.Queue[str]) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        loop.remove_reader(sys.stdin.fileno())
        signals.put_nowait("stdin closed")
