"""Models made ready to run, by name."""

from __future__ import annotations

import importlib

from recond_models.batch import Reconstructor
from recond_models.plugin_reconstructor import PluginReconstructor
from recond_models.registry import find_entry
from recond_models.store import load as stored


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
        return stored.load(entry.stored, device)
    if entry.info.origin == "plug-in":
        return PluginReconstructor(entry, device)
    module, name_of_class = entry.implementation.split(":")
    model: Reconstructor = getattr(importlib.import_module(module), name_of_class)(entry.info, device)
    return model
