"""Compiled networks kept on disk, so that the next process need not compile them.

The folder is private to its owner, files are written whole or not at all, and what is read has the hash that it was written with.
Wherever that cannot be had there is no cache: it only saves time.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
import tempfile
import time
from pathlib import Path

_log = logging.getLogger(__name__)

MOST_BYTES = 256 << 20
"""Of all files; those unused for longest go first."""

_LARGEST = 64 << 20
_ENDING = ".program"
_HASH_BYTES = hashlib.sha256().digest_size
_ABANDONED_SECONDS = 3600.0


class ProgramCache:
    """Compiled programs by key, in a folder.

    Parameters
    ----------
    folder
        Where the files lie; made, readable by its owner only, when the first is stored. A folder that belongs to somebody else, or
        that others may write to, is not used.
    most_bytes
        Of all files together.
    """

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self._folder = folder
        self._most_bytes = most_bytes

    def has(self, key: str) -> bool:
        """Tell whether there is a program, good or damaged."""
        return (self._folder / f"{key}{_ENDING}").is_file()

    def load(self, key: str) -> bytes | None:
        """Return a program, or None if it is not there, is damaged, or cannot be trusted.

        Parameters
        ----------
        key
            Hexadecimal; see `key_of`.
        """
        path = self._folder / f"{key}{_ENDING}"
        try:
            if not self._is_private():
                return None
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor that follows no link
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
                    return None
                data = file.read()
            digest, program = data[:_HASH_BYTES], data[_HASH_BYTES:]
            if hashlib.sha256(program).digest() != digest:
                _log.warning("the compiled network %s is damaged and is compiled anew", path)
                path.unlink(missing_ok=True)
                return None
            os.utime(path)
        except OSError:
            return None
        return program

    def store(self, key: str, program: bytes) -> bool:
        """Keep a program, and tell whether that went well.

        Parameters
        ----------
        key
            As for `load`.
        program
            What `load` is to return.
        """
        if len(program) + _HASH_BYTES > min(_LARGEST, self._most_bytes):
            return False
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._is_private():
                _log.warning(
                    "%s belongs to others or may be written by them: compiled networks are not kept", self._folder
                )
                return False
            descriptor, fresh = tempfile.mkstemp(prefix=".new-", dir=self._folder)
            try:
                with open(descriptor, "wb") as file:  # noqa: PTH123 - the descriptor that was just made
                    file.write(hashlib.sha256(program).digest())
                    file.write(program)
                Path(fresh).replace(self._folder / f"{key}{_ENDING}")
            finally:
                Path(fresh).unlink(missing_ok=True)
            self._trim()
        except OSError as error:
            _log.info("compiled networks are not kept in %s: %s", self._folder, error.strerror)
            return False
        return True

    def forget(self, key: str) -> None:
        """Remove a program that turned out to be of no use."""
        with contextlib.suppress(OSError):
            (self._folder / f"{key}{_ENDING}").unlink(missing_ok=True)

    def _is_private(self) -> bool:
        """Tell whether nobody else can have put anything into the folder."""
        status = self._folder.lstat()
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022

    def _trim(self) -> None:
        """Remove the files that were not used for longest, until the others fit, and what writers left behind that died."""
        kept = []
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process trims as well
                status = path.lstat()
                if path.suffix == _ENDING:
                    kept.append((status.st_mtime, status.st_size, path))
                elif path.name.startswith(".new-") and status.st_mtime < time.time() - _ABANDONED_SECONDS:
                    path.unlink(missing_ok=True)
        total = sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if total <= self._most_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size


def default_cache() -> ProgramCache | None:
    """Return the cache of this user, or None where there is no place for one.

    In ``networks`` below ``RECOND_CACHE_DIR``, else below ``recond`` in ``XDG_CACHE_HOME``, else below ``~/.cache/recond`` (XDG
    Base Directory Specification 0.8). ``RECOND_CACHE_DIR=off`` is for none.
    """
    named = os.environ.get("RECOND_CACHE_DIR", "")
    if named == "off":
        return None
    try:
        if named:
            return ProgramCache(Path(named).expanduser().absolute() / "networks")
        given = os.environ.get("XDG_CACHE_HOME", "")
        home = Path(given) if given and Path(given).is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # no HOME, and a user that the system does not know
        return None
    return ProgramCache(home / "recond" / "networks")


def key_of(*parts: object) -> str:
    """Return a key for everything that a program depends on: the program is used wherever all of it is the same.

    Parameters
    ----------
    *parts
        What has an unambiguous `repr`.
    """
    return hashlib.sha256(repr(parts).encode()).hexdigest()
