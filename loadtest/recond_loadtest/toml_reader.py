"""From the tables of a TOML file to typed dataclasses. A key that nobody knows is an error, and named."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError

Settings = TypeVar("Settings")

TABLE: Final = ConfigDict(extra="forbid")
"""To be the ``__pydantic_config__`` of every dataclass that is read."""


class ScenarioError(ValueError):
    """A scenario is wrong; the message names the key, its value and what is allowed."""


def require(holds: bool, name: str, value: object, allowed: str) -> None:
    """Raise a `ScenarioError` that names a setting, its value and what is allowed, unless that holds."""
    if not holds:
        raise ScenarioError(f"{name}: {value!r}, and should be {allowed}")


def read(kind: type[Settings], table: Mapping[str, Any]) -> Settings:
    """Return a dataclass from a table.

    Parameters
    ----------
    kind
        The dataclass; it, and the dataclasses in it, have `TABLE` for ``__pydantic_config__``.
    table
        Values by name of the field.

    Raises
    ------
    ScenarioError
        A key is unknown or missing, or a value has the wrong type or is refused by the dataclass.
    """
    try:
        # As JSON: there strict types still let a list be a tuple and a text a path.
        return TypeAdapter(kind).validate_json(json.dumps(table, default=str), strict=True)
    except ValidationError as error:
        raise ScenarioError("; ".join(_said(kind, each) for each in error.errors(include_url=False))) from error


def _said(kind: type, error: Any) -> str:  # noqa: ANN401 - pydantic's dictionary
    """Return what is wrong, with the place of it."""
    location = error["loc"]
    where = _path(location)
    match error["type"]:
        case "unexpected_keyword_argument":
            known = ", ".join(sorted(field.name for field in dataclasses.fields(_at(kind, location[:-1]))))
            return f"{where}: no such key; known here: {known}"
        case "missing" | "missing_argument":
            return f"{where}: missing"
        case "value_error":  # what a dataclass says of itself begins with the name of its field
            return _joined(where, str(error["ctx"]["error"]))
    return f"{where}: {error['input']!r}; {error['msg'][0].lower()}{error['msg'][1:]}"


def _path(location: Sequence[str | int]) -> str:
    """Return ``classes[0].inputs`` for ("classes", 0, "inputs")."""
    path = ""
    for step in location:
        path = f"{path}[{step}]" if isinstance(step, int) else _joined(path, step)
    return path


def _joined(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _at(kind: Any, location: Sequence[str | int]) -> Any:  # noqa: ANN401 - any type of a field
    """Return the dataclass at a place within another; places in a list are those of its items."""
    for step in location:
        if isinstance(step, str):
            inner = typing.get_type_hints(kind)[step]
            kind = next((option for option in get_args(inner) if dataclasses.is_dataclass(option)), inner)
    return kind
