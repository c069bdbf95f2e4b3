"""A scanner: sends a scan and takes what comes back, both at the same time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Final

from recond_client.errors import RetryLaterError
from recond_gateway.mrd import writer
from recond_gateway.replay.arrivals import Replay
from recond_gateway.replay.pieces import pieces_of
from recond_gateway.replay.raw_file import RawFile
from recond_gateway.replay.session import Arrival, ScannerOptions, Session
from recond_gateway.replay.timing import timing_of

_CONNECT_SECONDS: Final = 10.0


class Scanner:
    """Plays scans to a gateway.

    Parameters
    ----------
    host, port
        Where the gateway listens.
    options
        How to send.
    """

    def __init__(self, host: str, port: int, options: ScannerOptions | None = None) -> None:
        self._address: Final = (host, port)
        self._options: Final = options or ScannerOptions()

    def play(self, file: RawFile, on_arrival: Callable[[Arrival], None] | None = None) -> Replay:
        """Send a scan, wait until the gateway has closed the session, and return what came back.

        What goes wrong once the connection stands is in the `failure` of what is returned, beside what came before.

        Parameters
        ----------
        file
            The scan.
        on_arrival
            Called for each image and line as it comes, on another thread.

        Raises
        ------
        InputError
            The file is damaged, or has no times and the rate needs them.
        RetryLaterError
            Nobody listens.
        """
        timing = timing_of(file.stamps(), file.xml, self._options.rate)
        with self._connect() as connection:
            session = Session(connection, self._options, on_arrival)
            receiver = threading.Thread(target=session.receive, name="scanner-receiver")
            receiver.start()
            try:
                sent = session.send(self._begin(file), pieces_of(file, timing), timed=timing.due is not None)
            except BaseException:
                session.abandon()
                raise
            finally:
                receiver.join()
        return session.replay(timing.source, sent)

    def _connect(self) -> socket.socket:
        host, port = self._address
        try:
            connection = socket.create_connection(self._address, timeout=_CONNECT_SECONDS)
        except OSError as error:
            msg = f"no gateway answers at {host}:{port} ({error}): check the address, and that it lets this machine connect"
            raise RetryLaterError(msg, status="UNAVAILABLE", reason="NO_GATEWAY") from error
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _begin(self, file: RawFile) -> Iterator[bytes]:
        """Yield configuration, header and parameters."""
        options = self._options
        if options.config_is_text:
            yield writer.config_text(options.config, options.nul)
        else:
            yield writer.config_file(options.config)
        yield writer.header(file.xml, options.nul)
        parameters = file.parameters if options.parameters is None else options.parameters
        if parameters:
            yield writer.text(parameters, options.nul)
