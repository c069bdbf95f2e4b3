"""Where settings come from: flags, environment, a TOML file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from recond_service.config.settings import Settings


class SettingsError(ValueError):
    """The settings are wrong; the message names every offending setting, its value and the remedy."""


def load_settings(config_path: Path | None, flags: Mapping[str, Any], *, unread_files: bool = False) -> Settings:
    """Put the settings together: flags, then the environment, then the file, then the defaults.

    Parameters
    ----------
    config_path
        TOML file whose keys are names of settings, in the tables of their groups or on top; or None.
    flags
        Values by name of setting, as `settings_options` hands them to a command; None means not given.
    unread_files
        Take paths of certificates and keys that cannot be read here: to show settings, not to use them.

    Raises
    ------
    SettingsError
        If the file cannot be read, or a setting is unknown, malformed or does not go with the others.
    """
    values: dict[str, Any] = {}
    if config_path is not None:
        try:
            values = tomllib.loads(config_path.read_text(encoding="utf-8"))
        except OSError as error:
            msg = f"cannot read {config_path}: {error.strerror}"
            raise SettingsError(msg) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            msg = f"{config_path} is not TOML: {error}"
            raise SettingsError(msg) from error
    known = {name for _, name, _ in Settings.fields()}
    environment = {name: os.environ[_variable(name)] for name in known if _variable(name) in os.environ}
    given = {name: value for name, value in flags.items() if value is not None}
    # By name: a flag counts more than the same setting in a table of the file.
    values = _by_name(values) | environment | given
    try:
        return Settings.model_validate(values, context={"unread_files": unread_files})
    except ValidationError as error:
        raise SettingsError(_explain(error)) from error


def _variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"RECOND_{name.upper()}"


def _by_name(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of a file without its tables; what is unknown in one keeps the name of the table.

    Raises
    ------
    SettingsError
        If a setting stands in the table of its group and on top, too.
    """
    places = {name: group for group, name, _ in Settings.fields()}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if key in Settings.model_fields and isinstance(value, Mapping):
            twice = [name for name in value if name in values and places.get(name) == key]
            if twice:
                msg = f"{', '.join(twice)}: given twice, on top and in [{key}]: remove one of them"
                raise SettingsError(msg)
            flat |= {name if places.get(name) == key else f"{key}.{name}": each for name, each in value.items()}
        else:
            flat[key] = value
    return flat


def _explain(error: ValidationError) -> str:
    """Return one line per wrong setting, without the values of secrets."""
    places = {name: group for group, name, _ in Settings.fields()}
    lines = []
    for item in error.errors(include_url=False):
        # Without the group: settings have one name.
        name = str(item["loc"][-1]) if item["loc"] else ""
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            table, _, bare = name.rpartition(".")
            elsewhere = f" in [{table}]: it belongs in [{places[bare]}]" if table and bare in places else ""
            message = f"there is no such setting{elsewhere}"
        elif item["type"].startswith("byte_size"):
            message = f"give a size in bytes, or with a unit, such as 64GiB (got {item['input']!r})"
        elif name and item["type"] != "value_error":
            message += f" (got {item['input']!r})"
        lines.append(f"{name}: {message}" if name else message)
    return "; ".join(lines)
