"""The gateway: ports for scanners, and what works behind them."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import threading
import time
from types import TracebackType
from typing import Final, Self

import structlog

from recond_gateway.backlog import Backlog
from recond_gateway.config import Listen
from recond_gateway.errors import ConfigurationError
from recond_gateway.services import Services
from recond_gateway.session.console import Console, linger
from recond_gateway.session.mrd2_session import talk_over_socket
from recond_gateway.session.session import Session

_KEEP_ALIVE: Final = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""A scanner that vanished without a word is noticed after a minute."""
_REFUSAL_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 0.1
_LAST_WORDS_SECONDS: Final = 3.0
_BACKLOG: Final = 16

_log = structlog.get_logger(__name__)


def _what(error: OSError) -> str:
    """Return what the system says, without the address that Python adds to it."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return (error.strerror or str(error)).partition(" (while")[0]


class Port:
    """A port for one device.

    Parameters
    ----------
    services
        Shared by all sessions.
    listen
        What and for whom.

    Raises
    ------
    ConfigurationError
        The address cannot be bound.
    """

    def __init__(self, services: Services, listen: Listen) -> None:
        self._services = services
        self._listen = listen
        self._lock = threading.Lock()
        self._sessions: dict[threading.Thread, socket.socket] = {}
        self._closed = False
        family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        try:
            self._socket = socket.create_server((listen.host, listen.port), family=family, backlog=_BACKLOG)
        except OSError as error:
            msg = (
                f"{listen.address} cannot be listened on ({_what(error)}): give another address to {listen.device}, "
                "or end what uses this one"
            )
            raise ConfigurationError(msg, field="listen.address") from error
        except UnicodeError as error:
            msg = f"{listen.address} names no host: give HOST:PORT"
            raise ConfigurationError(msg, field="listen.address") from error
        self._thread = threading.Thread(target=self._accept, name=f"recond-port-{listen.device}", daemon=True)

    @property
    def address(self) -> str:
        """``HOST:PORT`` that is listened on."""
        host = f"[{self._listen.host}]" if ":" in self._listen.host else self._listen.host
        return f"{host}:{self._socket.getsockname()[1]}"

    @property
    def device(self) -> str:
        """Which scanner it is for."""
        return self._listen.device

    def start(self) -> None:
        """Let scanners in."""
        self._thread.start()

    def close(self) -> None:
        """Let no more scanners in."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def wait(self, end: float) -> None:
        """Wait for the sessions, until a time of the monotonic clock."""
        for session in list(self._open()):
            session.join(max(0.0, end - time.monotonic()))

    def hush(self) -> None:
        """Take nothing more from scanners: their sessions tell them so, and end."""
        self._shut(socket.SHUT_RD)

    def hang_up(self) -> None:
        """Close all connections, also those whose console does not read."""
        self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        for connection in self._open().values():
            with contextlib.suppress(OSError):
                connection.shutdown(how)

    def _open(self) -> dict[threading.Thread, socket.socket]:
        with self._lock:
            return dict(self._sessions)

    def _accept(self) -> None:
        while True:
            try:
                connection, peer = self._socket.accept()
            except OSError as error:
                if self._closed:
                    return
                # Descriptors run out, or the scanner is gone already: neither may end the port.
                _log.warning("connection-lost", device=self._listen.device, error=error.strerror)
                time.sleep(_PAUSE_SECONDS)
                continue
            try:
                self._let_in(connection, str(peer[0]))
            except (OSError, RuntimeError) as error:  # RuntimeError: no more threads
                _log.warning("connection-lost", device=self._listen.device, error=type(error).__name__)
                connection.close()

    def _let_in(self, connection: socket.socket, peer: str) -> None:
        if not self._known(peer):
            # Not a word to strangers: they learn nothing of what listens here.
            self._services.metrics.sessions.labels(self._listen.device, "refused").inc()
            _log.warning("stranger-refused", device=self._listen.device, peer=peer)
            connection.close()
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEP_ALIVE:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        unanswered = int(1000 * self._services.settings.limits.write_seconds)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unanswered)
        with self._lock:
            full = len(self._sessions) >= self._listen.connections
            if not full:
                thread = threading.Thread(
                    target=self._talk, args=(connection,), name=f"recond-session-{self._listen.device}", daemon=True
                )
                thread.start()
                self._sessions[thread] = connection
        if full:
            self._services.metrics.sessions.labels(self._listen.device, "refused").inc()
            self._services.metrics.errors.labels(self._listen.device, "TOO_MANY_SESSIONS").inc()
            console = Console(connection, _REFUSAL_SECONDS)
            console.text(
                "ERROR",
                f"{self._listen.connections} sessions are open on this port, which is all that it takes: close one, or raise "
                "connections of this port (TOO_MANY_SESSIONS)",
            )
            console.close()
            # What the scanner sends meanwhile is dropped: unread, it would have the closing take the line back.
            threading.Thread(target=self._turn_away, args=(connection,), daemon=True).start()

    @staticmethod
    def _turn_away(connection: socket.socket) -> None:
        with connection:
            linger(connection, _REFUSAL_SECONDS)

    def _talk(self, connection: socket.socket) -> None:
        try:
            if self._listen.protocol == "mrd2":
                talk_over_socket(self._services, self._listen, connection)
            else:
                Session(self._services, self._listen, connection).run()
        finally:
            with self._lock:
                self._sessions.pop(threading.current_thread(), None)

    def _known(self, peer: str) -> bool:
        address = ipaddress.ip_address(peer.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped or address
        if self._listen.loopback and not self._listen.scanner_network:
            return address.is_loopback
        return any(address in network for network in self._listen.scanner_network)


class Gateway:
    """Everything together; a context that stops it at its end.

    Parameters
    ----------
    services
        What sessions share; the client and the spool stay the caller's.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self.ports: Final = [Port(services, listen) for listen in services.settings.listen]
        self._backlog = Backlog(services)

    def __enter__(self) -> Self:
        self._backlog.start()
        for port in self.ports:
            port.start()
            _log.info("listening", device=port.device, address=port.address)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop(0.0)

    def stop(self, seconds: float) -> None:
        """Let no more scanners in, let those that are here finish for so long, and stop.

        What is not delivered then stays in the spool for the next process.
        """
        for port in self.ports:
            port.close()
        self._wait(seconds)
        self._services.running.stop()
        for port in self.ports:
            port.hush()
        self._wait(_LAST_WORDS_SECONDS)
        for port in self.ports:
            port.hang_up()
        self._backlog.stop()
        self._wait(1.0)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for port in self.ports:
            port.wait(end)
