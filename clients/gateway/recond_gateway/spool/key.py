"""The key of a spool."""

from __future__ import annotations

from pathlib import Path

from recond_client.errors import InputError
from recond_client.privacy.key_file import create_key, read_key
from recond_gateway.spool.errors import SpoolKeyError


def key_for(folder: Path, path: Path) -> bytes:
    """Read the key of a spool from its file, and make one for a folder that holds nothing yet.

    Parameters
    ----------
    folder
        Of the spool.
    path
        File of the key, outside of the folder.

    Returns
    -------
    bytes
        32 bytes.

    Raises
    ------
    SpoolKeyError
        If the file lies in the folder, is open to others than its owner or holds no key, or if it is missing and the folder holds
        scans, which no new key can read.
    """
    if folder.resolve() in path.resolve().parents:
        msg = f"The key file {path} lies in the spool {folder}, which it protects: keep it somewhere else."
        raise SpoolKeyError(msg)
    try:
        if path.exists():
            return read_key(path)
        if folder.is_dir() and any(folder.iterdir()):
            msg = (
                f"The key file {path} is missing, and the spool {folder} holds scans that only this key reads: "
                "bring the file back, or empty the folder."
            )
            raise SpoolKeyError(msg)
        return create_key(path)
    except InputError as error:
        raise SpoolKeyError(error.message) from error
    except OSError as error:
        msg = f"The spool {folder} or its key file {path} cannot be read: {error.strerror}."
        raise SpoolKeyError(msg) from error
