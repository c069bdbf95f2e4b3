"""Groups of commands that are loaded when they are used, from this package and from whatever else is installed."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping
from typing import Any, Final

import click

EXIT_USAGE: Final = 2


class LateGroup(click.Group):
    """Commands of its own, and those that other packages register in an entry-point group.

    Parameters
    ----------
    entry_group
        Name of the entry-point group.
    own
        ``"module:attribute"`` of commands that are loaded late.
    about
        What the help says about commands, which it does not load: some take seconds to import.
    options
        As for `click.Group`.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - click's
        entry_group: str,
        own: Mapping[str, str] | None = None,
        about: Mapping[str, str] | None = None,
        **options: Any,  # noqa: ANN401 - click's
    ) -> None:
        super().__init__(*args, **options)
        self._entry_group = entry_group
        self._own = own or {}
        self._about = about or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, installed with their extra or not."""
        known = [*super().list_commands(ctx), *self._own]
        return [*known, *sorted({entry.name for entry in self._entry_points()} - set(known))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command."""
        if cmd_name in self._own:
            module, _, attribute = self._own[cmd_name].partition(":")
            return _checked(cmd_name, getattr(importlib.import_module(module), attribute))
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            return command
        for entry in self._entry_points():
            if entry.name == cmd_name:
                try:
                    return _checked(cmd_name, entry.load())
                except ModuleNotFoundError as error:
                    missing = ExtraMissingError(f"{ctx.command_path} {cmd_name}", error.name)
                    return AbsentCommand(cmd_name, self._about.get(cmd_name, ""), missing)
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading those of other packages."""
        rows = []
        for name in self.list_commands(ctx):
            command = super().get_command(ctx, name)
            about = self._about.get(name, "")
            rows.append((name, command.get_short_help_str(100) if command is not None and not about else about))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def _entry_points(self) -> importlib.metadata.EntryPoints:
        return importlib.metadata.entry_points(group=self._entry_group)


_EXTRAS = {"train": "train", "loadtest": "server,loadtest", "gateway": "gateway"}
"""What to install for a command, where that is not ``server``."""


class ExtraMissingError(click.ClickException):
    """The command is there, but not what it needs.

    Parameters
    ----------
    command
        The whole command, such as ``recond models add``.
    module
        Module that cannot be imported.
    """

    exit_code = EXIT_USAGE

    def __init__(self, command: str, module: str | None) -> None:
        extra = _EXTRAS.get(command.rpartition(" ")[2], "server")
        super().__init__(
            f"'{command}' needs the module {module!r}, which is not installed: pip install 'recond[{extra}]'"
        )


class AbsentCommand(click.Command):
    """Stands for a command that cannot be loaded: its help says what it is for and what it needs, and it does nothing else.

    Parameters
    ----------
    name
        What the command is called by.
    about
        What it is for, one sentence.
    missing
        Why it cannot be loaded.
    """

    def __init__(self, name: str, about: str, missing: ExtraMissingError) -> None:
        super().__init__(
            name,
            help=about,
            epilog=missing.message,
            add_help_option=True,
            params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
            context_settings={"ignore_unknown_options": True},
        )
        self._missing = missing

    def invoke(self, ctx: click.Context) -> None:  # noqa: ARG002 - the signature is click's
        """Say what is missing."""
        raise self._missing


def _checked(name: str, command: object) -> click.Command:
    if not isinstance(command, click.Command):
        msg = f"what is registered as the command {name!r} is no command, but {type(command).__name__}"
        raise click.ClickException(msg)
    return command
