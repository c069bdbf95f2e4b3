"""Puts models into a folder of models and takes them out, whole or not at all."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from recond_models.store.errors import ManifestError, NameTakenError, UnsafeNameError, VersionError
from recond_models.store.manifest import Manifest, folder_name
from recond_models.store.versions import locked, promoted_in, read_state, state_path, write_state


def put_model(place: Path, name: str, files: Mapping[str, bytes], *, replace: bool, version: str = "") -> Path:
    """Write the files of a model into a new folder and move it to its name, so that nobody ever sees a part of it.

    Parameters
    ----------
    place
        Folder of models; made if it does not exist.
    name
        Name of the model, which has been checked.
    files
        Contents by name.
    replace
        Replace a model of that name; with a version, the one of that version, and promote it.
    version
        Keep other versions of the model, in folders beside this one. Empty for a folder with one version of each.

    Returns
    -------
    Path
        The folder of the model.

    Raises
    ------
    NameTakenError
        There is a model of that name, and version.
    OSError
        Nothing can be written there.
    """
    place.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=place))
    try:
        for file_name, data in files.items():
            with (fresh / file_name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        fresh.chmod(0o755)
        with locked(place):
            target = folder_for(place, name, version) if version else place / name
            current = promoted_version(place, name) if version else ""
            gone = None
            if target.exists():
                if not replace:
                    raise NameTakenError(taken(name, version))
                gone = _aside(place, name)
                target.rename(gone)
            fresh.rename(target)
            if replace and version and current not in {"", version}:
                write_state(place, name, promoted_in(read_state(place, name), version, current))
        if gone is not None:
            shutil.rmtree(gone)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def versions_in(place: Path, name: str) -> dict[str, Path]:
    """Return the folders of a model by version, that of the first version first; the version is ``""`` where it cannot be read."""
    found: dict[str, Path] = {}
    for folder in [place / name, *sorted(place.glob(f"{name}@*"))]:
        if folder.is_dir():
            try:
                found.setdefault(Manifest.read(folder).version, folder)
            except (ManifestError, UnsafeNameError):
                found.setdefault("" if folder.name == name else folder.name.partition("@")[2], folder)
    return found


def folder_for(place: Path, name: str, version: str) -> Path:
    """Return where a version of a model belongs: where it is, or in a folder that is free.

    A first folder whose manifest cannot be read is taken for every version.
    """
    found = versions_in(place, name)
    known = found.get(version) or found.get("")
    if known is not None:
        return known
    return place / (folder_name(name, version) if found else name)


def promoted_version(place: Path, name: str) -> str:
    """Return the version that runs for a name; empty if there is none."""
    found = list(versions_in(place, name))
    promoted = read_state(place, name).promoted
    return promoted if promoted in found else next(iter(found), "")


def remove_model(place: Path, name: str, version: str = "") -> None:
    """Remove a model, or one version of it.

    Parameters
    ----------
    place
        Folder of models.
    name
        Its name, which has been checked.
    version
        The version; empty for all.

    Raises
    ------
    FileNotFoundError
        There is none of that name.
    VersionError
        There is no such version, or it runs for the name and there are others.
    """
    if not place.is_dir():
        raise FileNotFoundError(2, "No such file or directory", str(place / name))
    with locked(place):
        found = versions_in(place, name)
        if not found:
            raise FileNotFoundError(2, "No such file or directory", str(place / name))
        if version and version not in found:
            raise VersionError(f"there is no {name} {version} on this machine; there is {', '.join(found)}")
        if version and len(found) > 1:
            if promoted_version(place, name) == version:
                raise VersionError(f"{name} {version} is the version that runs: promote another one first")
            state = read_state(place, name)
            if state.canary and state.canary.version == version:
                write_state(place, name, dataclasses.replace(state, canary=None))
            folders = [found[version]]
        else:
            folders = list(found.values())
            state_path(place, name).unlink(missing_ok=True)
        gone = []
        for folder in folders:
            gone.append(_aside(place, name))
            folder.rename(gone[-1])
    for folder in gone:
        shutil.rmtree(folder)


def taken(name: str, version: str = "") -> str:
    """Return what to say of a name, or a version of it, that is taken."""
    if not version:
        return f"there is a model {name} already: give another name with --as, or replace it with --force"
    return (
        f"there is a model {name} {version} already: give another name with --as or another version with --version, or replace it "
        "with --force"
    )


def _aside(place: Path, name: str) -> Path:
    """Return a free name for a folder that is about to be removed."""
    aside = Path(tempfile.mkdtemp(prefix=f".old-{name}-", dir=place))
    aside.rmdir()
    return aside
