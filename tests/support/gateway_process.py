"""`recond gateway` as a child process."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

CONFIG = '[service]\nwait = 0.5\n[spool]\nmin_free_bytes = 0\n[pipelines.default]\nmodel = "rss"\n'


@contextlib.contextmanager
def gateway_process(
    folder: Path, server: str, config: str = CONFIG, options: Sequence[str] = (), prefix: Sequence[str] = ()
) -> Iterator[tuple[subprocess.Popen, str]]:
    """Run a gateway; its configuration, log and spool lie in the folder. Yields the process and the address for
    scanners."""
    command = [*prefix, sys.executable, "-m", "recond_client", "gateway", "--listen", "127.0.0.1:0", "--server", server]
    file = folder / "gateway.toml"
    file.write_text(config)
    with (folder / "gateway.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--config", str(file), "--spool", str(folder / "spool"), "--stop-with-stdin", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "listening on" in line, (folder / "gateway.log").read_text()
        yield process, line.split("listening on ")[1].split()[0]
    finally:
        process.terminate()
        process.wait(60)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
