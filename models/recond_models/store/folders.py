"""Where trained models lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

SHIPPED: Final = Path(__file__).parents[1] / "weights"
"""The models that come with recond."""


def models_folder() -> Path:
    """Return where models that were added on this machine lie, whether it exists or not.

    ``RECOND_MODELS_DIR``, else ``recond/models`` in ``XDG_DATA_HOME``, else in ``~/.local/share`` (XDG Base Directory
    Specification 0.8), else, for a user without a home directory, in ``/var/lib``.
    """
    named = os.environ.get("RECOND_MODELS_DIR", "")
    if named:
        return Path(named).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME", "")
    if data and Path(data).is_absolute():
        return Path(data) / "recond" / "models"
    try:
        home = Path.home() / ".local" / "share"
    except RuntimeError:  # no HOME, and no entry in the list of users, as in many containers
        home = Path("/var/lib")
    return home / "recond" / "models"
