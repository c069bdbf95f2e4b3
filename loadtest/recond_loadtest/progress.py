"""One line that tells how far a run is, on a terminal only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.text import Text

from recond_loadtest.phase import Progress, Status


def status_line(status: Status) -> str:
    """Return the line."""
    if not status.due:
        return status.phase
    time = f"{status.elapsed:.0f} of {status.length:.0f} s" if status.length else f"{status.elapsed:.0f} s"
    return (
        f"{status.phase}: {time}, {status.due} requests due, {status.outstanding} on their way, {status.failed} failed"
    )


@contextmanager
def progress_line() -> Iterator[Progress]:
    """Show the line on standard error while the context lasts; nothing if that is not a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield lambda status: live.update(Text(status_line(status)))
