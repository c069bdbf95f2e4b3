"""One option of the command line for each setting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

import click
from pydantic import ByteSize
from pydantic.fields import FieldInfo

from recond_service.config.settings import Settings, with_unit

_METAVARS: Final = {
    "triton": "HOST:PORT[,...]",
    "preload": "all|NAME[,...]",
    "warm_up": "MODEL:COILSxROWSxCOLUMNS[,...]",
    "client_weights": "NAME=WEIGHT[,...]",
}

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def settings_options(function: Decorated) -> Decorated:
    """Decorate a click command with one option per setting; those not given arrive as None."""
    for _, name, field in reversed(list(Settings.fields())):
        function = _option(name, field)(function)
    return function


def _option(name: str, field: FieldInfo) -> Callable[[Decorated], Decorated]:
    """Return the click option of a setting. Only pydantic checks values: every source gets the same messages."""
    flag = "--" + name.replace("_", "-")
    default = None if field.default_factory is not None else field.get_default()
    shown = with_unit(default) if isinstance(default, ByteSize) else default
    if isinstance(shown, float):
        shown = f"{shown:g}"
    text = (field.description or "") + ("" if shown in (None, "", False) else f" Default: {shown}.")
    if field.annotation is bool:
        return click.option(f"{flag}/--no-{flag.removeprefix('--')}", name, default=None, help=text)
    if get_origin(field.annotation) is Literal:
        return click.option(flag, name, type=click.Choice(get_args(field.annotation)), default=None, help=text)
    metavars: dict[object, str] = {ByteSize: "SIZE", str: "HOST:PORT", int: "N", float: "SECONDS"}
    metavar = _METAVARS.get(name, metavars.get(field.annotation, "FILE"))
    return click.option(flag, name, metavar=metavar, default=None, help=text)
