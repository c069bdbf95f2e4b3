"""What a run does: which requests, when, with which faults, against what. Read from TOML."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from recond_loadtest.arrivals import Arrivals
from recond_loadtest.request_class import Faults, RequestClass
from recond_loadtest.target_settings import Event, TargetSettings
from recond_loadtest.toml_reader import TABLE, ScenarioError, read, require

Mode = Literal["open", "single-stream", "offline", "server"]

_SHIPPED: Final = resources.files("recond_loadtest") / "scenarios"


@dataclass(frozen=True, slots=True)
class GeneratorSettings:
    """How the load is made, and when a run does not count.

    Parameters
    ----------
    lag_seconds, lag_share
        The run is void if the 99th percentile of the send lag is above the larger of `lag_seconds` and `lag_share` times the
        median latency.
    bound
        Seconds, from the intended time or from the deadline if there is one, after which a request without an end is given up as
        lost. The target is not told.
    cpus
        Cores that the generator is pinned to; empty for all.
    nice
        Priority of the generator, -20 to 19, where the system allows it: one that waits for a core sends late.
    image_tolerance
        Largest relative error (Frobenius norm) of an image against the one that the same input gave before the run.
    """

    __pydantic_config__: ClassVar = TABLE

    lag_seconds: float = 0.02
    lag_share: float = 0.05
    bound: float = 60.0
    cpus: tuple[int, ...] = ()
    nice: int = -10
    image_tolerance: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("lag_seconds", "lag_share", "bound", "image_tolerance"):
            require(getattr(self, name) > 0, name, getattr(self, name), "more than 0")
        require(-20 <= self.nice <= 19, "nice", self.nice, "from -20 to 19")


@dataclass(frozen=True, slots=True)
class Peak:
    """The offline phase that finds the peak throughput for relative loads, and mode ``"offline"``.

    Parameters
    ----------
    requests
        How many, after `warm_up`.
    outstanding
        How many at once: enough for full batches, and fewer than the service admits.
    warm_up
        Requests before those that count.
    """

    __pydantic_config__: ClassVar = TABLE

    requests: int = 60
    outstanding: int = 12
    warm_up: int = 12

    def __post_init__(self) -> None:
        require(self.requests >= 2, "requests", self.requests, "2 or more")
        require(self.outstanding >= 1, "outstanding", self.outstanding, "1 or more")
        require(self.warm_up >= 0, "warm_up", self.warm_up, "0 or more")


@dataclass(frozen=True, slots=True)
class Search:
    """Mode ``"server"``: the highest Poisson rate whose latency stays under a limit, by bisection, without an error.

    Parameters
    ----------
    limit
        Longest latency at the quantile, seconds.
    quantile
        Which latency: 0.99, or 0.9 where the samples of a probe are too few for that.
    probes
        How many rates to try at most.
    resolution
        The search ends when the bracket is this narrow, relative to its upper end.
    """

    __pydantic_config__: ClassVar = TABLE

    limit: float = 0.5
    quantile: float = 0.9
    probes: int = 6
    resolution: float = 0.05

    def __post_init__(self) -> None:
        require(self.limit > 0, "limit", self.limit, "more than 0 s")
        require(0.5 <= self.quantile < 1, "quantile", self.quantile, "from 0.5 to below 1")
        require(1 <= self.probes <= 20, "probes", self.probes, "from 1 to 20")
        require(0 < self.resolution < 1, "resolution", self.resolution, "between 0 and 1")


@dataclass(frozen=True, slots=True)
class Scenario:
    """A run.

    Parameters
    ----------
    name, description
        For the report.
    classes
        Kinds of requests.
    mode
        ``"open"``: arrivals as drawn, whatever the server does. ``"single-stream"``: the next request when the one before has
        ended. ``"offline"``: all there at once, `peak.outstanding` on their way at a time. ``"server"``: see `Search`.
    seed
        Everything random is drawn from it before the run.
    duration
        Seconds that are measured, after the warm-up. Offline runs last as long as their requests do.
    warm_up
        Seconds at the start that do not count.
    model
        Which model, for classes that name none.
    """

    __pydantic_config__: ClassVar = TABLE

    name: str
    classes: tuple[RequestClass, ...]
    description: str = ""
    mode: Mode = "open"
    seed: int = 1
    duration: float = 40.0
    warm_up: float = 4.0
    model: str = "cg-sense"
    arrivals: Arrivals | None = None
    faults: Faults = field(default_factory=Faults)
    target: TargetSettings | None = None
    generator: GeneratorSettings = field(default_factory=GeneratorSettings)
    events: tuple[Event, ...] = ()
    peak: Peak = field(default_factory=Peak)
    search: Search = field(default_factory=Search)

    def __post_init__(self) -> None:
        names = [kind.name for kind in self.classes]
        require(bool(names), "classes", names, "one class or more")
        require(len(names) == len(set(names)), "classes", names, "of different names")
        require(self.seed >= 0, "seed", self.seed, "0 or more")
        require(self.duration > 0, "duration", self.duration, "more than 0 s")
        require(self.warm_up >= 0, "warm_up", self.warm_up, "0 s or more")
        if self.mode == "open" and self.arrivals is None and any(kind.arrivals is None for kind in self.classes):
            raise ScenarioError("arrivals: missing; an open run needs them, for the scenario or for every class")
        for event in self.events:
            require(event.at < self.duration, "events.at", event.at, f"before the end of the run, {self.duration:g} s")

    @property
    def clients(self) -> tuple[str, ...]:
        """Names of the clients, each once."""
        return tuple(dict.fromkeys(kind.client for kind in self.classes))

    @property
    def relative(self) -> bool:
        """Whether the peak has to be known before the schedule can be drawn."""
        own = [kind.arrivals for kind in self.classes if kind.arrivals is not None]
        return any(arrivals.relative for arrivals in [*own, *([self.arrivals] if self.arrivals else [])])

    def faults_of(self, kind: RequestClass) -> Faults:
        """Return the faults of a class."""
        return kind.faults if kind.faults is not None else self.faults

    def model_of(self, kind: RequestClass) -> str:
        """Return the model of a class."""
        return kind.model if kind.model is not None else self.model

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {key: _plain(value) for key, value in dataclasses.asdict(self).items()}


def _plain(value: Any) -> Any:  # noqa: ANN401 - values of JSON
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def shipped() -> dict[str, str]:
    """Return the names of the scenarios that come with this package, and what each says of itself."""
    files = sorted(_SHIPPED.iterdir(), key=lambda file: file.name)
    return {
        file.name.removesuffix(".toml"): str(tomllib.loads(file.read_text(encoding="utf-8")).get("description", ""))
        for file in files
        if file.name.endswith(".toml")
    }


def load_scenario(name_or_file: str) -> Scenario:
    """Read a scenario.

    Parameters
    ----------
    name_or_file
        A TOML file, or the name of a shipped scenario. Files that it names are looked for beside it.

    Raises
    ------
    ScenarioError
        It does not exist, is no TOML, or a key or value in it is wrong.
    """
    if name_or_file in (names := shipped()):
        return parse_scenario((_SHIPPED / f"{name_or_file}.toml").read_text(encoding="utf-8"), name_or_file)
    path = Path(name_or_file)
    if not path.is_file():
        raise ScenarioError(f"{name_or_file}: neither a file nor one of {', '.join(names)}")
    try:
        return parse_scenario(path.read_text(encoding="utf-8"), path.stem, path.parent)
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{name_or_file}: {error}") from error


def parse_scenario(text: str, name: str = "scenario", folder: Path | None = None) -> Scenario:
    """Return the scenario of a TOML text.

    Parameters
    ----------
    text
        Contents of a TOML file.
    name
        Its name where it gives none.
    folder
        Where files that it names are.

    Raises
    ------
    ScenarioError
        It is no TOML, or a key or value in it is wrong.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{name}: not TOML: {error}") from error
    scenario = read(Scenario, {"name": name, **table})
    return scenario if folder is None else _located(scenario, folder)


def _located(scenario: Scenario, folder: Path) -> Scenario:
    """Return the scenario with the paths in it made independent of the current folder."""

    def arrivals(of: Arrivals | None) -> Arrivals | None:
        return of if of is None or of.trace is None else dataclasses.replace(of, trace=folder / of.trace)

    classes = tuple(
        dataclasses.replace(
            kind,
            arrivals=arrivals(kind.arrivals),
            inputs=tuple(
                one if one.file is None else dataclasses.replace(one, file=folder / one.file) for one in kind.inputs
            ),
        )
        for kind in scenario.classes
    )
    return dataclasses.replace(scenario, classes=classes, arrivals=arrivals(scenario.arrivals))
