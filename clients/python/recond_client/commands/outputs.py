"""Output files of commands: their endings, and whether they can be written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import click


def ending_of(path: Path, endings: Iterable[str]) -> str:
    """Return the ending that decides the format of an output.

    Raises
    ------
    click.BadParameter
        It has none of them.
    """
    for ending in endings:
        if path.name.endswith(ending) and path.name != ending:
            return ending
    msg = f"{str(path)!r} does not end in one of {', '.join(endings)}"
    raise click.BadParameter(msg, param_hint="-o")


def check_output(path: Path, sources: Iterable[Path], endings: Iterable[str]) -> None:
    """Refuse an output that cannot be written, before anything is sent.

    Raises
    ------
    click.BadParameter
        Its ending is unknown, its folder cannot be written to, or it is an input.
    """
    ending_of(path, endings)
    check_place(path, sources, "-o")


def check_place(path: Path, sources: Iterable[Path], option: str) -> None:
    """Refuse an output whose place cannot be written to.

    Raises
    ------
    click.BadParameter
        Its folder cannot be written to, or it is an input.
    """
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        msg = f"{str(path)!r} cannot be written: {str(path.parent)!r} must be a folder that you may write to"
        raise click.BadParameter(msg, param_hint=option)
    if any(path.resolve() == source.resolve() for source in sources):
        msg = f"{str(path)!r} is the input"
        raise click.BadParameter(msg, param_hint=option)
