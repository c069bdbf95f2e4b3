"""``recond gateway``: stand between scanners and a service."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import click

from recond_client.client import Client
from recond_client.embedded import EmbeddedService
from recond_client.errors import RecondError
from recond_gateway.config import Settings, load_settings
from recond_gateway.memory import keep_freed_memory
from recond_gateway.outgoing_of import outgoing_of
from recond_gateway.replay.commands import replay
from recond_gateway.server import Gateway
from recond_gateway.services import Services
from recond_gateway.spool import Spool, key_for
from recond_gateway.telemetry import Metrics, configure_logging

_USAGE: Final = 2
_PATIENCE: Final = 30.0


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
@click.option("--stop-with-stdin", is_flag=True, hidden=True, help="Stop when stdin is closed: the parent is gone.")
@click.pass_context
def gateway(context: click.Context, /, config: Path | None, *, stop_with_stdin: bool, **options: Any) -> None:  # noqa: ANN401
    """Take scans from scanners over TCP (MRD, port 9002), and return their images while they are measured.

    Ends with SIGTERM or Ctrl-C; what is not delivered by then stays in the spool for the next start.
    """
    if context.invoked_subcommand is not None:
        return
    try:
        settings = load_settings(config, _changes(options))
        _run(settings, stop_with_stdin=stop_with_stdin)
    except RecondError as error:
        click.echo(f"recond gateway: {error}", err=True)
        sys.exit(_USAGE)


def _changes(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given, as the file has them."""
    listen = {
        name: value
        for name, value in (
            ("address", options["listen"]),
            ("scanner_network", list(options["networks"]) or None),
            ("device", options["device"]),
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


def _run(settings: Settings, *, stop_with_stdin: bool) -> None:
    configure_logging(settings.logging)
    keep_freed_memory()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    if stop_with_stdin:
        threading.Thread(target=_set_with_stdin, args=(stopped,), daemon=True).start()
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
        metrics = Metrics()
        if settings.logging.metrics_listen:
            host, _, port = settings.logging.metrics_listen.rpartition(":")
            shown = metrics.serve(host.strip("[]"), int(port))
            click.echo(f"recond gateway: metrics on {host}:{shown}")
        services = Services(settings, client, spool, metrics, outgoing_of(settings))
        with Gateway(services) as running:
            for port_ in running.ports:
                click.echo(f"recond gateway: listening on {port_.address} for {port_.device}")
            sys.stdout.flush()
            stopped.wait()
            running.stop(_PATIENCE)


def _set_with_stdin(stopped: threading.Event) -> None:
    sys.stdin.read()
    stopped.set()


gateway.add_command(replay)
