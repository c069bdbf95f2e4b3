"""Reconstructors of other Python packages, which they register by entry point. Free of torch.

A package names a `Plugin`, or several, in the entry-point group `GROUP`. The module that holds it is imported wherever the list of
models is read, so it has to be light; what computes is named there, and imported where it computes.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from recond_models.model import ModelInfo
from recond_models.store.errors import StoreError
from recond_models.store.manifest import check_name, check_version

GROUP: Final = "recond.reconstructors"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plugin:
    """A model of another package.

    Parameters
    ----------
    info
        What is known about it. Its origin and package are filled in here.
    implementation
        ``"module:attribute"``: called with the `ModelInfo` and the name of a torch device, returns a
        `recond_models.batch.Reconstructor`. Imported at the first use, in the process that computes.
    """

    info: ModelInfo
    implementation: str


@functools.cache
def installed() -> tuple[Plugin, ...]:
    """Return the models that installed packages register, in the order of their names. Read once a process.

    What cannot be imported, is not a `Plugin`, or has a name that another one has, is left out, with a warning in the log.
    """
    found: dict[str, Plugin] = {}
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            for plugin in _loaded(entry):
                if plugin.info.name in found:
                    raise ValueError(f"{found[plugin.info.name].info.package} has a model {plugin.info.name} as well")
                found[plugin.info.name] = plugin
        except (Exception, SystemExit) as error:  # noqa: BLE001 - other people's code may raise anything
            _log.warning(
                "the plug-in %s of %s is left out: %s: %s", entry.name, _package(entry), type(error).__name__, error
            )
    return tuple(found[name] for name in sorted(found))


def _loaded(entry: importlib.metadata.EntryPoint) -> Iterator[Plugin]:
    """Yield the models of an entry point; raise whatever is wrong with one."""
    value = entry.load()
    for plugin in value if isinstance(value, tuple | list) else (value,):
        if not isinstance(plugin, Plugin) or not isinstance(plugin.info, ModelInfo):
            raise TypeError(f"{entry.value} is {type(plugin).__name__}, expected recond_models.plugins.Plugin")
        try:
            check_name(plugin.info.name)
            check_version(plugin.info.version)
        except StoreError as error:
            raise ValueError(str(error)) from error
        module, _, attribute = plugin.implementation.partition(":")
        if not attribute or importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(f"there is no {plugin.implementation!r}, expected 'module:attribute'")
        info = replace(plugin.info, origin="plug-in", package=_package(entry), promoted=True, canary_share=0.0)
        yield replace(plugin, info=info)


def _package(entry: importlib.metadata.EntryPoint) -> str:
    """Return the package that an entry point belongs to, with its version."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unknown package"
