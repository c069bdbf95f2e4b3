"""What a worker has to know when it is forked."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WARM_UP = re.compile(r"(?P<model>[^:]+):(?P<coils>\d{1,4})x(?P<rows>\d{1,5})x(?P<columns>\d{1,5})")


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Frames that a worker is to be made ready for.

    Parameters
    ----------
    model
        Name of the model.
    coils, rows, columns
        Of every frame.
    """

    model: str
    coils: int
    rows: int
    columns: int

    @classmethod
    def parse(cls, text: str) -> WarmUp:
        """Return what ``MODEL:COILSxROWSxCOLUMNS`` says.

        Raises
        ------
        ValueError
            It is not of that form.
        """
        found = _WARM_UP.fullmatch(text.strip())
        sizes = [int(found[name]) for name in ("coils", "rows", "columns")] if found else [0]
        if found is None or min(sizes) < 1:
            raise ValueError(f"{text!r} is not MODEL:COILSxROWSxCOLUMNS, such as cg-sense:8x320x320")
        return cls(found["model"], *sizes)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a worker has to know when it is forked.

    Parameters
    ----------
    name
        Its name in logs and process lists.
    device
        torch device.
    threads
        With how many threads it computes.
    beat_seconds
        Time between two signs of life.
    workers
        How many of them share the memory of the device.
    warm_up
        Entries as for `WarmUp.parse`.
    heads_only
        It runs heads, and no model that reconstructs: these are not loaded.
    preload
        Names of the models that are loaded at the start; None for all that ship.
    measure
        Measure models before the first batch; not needed when a worker is started again.
    """

    name: str
    device: str
    threads: int
    beat_seconds: float
    workers: int = 1
    warm_up: tuple[str, ...] = ()
    heads_only: bool = False
    preload: tuple[str, ...] | None = None
    measure: bool = False
