"""From the tables of a TOML file to typed dataclasses. A key that nobody knows is an error, and named."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

Settings = TypeVar("Settings")


class ScenarioError(ValueError):
    """A scenario is wrong; the message names the key, its value and what is allowed."""


def require(holds: bool, name: str, value: object, allowed: str) -> None:
    """Raise a `ScenarioError` that names a setting, its value and what is allowed, unless that holds."""
    if not holds:
        raise ScenarioError(f"{name}: {value!r}, and should be {allowed}")


def read(kind: type[Settings], table: Mapping[str, Any], where: str = "") -> Settings:
    """Return a dataclass from a table.

    Parameters
    ----------
    kind
        The dataclass. Its fields may be numbers, text, paths, literals, other dataclasses, tuples of one type, dictionaries of
        text, and unions with None.
    table
        Values by name of the field.
    where
        Path of the table in the file, for messages.

    Raises
    ------
    ScenarioError
        A key is unknown or missing, or a value has the wrong type or is refused by the dataclass.
    """
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise ScenarioError(f"{_join(where, key)}: no such key; known here: {', '.join(sorted(fields))}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in table:
            raise ScenarioError(f"{_join(where, name)}: missing")
    values = {key: _value(hints[key], value, _join(where, key)) for key, value in table.items()}
    try:
        return kind(**values)
    except ScenarioError as error:
        raise ScenarioError(_join(where, str(error))) from None


def _value(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401 - any type of a field
    origin = get_origin(kind)
    if origin in {Union, types.UnionType}:
        kind = next(option for option in get_args(kind) if option is not type(None))
        origin = get_origin(kind)
    if origin is Literal:
        if value not in get_args(kind):
            raise ScenarioError(f"{where}: {value!r}; choose from {', '.join(map(repr, get_args(kind)))}")
        return value
    if origin is tuple:
        items = _of_type(list, value, where)
        return tuple(_value(get_args(kind)[0], item, f"{where}[{number}]") for number, item in enumerate(items))
    if origin is dict:
        table = _of_type(dict, value, where)
        return {str(key): _of_type(str, item, _join(where, str(key))) for key, item in table.items()}
    if dataclasses.is_dataclass(kind):
        return read(typing.cast("type[Any]", kind), _of_type(dict, value, where), where)
    return _scalar(kind, value, where)


def _scalar(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401 - any type of a field
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path:
        return Path(_of_type(str, value, where))
    return _of_type(kind, value, where)


def _of_type(kind: type[Any], value: Any, where: str) -> Any:  # noqa: ANN401 - any type of a field
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ScenarioError(f"{where}: {value!r} is {type(value).__name__}, and should be {kind.__name__}")
    return value


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
