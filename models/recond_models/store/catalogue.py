"""Which trained models there are; read again when their folders change."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from recond_models.model import ModelInfo, Origin
from recond_models.store import folders
from recond_models.store.errors import StoreError
from recond_models.store.manifest import MANIFEST_FILE, Manifest
from recond_models.store.versions import STATES, VersionState, read_state

_log = logging.getLogger(__name__)

_Signature = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class StoredModel:
    """A trained model on disk.

    Parameters
    ----------
    manifest
        Its manifest, read and checked.
    folder
        Where it lies.
    origin
        Whether it came with recond or was added on this machine.
    promoted
        It runs when its name is asked for without a version.
    canary_share
        Part of the requests for its name that try it out; 0 for none.
    """

    manifest: Manifest
    folder: Path
    origin: Origin
    promoted: bool = True
    canary_share: float = 0.0

    @property
    def added(self) -> str:
        """When it was put into its folder, ISO 8601; empty if the folder is gone."""
        try:
            seconds = (self.folder / MANIFEST_FILE).stat().st_mtime
        except OSError:
            return ""
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")

    @property
    def info(self) -> ModelInfo:
        """The model as the registry lists it."""
        return replace(self.manifest.info(self.origin), promoted=self.promoted, canary_share=self.canary_share)


_lock = threading.Lock()
_last: tuple[tuple[Path, Path], _Signature, tuple[StoredModel, ...]] | None = None


def stored_models() -> tuple[StoredModel, ...]:
    """Return all trained models: those that ship, then those that were added, each in the order of their names.

    Of several versions of a model the promoted one comes first. The same tuple as long as no manifest and no promotion changes. A
    model whose manifest cannot be used is left out, with a warning in the log.
    """
    global _last  # noqa: PLW0603 - a cache
    places = (folders.SHIPPED, folders.models_folder())
    signature = (*_signature(places[0]), *_signature(places[1]), *_states(places[1]))
    with _lock:
        if _last is None or _last[:2] != (places, signature):
            shipped = _read_all(places[0], "shipped", frozenset())
            names = frozenset(model.manifest.name for model in shipped)
            _last = (places, signature, (*shipped, *_read_all(places[1], "added", names)))
        return _last[2]


def _signature(place: Path) -> _Signature:
    """Return what changes with any manifest in a folder of models."""
    found = []
    for folder in _folders(place):
        try:
            status = os.stat(folder / MANIFEST_FILE)  # noqa: PTH116 - a third of the time of Path.stat, on every request
            found.append((str(folder), status.st_mtime_ns, status.st_size, status.st_ino))
        except OSError:
            found.append((str(folder), 0, 0, 0))
    return tuple(found)


def _states(place: Path) -> _Signature:
    """Return what changes with any promotion."""
    try:
        with os.scandir(place / STATES) as entries:
            found = [(entry.path, entry.stat()) for entry in entries if entry.name.endswith(".json")]
    except OSError:
        return ()
    return tuple(sorted((path, status.st_mtime_ns, status.st_size, status.st_ino) for path, status in found))


def _folders(place: Path) -> list[Path]:
    """Return the folders in a folder that may hold a model, in the order of their names."""
    try:
        with os.scandir(place) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] not in "._")
    except OSError:
        return []
    return [place / name for name in names]


def _read_all(place: Path, origin: Origin, taken: frozenset[str]) -> tuple[StoredModel, ...]:
    """Return the models in a folder of models; warn of those that cannot be used."""
    models = []
    for folder in _folders(place):
        try:
            manifest = Manifest.read(folder)
        except StoreError as error:
            _log.warning("the model in %s is left out: %s", folder, error)
            continue
        if manifest.name in taken:
            _log.warning("the model in %s is left out: a model named %s comes with recond", folder, manifest.name)
            continue
        models.append(StoredModel(manifest, folder, origin))
    return tuple(itertools.chain.from_iterable(_ranked(place, models)))


def _ranked(place: Path, models: list[StoredModel]) -> Iterator[list[StoredModel]]:
    """Yield the versions of each model, the promoted one first."""
    by_name: dict[str, list[StoredModel]] = {}
    for model in models:
        by_name.setdefault(model.manifest.name, []).append(model)
    for name, versions in by_name.items():
        if len(versions) == 1:
            yield versions
            continue
        try:
            state = read_state(place, name)
        except StoreError as error:
            _log.warning("which version of %s is promoted is not known: %s", name, error)
            state = VersionState()
        known = [model.manifest.version for model in versions]
        promoted = state.promoted if state.promoted in known else known[0]
        canary = state.canary if state.canary and state.canary.version != promoted else None
        marked = [
            replace(
                model,
                promoted=model.manifest.version == promoted,
                canary_share=canary.share if canary and canary.version == model.manifest.version else 0.0,
            )
            for model in versions
        ]
        yield sorted(marked, key=lambda model: not model.promoted)
