"""``recond gateway``: stand between scanners and a service."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import click

from recond_client.cli import exit_code
from recond_client.client import Client
from recond_client.embedded import EmbeddedService
from recond_client.errors import RecondError
from recond_gateway.config import Settings, load_settings
from recond_gateway.label_command import label
from recond_gateway.memory import keep_freed_memory
from recond_gateway.outgoing_of import outgoing_of
from recond_gateway.replay.commands import replay
from recond_gateway.server import Gateway
from recond_gateway.services import Services
from recond_gateway.session.mrd2_session import talk
from recond_gateway.spool import Spool, key_for
from recond_gateway.telemetry import Metrics, configure_logging

_USAGE: Final = 2


@click.group(invoke_without_command=True)
@click.option("--config", "config", type=click.Path(path_type=Path, dir_okay=False), help="TOML file with settings.")
@click.option(
    "--listen", metavar="HOST:PORT", help="Where scanners connect; 127.0.0.1:9002 by default, port 0 for a free one."
)
@click.option(
    "--scanner-network",
    "networks",
    multiple=True,
    metavar="CIDR",
    help="Network that scanners may connect from; repeatable.",
)
@click.option("--device", metavar="NAME", help="Which scanner the port is for, in logs and metrics.")
@click.option("--server", metavar="HOST:PORT", envvar="RECOND_SERVER", help="The service; without one, one is started.")
@click.option(
    "--ca", type=click.Path(path_type=Path), help="Authorities that vouch for the service, PEM; turns TLS on."
)
@click.option(
    "--certificate", type=click.Path(path_type=Path), help="What the gateway shows to the service, PEM (mutual TLS)."
)
@click.option("--key", type=click.Path(path_type=Path), help="Private key of --certificate, PEM.")
@click.option(
    "--spool", type=click.Path(path_type=Path, file_okay=False), help="Folder for scans that are not delivered yet."
)
@click.option("--metrics-listen", metavar="HOST:PORT", help="Where Prometheus reads metrics.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Least severe message to log."
)
@click.option("--log-format", type=click.Choice(["json", "console"]), help="For machines or for people.")
@click.option(
    "--mrd2",
    is_flag=True,
    help="Speak MRD version 2: from stdin to stdout, or, with --listen, one stream each way for each connection.",
)
@click.option("--stop-with-stdin", is_flag=True, hidden=True, help="Stop when stdin is closed: the parent is gone.")
@click.pass_context
def gateway(
    context: click.Context,
    /,
    config: Path | None,
    *,
    mrd2: bool,
    stop_with_stdin: bool,
    **options: Any,  # noqa: ANN401
) -> None:
    """Take scans from scanners over TCP (MRD, port 9002), and return their images while they are measured.

    Ends with SIGTERM or Ctrl-C; what is not delivered by then stays in the spool for the next start.
    """
    if context.invoked_subcommand is not None:
        return
    try:
        settings = load_settings(config, _changes(options, mrd2=mrd2))
        if mrd2 and options["listen"] is None:
            failed = _pipe(settings)
            sys.exit(0 if failed is None else exit_code(failed))
        _run(settings, stop_with_stdin=stop_with_stdin)
    except RecondError as error:
        click.echo(f"recond gateway: {error}", err=True)
        sys.exit(_USAGE)


def _changes(options: dict[str, Any], *, mrd2: bool) -> dict[str, Any]:
    """Return the options that were given, as the file has them."""
    listen = {
        name: value
        for name, value in (
            ("address", options["listen"]),
            ("scanner_network", list(options["networks"]) or None),
            ("device", options["device"]),
            ("protocol", "mrd2" if mrd2 else None),
        )
        if value is not None
    }
    groups: dict[str, Any] = {
        "service": {
            name: options[name] for name in ("server", "ca", "certificate", "key") if options[name] is not None
        },
        "spool": {} if options["spool"] is None else {"folder": options["spool"]},
        "logging": {
            name: options[option]
            for name, option in (("metrics_listen", "metrics_listen"), ("level", "log_level"), ("format", "log_format"))
            if options[option] is not None
        },
    }
    changes = {group: values for group, values in groups.items() if values}
    if listen:
        changes["listen"] = [listen]
    return changes


@contextmanager
def _services(settings: Settings) -> Iterator[Services]:
    """Return a context with the spool and a connection to the service."""
    folder = settings.spool.folder
    key_file = settings.spool.key_file or folder.with_name(f"{folder.name}.key")
    with ExitStack() as stack:
        key = key_for(folder, key_file)
        spool = stack.enter_context(
            Spool(
                folder,
                key,
                settings.spool.max_bytes,
                settings.spool.min_free_bytes,
                tails_bytes=settings.spool.memory_bytes,
            )
        )
        address = settings.service
        target = address.server or stack.enter_context(EmbeddedService()).target
        client = stack.enter_context(Client(target, ca=address.ca, certificate=address.certificate, key=address.key))
        if not address.server:
            client.wait_until_ready()
        yield Services(settings, client, spool, Metrics(), outgoing_of(settings))


def _run(settings: Settings, *, stop_with_stdin: bool) -> None:
    configure_logging(settings.logging)
    keep_freed_memory()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    if stop_with_stdin:
        threading.Thread(target=_set_with_stdin, args=(stopped,), daemon=True).start()
    with _services(settings) as services:
        if settings.logging.metrics_listen:
            host, port = settings.logging.metrics_address
            shown = services.metrics.serve(host, port)
            click.echo(f"recond gateway: metrics on {f'[{host}]' if ':' in host else host}:{shown}")
        with Gateway(services) as running:
            for each in running.ports:
                click.echo(f"recond gateway: listening on {each.address} for {each.device}")
            sys.stdout.flush()
            stopped.wait()
            running.stop(settings.limits.stop_seconds)


def _pipe(settings: Settings) -> RecondError | None:
    """Reconstruct the stream of version 2 on stdin, and write its images to stdout; lines go to stderr."""
    configure_logging(settings.logging)
    keep_freed_memory()
    with _services(settings) as services:
        return talk(
            services,
            settings.listen[0],
            sys.stdin.buffer,
            sys.stdout.buffer,
            lambda level, line: click.echo(f"{level.ljust(8)}{line}", err=True),
        )


def _set_with_stdin(stopped: threading.Event) -> None:
    sys.stdin.read()
    stopped.set()


gateway.add_command(replay)
gateway.add_command(label)
