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
    Specification 0.8).
    """
    named = os.environ.get("RECOND_MODELS_DIR", "")
    if named:
        return Path(named).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME", "")
    home = Path(data) if data and Path(data).is_absolute() else Path.home() / ".local" / "share"
    return home / "recond" / "models"
