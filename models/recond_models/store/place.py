"""Puts models into a folder of models and takes them out, whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from recond_models.store.errors import NameTakenError


def put_model(place: Path, name: str, files: Mapping[str, bytes], *, replace: bool) -> Path:
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
        Replace a model of that name.

    Returns
    -------
    Path
        The folder of the model.

    Raises
    ------
    NameTakenError
        There is a model of that name.
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
        with _locked(place):
            target = place / name
            gone = None
            if target.exists():
                if not replace:
                    raise NameTakenError(
                        f"there is a model {name} in {place}: give another name with --as, or replace it with --force"
                    )
                gone = _aside(place, name)
                target.rename(gone)
            fresh.rename(target)
        if gone is not None:
            shutil.rmtree(gone)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def remove_model(place: Path, name: str) -> None:
    """Remove a model.

    Parameters
    ----------
    place
        Folder of models.
    name
        Its name, which has been checked.

    Raises
    ------
    FileNotFoundError
        There is none of that name.
    """
    with _locked(place):
        gone = _aside(place, name)
        (place / name).rename(gone)
    shutil.rmtree(gone)


def _aside(place: Path, name: str) -> Path:
    """Return a free name for a folder that is about to be removed."""
    aside = Path(tempfile.mkdtemp(prefix=f".old-{name}-", dir=place))
    aside.rmdir()
    return aside


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Keep other writers of a folder of models out."""
    with (place / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
