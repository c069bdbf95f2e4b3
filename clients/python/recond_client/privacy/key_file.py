"""Keys of a site, in files that nobody else may read."""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path
from typing import Final

from recond_client.errors import InputError

KEY_BYTES: Final = 32
_HEX: Final = re.compile(rb"[0-9a-fA-F]{64}\s*")
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def create_key(path: Path) -> bytes:
    """Make a new key and write it to a new file, as 64 hexadecimal digits.

    Parameters
    ----------
    path
        The file, which must not exist; folders on the way are made.

    Returns
    -------
    bytes
        32 bytes.

    Raises
    ------
    InputError
        If the file exists or cannot be written.
    """
    key = secrets.token_bytes(KEY_BYTES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, key.hex().encode() + b"\n")
            os.fsync(file)
        except OSError:
            path.unlink(missing_ok=True)  # the disk is full: half a key would be in the way of the next try
            raise
        finally:
            os.close(file)
    except OSError as error:
        raise _wrong(path, f"cannot be written: {error.strerror}") from error
    return key


def read_key(path: Path) -> bytes:
    """Read a key: 32 bytes, or 64 hexadecimal digits.

    Parameters
    ----------
    path
        The file; only its owner may have access to it.

    Returns
    -------
    bytes
        32 bytes.

    Raises
    ------
    InputError
        If there is no such file, if others than its owner may read or write it, or if it holds no key.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            mode = os.fstat(file).st_mode
            held = os.read(file, 4 * KEY_BYTES) if stat.S_ISREG(mode) else b""
        finally:
            os.close(file)
    except OSError as error:
        raise _wrong(path, f"cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise _wrong(path, "is no file")
    if mode & _OTHERS:
        raise _wrong(path, f"is open to others than its owner (mode {stat.S_IMODE(mode):04o}): chmod 600 it")
    if len(held) == KEY_BYTES:
        return held
    if _HEX.fullmatch(held):
        return bytes.fromhex(held.decode().strip())
    raise _wrong(path, "holds no key: it must hold 32 bytes, or 64 hexadecimal digits")


def _wrong(path: Path, what: str) -> InputError:
    return InputError(f"The key file {path} {what}.", status="FAILED_PRECONDITION", reason="KEY_FILE", field=str(path))
