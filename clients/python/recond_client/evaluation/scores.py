"""Scores of volumes, kept in a file so that nothing is computed twice."""

from __future__ import annotations

import json
import os
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from recond_client.errors import InputError

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Score:
    """What one model made of one volume.

    Parameters
    ----------
    key
        Names the volume, the model with its weights, and all options: whatever may change the figures.
    file
        Name of the file.
    acquisition
        Attribute ``acquisition`` of the file, such as ``"AXT2"``.
    model, version, weights_sha256
        What ran: for `auto`, what the service chose.
    asked
        The model that was asked for.
    sampling
        ``"own mask"``, or the undersampling as ``KIND:R:CENTRE``.
    slices
        Slices of the volume.
    ssim, psnr, nmse
        Figures as fastMRI defines them, psnr in dB; None where one is infinite or does not exist.
    seconds
        Time in the model, all slices together.
    findings
        Codes of what was noticed, in the order of their appearance; warnings only.
    ssim_object, psnr_object, nmse_object
        The same figures inside the object, see `recond_client.Figures`.
    """

    key: str
    file: str
    acquisition: str
    model: str
    version: str
    weights_sha256: str
    asked: str
    sampling: str
    slices: int
    ssim: float | None
    psnr: float | None
    nmse: float | None
    seconds: float
    findings: tuple[str, ...] = ()
    ssim_object: float | None = None
    psnr_object: float | None = None
    nmse_object: float | None = None


class ScoreFile:
    """A file with one JSON object a line, which only grows.

    Parameters
    ----------
    path
        The file; made by the first score.

    Raises
    ------
    InputError
        It is not of this kind, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._scores: dict[str, Score] = {}
        self._torn_from: int | None = None
        if path.exists():
            self._read()

    def get(self, key: str) -> Score | None:
        """Return the score of that key, None if there is none."""
        return self._scores.get(key)

    def add(self, score: Score) -> None:
        """Write a score; it is on the disk when this returns.

        Raises
        ------
        InputError
            The file cannot be written.
        """
        line = json.dumps({"format": _FORMAT, **asdict(score)}, ensure_ascii=False)
        try:
            with self._path.open("ab") as file:
                if self._torn_from is not None:
                    file.truncate(self._torn_from)
                file.write(f"{line}\n".encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            msg = f"{self._path} cannot be written ({error.strerror}): name another file with --results"
            raise InputError(msg, reason="RESULTS_UNWRITABLE", field="--results") from error
        self._torn_from = None
        self._scores[score.key] = score

    def _read(self) -> None:
        try:
            data = self._path.read_bytes()
        except OSError as error:
            msg = f"{self._path} cannot be read ({error.strerror}): name another file with --results"
            raise InputError(msg, reason="RESULTS_UNREADABLE", field="--results") from error
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            self._torn_from = whole  # the program ended while it wrote this line
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                score = _score_of(json.loads(line))
            except (TypeError, ValueError, KeyError) as error:
                msg = f"line {number} of {self._path} is no score ({error}): name another file with --results, or remove this one"
                raise InputError(msg, reason="RESULTS_UNREADABLE", field="--results") from error
            self._scores[score.key] = score


def _score_of(data: dict[str, Any]) -> Score:
    """Return the score of a line; figures that came later are missing in older ones."""
    known = {field.name for field in fields(Score)}
    required = {field.name for field in fields(Score) if field.default is MISSING} | {"findings"}
    if data.pop("format") != _FORMAT or not required <= set(data) <= known:
        msg = "it was written by another version"
        raise ValueError(msg)
    return Score(**data | {"findings": tuple(data["findings"])})
