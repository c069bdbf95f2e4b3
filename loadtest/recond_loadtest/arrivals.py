"""When requests are due."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from recond_loadtest.toml_reader import TABLE, ScenarioError, require

Process = Literal["poisson", "constant", "bursts", "steps", "trace"]


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a step profile.

    Parameters
    ----------
    duration
        Length of the step, seconds.
    rate, load
        One of them, as in `Arrivals`; a rate of 0 is a pause.
    """

    __pydantic_config__: ClassVar = TABLE

    duration: float
    rate: float | None = None
    load: float | None = None

    def __post_init__(self) -> None:
        require(self.duration > 0, "duration", self.duration, "more than 0 s")
        _check_rate(self.rate, self.load)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When requests are due.

    Parameters
    ----------
    process
        ``"poisson"``; ``"constant"`` distances; ``"bursts"``: `burst` requests at once, the bursts being Poisson; ``"steps"``:
        Poisson with a rate that changes; ``"trace"``: times from a file.
    rate
        Mean requests per second.
    load
        The same as a multiple of the peak throughput, which an offline phase before the run measures.
    burst
        Requests in a burst.
    steps
        The profile; what is longer than the run is left out, and a shorter one is repeated.
    trace
        CSV file, see `recond_loadtest.trace`; relative to the scenario.
    """

    __pydantic_config__: ClassVar = TABLE

    process: Process = "poisson"
    rate: float | None = None
    load: float | None = None
    burst: int = 1
    steps: tuple[Step, ...] = ()
    trace: Path | None = None

    def __post_init__(self) -> None:
        if self.process == "steps":
            require(bool(self.steps), "steps", self.steps, "a list of {duration, rate or load}")
        elif self.process == "trace":
            require(self.trace is not None, "trace", self.trace, "a file")
        else:
            _check_rate(self.rate, self.load)
        require(self.burst >= 1, "burst", self.burst, "1 or more")

    @property
    def relative(self) -> bool:
        """Whether the peak has to be known first."""
        return self.load is not None or any(step.load is not None for step in self.steps)


def _check_rate(rate: float | None, load: float | None) -> None:
    if (rate is None) == (load is None):
        raise ScenarioError("rate: give either rate (requests/s) or load (as a multiple of the measured peak)")
    require(rate is None or 0 <= rate <= 1e5, "rate", rate, "from 0 to 100000 requests/s")
    require(load is None or 0 <= load <= 100, "load", load, "from 0 to 100 times the peak")
