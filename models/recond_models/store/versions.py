"""Which version of an added model runs when its name is asked for, which did before, and which one is tried out on a share.

Versions of a model lie side by side: the first in the folder ``NAME``, others in ``NAME@VERSION``. ``.versions/NAME.json`` beside
them says which one is promoted; without it that is the one in the folder ``NAME``. Whoever writes holds the lock of the folder of
models, and files are moved into place, so that readers see the state before or after.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from recond_models.store.errors import VersionError
from recond_models.store.manifest import check_name, check_version

STATES: Final = ".versions"
"""Folder of these files, within the folder of models."""

Action = Literal["added", "promoted", "rolled-back"]
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Promotion:
    """A version began to run for its name.

    Parameters
    ----------
    version
        The version.
    at
        When, as ISO 8601 with a time zone.
    action
        How: it was the first there was, was promoted, or rolled back to.
    """

    version: str
    at: str
    action: Action


@dataclass(frozen=True, slots=True)
class Canary:
    """A version that is tried out.

    Parameters
    ----------
    version
        The version.
    share
        Part of the requests for the name that run it, more than 0 and at most 1.
    since
        When that began, as ISO 8601 with a time zone.
    """

    version: str
    share: float
    since: str


@dataclass(frozen=True, slots=True)
class VersionState:
    """What is known of the versions of a model beside their manifests.

    Parameters
    ----------
    promotions
        The oldest first; empty if no version was ever promoted by hand.
    canary
        None if there is none.
    """

    promotions: tuple[Promotion, ...] = ()
    canary: Canary | None = None

    @property
    def promoted(self) -> str:
        """The promoted version; empty for the one in the folder of the name."""
        return self.promotions[-1].version if self.promotions else ""

    def earlier(self) -> list[str]:
        """Return the versions that rolling back goes to, the next first."""
        stack: list[str] = []
        for promotion in self.promotions:
            if promotion.action == "rolled-back":
                while stack and stack[-1] != promotion.version:
                    stack.pop()
            elif not stack or stack[-1] != promotion.version:
                stack.append(promotion.version)
        return stack[-2::-1] if len(stack) > 1 else []


def state_path(place: Path, name: str) -> Path:
    """Return the file of the state of a model."""
    return place / STATES / f"{name}.json"


def read_state(place: Path, name: str) -> VersionState:
    """Return the state of a model; that of a new one if there is no file.

    Raises
    ------
    VersionError
        The file cannot be read.
    """
    path = state_path(place, name)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("versions") != _FORMAT:
            raise ValueError("another format")
        canary = data["canary"]
        return VersionState(
            tuple(Promotion(**entry) for entry in data["promotions"]), None if canary is None else Canary(**canary)
        )
    except FileNotFoundError:
        return VersionState()
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise VersionError(
            f"{path} cannot be read ({error}): remove it, and promote the version that is to run"
        ) from error


def promote(place: Path, name: str, version: str, known: Sequence[str], current: str) -> VersionState:
    """Have a version run for its name. A canary of the same version ends, for it has all requests now.

    Parameters
    ----------
    place
        Folder of models.
    name, version
        The model, and the version that is to run for its name.
    known
        The versions that there are.
    current
        The one that runs now.

    Raises
    ------
    VersionError
        There is no such version, or it runs already.
    """
    _require(name, version, known)
    with locked(place):
        state = read_state(place, name)
        # Another promotion may have ended since `current` was looked up.
        running = state.promoted or current
        if version in {current, running}:
            raise VersionError(f"{name} {version} runs already")
        return _write(place, name, promoted_in(state, version, current))


def promoted_in(state: VersionState, version: str, current: str) -> VersionState:
    """Return the state in which a version runs instead of the current one."""
    begun = state.promotions or ((Promotion(current, _now(), "added"),) if current else ())
    canary = None if state.canary and state.canary.version == version else state.canary
    return VersionState((*begun, Promotion(version, _now(), "promoted")), canary)


def roll_back(place: Path, name: str, known: Sequence[str]) -> VersionState:
    """Have the version run again that ran before the promoted one; those that were removed are passed over.

    Raises
    ------
    VersionError
        There is none.
    """
    check_name(name)
    with locked(place):
        state = read_state(place, name)
        version = next((version for version in state.earlier() if version in known), "")
        if not version:
            raise VersionError(f"no version of {name} ran before this one: promote one of {', '.join(known) or 'none'}")
        fresh = replace(state, promotions=(*state.promotions, Promotion(version, _now(), "rolled-back")))
        if fresh.canary and fresh.canary.version == version:
            fresh = replace(fresh, canary=None)
        return _write(place, name, fresh)


def start_canary(place: Path, name: str, canary: tuple[str, float], known: Sequence[str], current: str) -> VersionState:
    """Try a version out on a share of the requests for its name; it takes the place of another canary.

    Parameters
    ----------
    place, name, known, current
        As for `promote`.
    canary
        The version, and the share, more than 0 and at most 1.

    Raises
    ------
    VersionError
        There is no such version, it is the promoted one, or the share cannot be.
    """
    version, share = canary
    _require(name, version, known)
    if version == current:
        raise VersionError(f"{name} {version} runs for all requests already: try out another version")
    if not 0 < share <= 1:
        raise VersionError(f"the share is {share:g}; it must be more than 0 and at most 1, such as 0.1")
    with locked(place):
        return _write(place, name, replace(read_state(place, name), canary=Canary(version, share, _now())))


def stop_canary(place: Path, name: str) -> VersionState:
    """Try nothing out any more.

    Raises
    ------
    VersionError
        There is no canary.
    """
    check_name(name)
    with locked(place):
        state = read_state(place, name)
        if state.canary is None:
            raise VersionError(f"no version of {name} is being tried out")
        return _write(place, name, replace(state, canary=None))


def write_state(place: Path, name: str, state: VersionState) -> None:
    """Write the state of a model. The caller holds the lock."""
    _write(place, name, state)


@contextlib.contextmanager
def locked(place: Path) -> Iterator[None]:
    """Keep other writers of a folder of models out."""
    try:
        lock = (place / ".lock").open("wb")
    except OSError as error:
        raise VersionError(f"{place} cannot be written: {error.strerror}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _require(name: str, version: str, known: Sequence[str]) -> None:
    check_name(name)
    check_version(version)
    if version not in known:
        raise VersionError(
            f"there is no {name} {version} on this machine; there is {', '.join(known)}"
            if known
            else f"no model {name} was added on this machine: models that come with recond have the one version that they come in"
        )


def _write(place: Path, name: str, state: VersionState) -> VersionState:
    path = state_path(place, name)
    path.parent.mkdir(exist_ok=True)
    descriptor, fresh = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"versions": _FORMAT, **asdict(state)}, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    Path(fresh).chmod(0o644)
    Path(fresh).replace(path)
    return state


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
