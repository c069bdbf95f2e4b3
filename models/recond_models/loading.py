"""Models made ready to run, by name."""

from __future__ import annotations

import importlib
import weakref
from typing import Any

from recond_models.batch import Reconstructor
from recond_models.heads.head import Head
from recond_models.model import UnknownModelError
from recond_models.plugin_reconstructor import PluginReconstructor
from recond_models.registry import find_entry, find_head_entry
from recond_models.store import load as stored
from recond_models.store.catalogue import StoredModel

_networks: weakref.WeakValueDictionary[tuple[str, str, str], Reconstructor] = weakref.WeakValueDictionary()


def load(name: str, version: str = "", device: str = "cpu") -> Reconstructor:
    """Make a model ready to run.

    Parameters
    ----------
    name, version
        As for `recond_models.registry.find`.
    device
        torch device to compute on.

    Returns
    -------
    Reconstructor
        The model.

    Raises
    ------
    UnknownModelError
        There is no such model.
    StoreError
        Its weights are not what they were when it was added, or make other images here; or it is a plug-in that cannot be loaded.
    """
    entry = find_entry(name, version)
    if entry.stored is not None:
        return _shared(entry.stored, device)
    if entry.info.origin == "plug-in":
        return PluginReconstructor(entry, device)
    module, name_of_class = entry.implementation.split(":")
    make: Any = getattr(importlib.import_module(module), name_of_class)
    model: Reconstructor = (
        make(entry.info, device) if entry.network is None else make(entry.info, _shared(entry.network, device), device)
    )
    return model


def load_head(name: str, version: str = "", device: str = "cpu") -> Head:
    """Make a head ready to run.

    Parameters
    ----------
    name, version
        As for `recond_models.registry.find_head`.
    device
        torch device to compute on.

    Raises
    ------
    UnknownModelError
        There is no such head.
    StoreError
        Its weights are not what they were when it was added, or answer otherwise here.
    """
    entry = find_head_entry(name, version)
    if entry.stored is None:
        raise UnknownModelError(f"the head {name!r} has no weights")
    return stored.load_head(entry.stored, device)


def _shared(model: StoredModel, device: str) -> Reconstructor:
    """Return a trained model, the one in memory where there is one: others are made of it, and weights take memory."""
    manifest = model.manifest
    key = (str(model.folder), f"{manifest.weights_sha256} {manifest.version}", device)
    found = _networks.get(key)
    if found is None:
        found = _networks[key] = stored.load(model, device)
    return found
