"""The folder in which an exported head comes: `program.pt2`, and a manifest that says what it is for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from recond_models.heads.contract import HeadContract
from recond_models.store.errors import ManifestError
from recond_models.store.lineage import Lineage
from recond_models.store.manifest import CARD_FILE, MANIFEST_FILE

PROGRAM_FILE: Final = "program.pt2"

_MOST_BYTES: Final = 1 << 20
_TEXTS: Final = ("name", "version", "description", "reference", "licence", "source")
HEAD_OPTIONS: Final = ("merged", "temperature", "temperatures")
"""Arguments of a head that its manifest may give beside the contract."""
_KNOWN: Final = frozenset({"manifest", "head", "lineage", *_TEXTS, *HEAD_OPTIONS})


@dataclass(frozen=True, slots=True)
class HeadBundle:
    """An exported head that is to be added.

    Parameters
    ----------
    program
        Its ``program.pt2``.
    head
        What it takes and returns.
    options
        Arguments of `recond_models.heads.head.Head`: ``merged``, ``temperature``, ``temperatures``.
    texts
        ``name``, ``version``, ``description``, ``reference``, ``licence``, ``source`` as in `Manifest`; empty where not given.
    lineage
        How it came to be.
    card
        Text of its ``card.md``; empty if there is none.
    """

    program: Path
    head: HeadContract
    options: dict[str, Any]
    texts: dict[str, str]
    lineage: Lineage
    card: str

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        """Tell whether a folder holds one."""
        return (folder / PROGRAM_FILE).is_file() and (folder / MANIFEST_FILE).is_file()

    @classmethod
    def read(cls, folder: Path) -> HeadBundle:
        """Read the manifest of a bundle; nothing of the program.

        Raises
        ------
        ManifestError
            It cannot be read, has unknown fields, or no ``head``.
        """
        path, card = folder / MANIFEST_FILE, folder / CARD_FILE
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise ManifestError(f"{path} has more than {_MOST_BYTES} bytes, which no manifest has")
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            if isinstance(error, ManifestError):
                raise
            raise ManifestError(f"{path} cannot be read: {error}") from error
        if not isinstance(data, dict) or "head" not in data or not set(data) <= _KNOWN:
            unknown = sorted(set(data) - _KNOWN) if isinstance(data, dict) else []
            raise ManifestError(
                f"the manifest beside {PROGRAM_FILE} needs the field head, and may have {', '.join(sorted(_KNOWN - {'head'}))}; "
                f"unknown here are {unknown}"
            )
        for name in _TEXTS:
            if not isinstance(data.get(name, ""), str):
                raise ManifestError(f"the manifest's {name} is {data[name]!r}, no text")
        try:
            head = HeadContract.from_json(data["head"])
            lineage = Lineage.from_json(data.get("lineage", {}))
        except (TypeError, ValueError) as error:
            raise ManifestError(f"the manifest in {folder} cannot be: {error}") from error
        return cls(
            folder / PROGRAM_FILE,
            head,
            {name: data[name] for name in HEAD_OPTIONS if name in data},
            {name: data.get(name, "") for name in _TEXTS},
            lineage,
            card.read_text(encoding="utf-8", errors="replace") if card.is_file() else "",
        )
