"""The `recond` command.

Commands live in modules of their own and are loaded when they are used: those of the SDK, and those that other
packages register in the entry-point group ``recond.commands``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any, Final

import click

from recond_client.errors import InputError, RecondError, RetryLaterError

EXIT_USAGE: Final = 2
EXIT_INPUT: Final = 3
EXIT_UNAVAILABLE: Final = 4
EXIT_FAILED: Final = 5

_OWN: Final = {
    "reconstruct": "recond_client.commands.reconstruct:reconstruct",
    "models": "recond_client.commands.models:models",
}
#: Shown by ``recond --help`` without loading the commands, some of which take seconds to import.
_ABOUT: Final = {
    "reconstruct": "Reconstruct a scan: raw k-space in, images and figures out.",
    "models": "Show which models a service has.",
    "serve": "Run the service.",
    "doctor": "Say what is in a file, what is odd, and which model would run.",
    "simulate": "Turn images into raw k-space files.",
}


class RecondGroup(click.Group):
    """Loads commands late, and turns errors into a message and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        """Return the names of all commands, installed with their extra or not."""
        return [*_OWN, *sorted(entry.name for entry in _entry_points() if entry.name not in _OWN)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load a command."""
        if cmd_name in _OWN:
            module, _, attribute = _OWN[cmd_name].partition(":")
            return _checked(cmd_name, getattr(importlib.import_module(module), attribute))
        for entry in _entry_points():
            if entry.name == cmd_name:
                try:
                    return _checked(cmd_name, entry.load())
                except ModuleNotFoundError as error:
                    raise _ExtraMissingError(cmd_name, error.name) from error
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _ABOUT.get(name, "")) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - the signature is click's
        """Run a command; end with the exit code that goes with its error."""
        try:
            return super().invoke(ctx)
        except RecondError as error:
            click.echo(explain(error), err=True)
            ctx.exit(exit_code(error))


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


def _entry_points() -> importlib.metadata.EntryPoints:
    return importlib.metadata.entry_points(group="recond.commands")


def _checked(name: str, command: object) -> click.Command:
    if not isinstance(command, click.Command):
        msg = f"what is registered as the command {name!r} is no command, but {type(command).__name__}"
        raise click.ClickException(msg)
    return command


class _ExtraMissingError(click.ClickException):
    """The command is there, but not what it needs."""

    exit_code = EXIT_USAGE

    def __init__(self, command: str, module: str | None) -> None:
        super().__init__(
            f"'recond {command}' needs the module {module!r}, which is not installed: pip install 'recond[server]'"
        )


@click.group(cls=RecondGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="recond", prog_name="recond")
def main() -> None:
    """MRI reconstruction: raw k-space in, images and their quality figures out.

    Exit codes: 0 done, 2 usage, 3 bad input, 4 service unavailable or overloaded, 5 reconstruction failed.
    """
