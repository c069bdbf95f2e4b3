"""Which service a command talks to: one that is named, or one of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from recond_client.channel import check_target
from recond_client.client import Client
from recond_client.commands.display import waiting
from recond_client.embedded import EmbeddedService
from recond_client.errors import InputError, RecondError

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Connection:
    """Where to connect.

    Parameters
    ----------
    server
        ``HOST:PORT``, or None for an embedded service.
    ca, certificate, key
        PEM files for TLS.
    """

    server: str | None
    ca: Path | None
    certificate: Path | None
    key: Path | None

    @contextmanager
    def open(self) -> Iterator[Client]:
        """Return a context with a client.

        Raises
        ------
        click.UsageError
            If there are certificates, but no server to show them to.
        RecondError
            If there is no service.
        """
        if self.server is not None:
            with Client(self.server, ca=self.ca, certificate=self.certificate, key=self.key) as client:
                yield client
            return
        if self.ca is not None or self.certificate is not None or self.key is not None:
            msg = "--ca, --certificate and --key go with --server"
            raise click.UsageError(msg)
        with ExitStack() as stack:
            with waiting("starting a service for this call"):
                service = stack.enter_context(EmbeddedService())
                client = stack.enter_context(Client(service.target))
                client.wait_until_ready()
            try:
                yield client
            except RecondError as error:
                if service.died():
                    error.message += f"\nThe embedded service has ended. Its last words:\n{service.last_words()}"
                raise


def _check_server(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        try:
            check_target(value)
        except InputError as error:
            raise click.BadParameter(error.message) from error
    return value


def connection_options(function: Decorated) -> Decorated:
    """Decorate a command with the options that say where to connect."""
    pem = click.Path(path_type=Path, dir_okay=False)
    for decorate in (
        click.option("--key", type=pem, help="Private key of --certificate, PEM."),
        click.option("--certificate", type=pem, help="Certificate to show to the service (mutual TLS), PEM."),
        click.option("--ca", type=pem, help="Authorities that vouch for the service, PEM; turns TLS on."),
        click.option(
            "--server",
            metavar="HOST:PORT",
            envvar="RECOND_SERVER",
            show_envvar=True,
            callback=_check_server,
            help="Service to use; without one, a service is started for this call.",
        ),
    ):
        function = decorate(function)
    return function
