"""Figures as they are kept: one JSON file, written after every step, so that a run goes on where it ended."""

from __future__ import annotations

import json
import os
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np

_FORMAT = 2
DIGITS = 5


class Results:
    """All figures of the report.

    Parameters
    ----------
    path
        The file; read if it is there.

    Raises
    ------
    SystemExit
        The file has another format.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.data: dict[str, Any] = {"quality": _FORMAT, "cells": {}, "weights": {}, "probes": {}, "measured": {}}
        if path.is_file():
            self.data = json.loads(path.read_text())
        if self.data.get("quality") != _FORMAT:
            raise SystemExit(f"{path} has the format {self.data.get('quality')}, not {_FORMAT}: move it away")
        self.data["machine"] = {"processor": _processor(), "python": platform.python_version()}

    def save(self) -> None:
        """Write the file whole or not at all."""
        partial = self._path.with_suffix(".part")
        text = json.dumps(_rounded(self.data), indent=1, sort_keys=True)
        # A list on one line: a change of weights is then a short difference.
        partial.write_text(re.sub(r"\[\s+([^][{}]*?)\s+\]", lambda one: f"[{' '.join(one[1].split())}]", text) + "\n")
        partial.replace(self._path)

    def merge(self, path: Path) -> None:
        """Take over from another file what is missing in this one, such as what another machine made; nothing is replaced.

        Raises
        ------
        SystemExit
            The file has another format.
        """
        other = Results(path)
        for part in ("cells", "weights", "probes", "measured"):
            _fill(self.data[part], other.data[part])
        self.save()

    def entry(self, *keys: str) -> dict[str, Any]:
        """Return the dictionary under some keys, made if it is not there."""
        place = self.data
        for key in keys:
            place = place.setdefault(key, {})
        return place


def _fill(mine: dict[str, Any], other: dict[str, Any]) -> None:
    """Add missing entries; those of one method are whole, and have an identity."""
    for key, value in other.items():
        if key not in mine:
            mine[key] = value
        elif isinstance(value, dict) and "identity" not in value:
            _fill(mine[key], value)


def _rounded(value: Any) -> Any:
    """Round all floats: digits that mean nothing make differences that mean nothing."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(part) for part in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{float(value):.{DIGITS}g}")
    return value


def _processor() -> str:
    """Return the processor and how many cores may be used."""
    name = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        name = models[0] if models else name
    return f"{name}, {len(os.sched_getaffinity(0))} cores"
