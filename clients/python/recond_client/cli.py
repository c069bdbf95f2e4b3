"""The `recond` command.

Commands live in modules of their own and are loaded when they are used: those of the SDK, and those that other
packages register in the entry-point group ``recond.commands``.
"""

from __future__ import annotations

import codecs
import io
import sys
from typing import Any, Final

import click

from recond_client.errors import InputError, RecondError, RetryLaterError
from recond_client.late import LateGroup

EXIT_INPUT: Final = 3
EXIT_UNAVAILABLE: Final = 4
EXIT_FAILED: Final = 5
EXIT_INTERRUPTED: Final = 130  # as shells have it: 128 and the number of SIGINT

_OWN: Final = {
    "reconstruct": "recond_client.commands.reconstruct:reconstruct",
    "analyze": "recond_client.commands.analyze:analyze",
    "compare": "recond_client.commands.compare:compare",
    "models": "recond_client.commands.models:models",
    "evaluate": "recond_client.commands.evaluate:evaluate",
    "deidentify": "recond_client.commands.deidentify:deidentify",
}
#: Shown by ``recond --help`` without loading the commands, some of which take seconds to import.
_ABOUT: Final = {
    "reconstruct": "Reconstruct a scan: raw k-space in, images and figures out.",
    "analyze": "Run heads on images: segmentation, lesions, what a series shows.",
    "compare": "Compare the scans of a patient: lesions and structures over time.",
    "models": "Show which models a service has and how they came to be; add trained ones.",
    "evaluate": "Score models on a folder of fastMRI files.",
    "deidentify": "Take out of a raw-data file what tells who was scanned; keep the way back, encrypted.",
    "serve": "Run the service.",
    "doctor": "Say what is in a file, what is odd, and which model would run.",
    "simulate": "Turn images into raw k-space files.",
    "loadtest": "Drive a service at a given load, and report what came of it.",
    "train": "Train a reconstruction network on simulated scans.",
    "triton": "Prepare Triton Inference Servers as model servers.",
    "gateway": "Stand between scanners and a service: MRD streams in, images back while the scan runs.",
}

_UNPRINTABLE: Final = "recond-unprintable"


class RecondGroup(LateGroup):
    """Turns errors into a message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - the signature is click's
        """Run a command; end with the exit code that goes with its error."""
        _print_anything()
        try:
            return super().invoke(ctx)
        except RecondError as error:
            click.echo(explain(error), err=True)
            ctx.exit(exit_code(error))
        except KeyboardInterrupt:
            click.echo("recond: stopped", err=True)
            ctx.exit(EXIT_INTERRUPTED)


def _print_anything() -> None:
    """Have standard output and error take any text: names of files that are no UTF-8, and terminals that know ASCII alone."""
    codecs.register_error(_UNPRINTABLE, _replacement)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_UNPRINTABLE)


def _replacement(error: UnicodeError) -> tuple[bytes, int]:
    """Return the bytes that undecodable parts of file names stand for, and question marks for other characters."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    piece = error.object[error.start : error.end]
    undecodable = ["\udc80" <= character <= "\udcff" for character in piece]
    return b"".join(
        character.encode("ascii", "surrogateescape") if escaped else b"?"
        for character, escaped in zip(piece, undecodable, strict=True)
    ), error.end


def exit_code(error: RecondError) -> int:
    """Return the exit code for an error: 3 bad input, 4 unavailable or overloaded, 5 failed."""
    if isinstance(error, InputError):
        return EXIT_INPUT
    return EXIT_UNAVAILABLE if isinstance(error, RetryLaterError) else EXIT_FAILED


def explain(error: RecondError) -> str:
    """Return what to print: the message, where, and what helps."""
    lines = [f"recond: {error}"]
    if error.retry_after is not None:
        lines.append(f"  try again in {error.retry_after:.3g} s")
    facts = [error.status, error.reason if error.reason != error.status else "", error.field]
    if error.request_id:
        facts.append(f"request {error.request_id}")
    lines.append(f"  ({', '.join(fact for fact in facts if fact)})")
    return "\n".join(lines)


@click.group(
    cls=RecondGroup,
    entry_group="recond.commands",
    own=_OWN,
    about=_ABOUT,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="recond", prog_name="recond")
def main() -> None:
    """MRI reconstruction: raw k-space in, images and their quality figures out.

    Exit codes: 0 done, 2 usage, 3 bad input, 4 service unavailable or overloaded, 5 reconstruction failed, 130 stopped by Ctrl-C.
    """
