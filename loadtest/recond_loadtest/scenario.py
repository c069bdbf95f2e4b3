"""What a run does: which requests, when, with which faults, against what. Read from TOML."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

from recond_loadtest.toml_reader import ScenarioError, read

Mode = Literal["open", "single-stream", "offline", "server"]
Process = Literal["poisson", "constant", "bursts", "steps", "trace"]
Priority = Literal["stat", "clinical", "research"]
TargetKind = Literal["recond", "kserve", "http"]
EventAction = Literal["kill", "stop", "continue", "restart"]

_SHIPPED: Final = resources.files("recond_loadtest") / "scenarios"


def _require(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise ScenarioError(f"{name}: {value!r}, and should be {allowed}")


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a step profile.

    Parameters
    ----------
    duration
        Seconds.
    rate, load
        One of them, as in `Arrivals`; a rate of 0 is a pause.
    """

    duration: float
    rate: float | None = None
    load: float | None = None

    def __post_init__(self) -> None:
        _require(self.duration > 0, "duration", self.duration, "more than 0 s")
        _check_rate(self.rate, self.load)


def _check_rate(rate: float | None, load: float | None) -> None:
    if (rate is None) == (load is None):
        raise ScenarioError("rate: give either rate (requests/s) or load (as a multiple of the measured peak)")
    _require(rate is None or 0 <= rate <= 1e5, "rate", rate, "from 0 to 100000 requests/s")
    _require(load is None or 0 <= load <= 100, "load", load, "from 0 to 100 times the peak")


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

    process: Process = "poisson"
    rate: float | None = None
    load: float | None = None
    burst: int = 1
    steps: tuple[Step, ...] = ()
    trace: Path | None = None

    def __post_init__(self) -> None:
        if self.process == "steps":
            _require(bool(self.steps), "steps", self.steps, "a list of {duration, rate or load}")
        elif self.process == "trace":
            _require(self.trace is not None, "trace", self.trace, "a file")
        else:
            _check_rate(self.rate, self.load)
        _require(self.burst >= 1, "burst", self.burst, "1 or more")

    @property
    def relative(self) -> bool:
        """Whether the peak has to be known first."""
        return self.load is not None or any(step.load is not None for step in self.steps)


@dataclass(frozen=True, slots=True)
class InputSettings:
    """What is reconstructed: a simulated scan, or a file.

    Parameters
    ----------
    coils, slices, rows, columns, acceleration, calibration_lines, pattern, noise, phantom, seed
        As in `recond_models.simulate.scan.ScanSettings`; readout oversampling is removed.
    format
        How it travels to recond: as arrays, or as the bytes of a file.
    file
        A raw file to send instead; relative to the scenario. `format` and what describes a simulation are not used then.
    """

    coils: int = 8
    slices: int = 1
    rows: int = 128
    columns: int = 128
    acceleration: float = 4.0
    calibration_lines: int = 20
    pattern: Literal["equispaced", "random"] = "equispaced"
    noise: float = 0.005
    phantom: Literal["head", "shepp-logan"] = "shepp-logan"
    seed: int = 1
    format: Literal["array", "fastmri", "ismrmrd"] = "array"
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong on the side of the client. Each is the share of the requests, of 1; a request has one fault at most.

    Parameters
    ----------
    poison
        k-space with values that are not numbers.
    truncate
        A raw file that was cut off (fastMRI HDF5, at 60 % of its bytes).
    cancel
        The call is cancelled, at a time drawn uniformly from 0 to `cancel_within`.
    cancel_within
        Seconds after the call was made.
    slow
        The upload trickles.
    slow_bytes_per_second
        How fast.
    """

    poison: float = 0.0
    truncate: float = 0.0
    cancel: float = 0.0
    cancel_within: float = 0.2
    slow: float = 0.0
    slow_bytes_per_second: float = 65536.0

    def __post_init__(self) -> None:
        shares = {"poison": self.poison, "truncate": self.truncate, "cancel": self.cancel, "slow": self.slow}
        for name, share in shares.items():
            _require(0 <= share <= 1, name, share, "a share from 0 to 1")
        _require(sum(shares.values()) <= 1, "poison + truncate + cancel + slow", sum(shares.values()), "at most 1")
        _require(self.cancel_within > 0, "cancel_within", self.cancel_within, "more than 0 s")
        _require(
            self.slow_bytes_per_second > 0, "slow_bytes_per_second", self.slow_bytes_per_second, "more than 0 bytes/s"
        )


@dataclass(frozen=True, slots=True)
class RequestClass:
    """Requests of one kind.

    Parameters
    ----------
    name
        Names it in the report.
    inputs
        What is sent; each request takes one of them at random.
    weight
        Share among the classes that come with the arrivals of the scenario.
    arrivals
        Arrivals of its own, beside those of the scenario.
    model
        Overrides that of the scenario.
    priority
        How urgent.
    deadline
        Seconds from the intended time; the server is told, and goodput counts by it. None for no deadline.
    client
        Requests of one client share a connection, by which recond tells clients apart.
    faults
        Override those of the scenario.
    outputs
        Output files to ask for: any of ``"h5"``, ``"mrd"``, ``"nii.gz"``, ``"png"`` (recond only).
    """

    name: str
    inputs: tuple[InputSettings, ...] = (InputSettings(),)
    weight: float = 1.0
    arrivals: Arrivals | None = None
    model: str | None = None
    priority: Priority = "clinical"
    deadline: float | None = None
    client: str = "client"
    faults: Faults | None = None
    outputs: tuple[Literal["h5", "mrd", "nii.gz", "png"], ...] = ()

    def __post_init__(self) -> None:
        _require(bool(self.inputs), "inputs", self.inputs, "one input or more")
        _require(self.weight > 0, "weight", self.weight, "more than 0")
        _require(self.deadline is None or self.deadline > 0, "deadline", self.deadline, "more than 0 s")


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """What is driven.

    Parameters
    ----------
    kind
        ``"recond"``: its own call. ``"kserve"``: a server of the KServe v2 protocol. ``"http"``: one POST per request.
    address
        ``HOST:PORT``, or for HTTP a URL. May hold ``{port}``, as `command` does.
    command
        Starts the target; it is stopped after the run. ``{port}`` and ``{metrics_port}`` become free ports. None if it runs
        already.
    environment
        Variables for the command, beside those of this process.
    cpus
        Cores that the command is pinned to; empty for all.
    metrics
        URL of Prometheus metrics; may hold ``{metrics_port}``.
    ready_seconds
        Longest wait for the target.
    model
        KServe: name of the model; may hold ``{model}``, ``{rows}``, ``{columns}`` and ``{coils}``.
    pad_coils
        KServe and HTTP: frames with fewer coils get coils of zeros up to this many; 0 for none.
    shared_memory
        KServe: inputs lie in system shared memory, registered before the run.
    encoding
        HTTP: ``"npz"`` (answered by ``.npy``), or ``"json"`` with base64 in both directions.
    """

    kind: TargetKind = "recond"
    address: str = "127.0.0.1:{port}"
    command: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    cpus: tuple[int, ...] = ()
    metrics: str = ""
    ready_seconds: float = 120.0
    model: str = "{model}"
    pad_coils: int = 0
    shared_memory: bool = False
    encoding: Literal["npz", "json"] = "npz"

    def __post_init__(self) -> None:
        _require(self.pad_coils >= 0, "pad_coils", self.pad_coils, "0 or more")
        _require(self.ready_seconds > 0, "ready_seconds", self.ready_seconds, "more than 0 s")
        if self.command is None and "{" in self.address + self.metrics:
            raise ScenarioError(f"address: {self.address!r} has a free port, which needs a command that starts there")


#: Starts a service of this installation, on loopback, for the time of the run.
OWN_SERVICE: Final = TargetSettings(
    command="recond serve --stop-with-stdin --listen 127.0.0.1:{port} --metrics-listen 127.0.0.1:{metrics_port}",
    metrics="http://127.0.0.1:{metrics_port}/metrics",
    environment={"OMP_WAIT_POLICY": "PASSIVE"},
)


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

    lag_seconds: float = 0.02
    lag_share: float = 0.05
    bound: float = 60.0
    cpus: tuple[int, ...] = ()
    nice: int = -10
    image_tolerance: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("lag_seconds", "lag_share", "bound", "image_tolerance"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "more than 0")
        _require(-20 <= self.nice <= 19, "nice", self.nice, "from -20 to 19")


@dataclass(frozen=True, slots=True)
class Event:
    """A fault of the target on the timeline.

    Parameters
    ----------
    at
        Seconds after the end of the warm-up.
    action
        ``"kill"`` (SIGKILL), ``"stop"`` (SIGSTOP), ``"continue"`` (SIGCONT) one process; ``"restart"`` ends the whole target with
        SIGTERM and starts it again on the same ports.
    process
        Regular expression, searched for in the command line and the name of the processes below the target; the oldest that fits
        is meant. Not for ``"restart"``.
    """

    at: float
    action: EventAction
    process: str = ""

    def __post_init__(self) -> None:
        _require(self.at >= 0, "at", self.at, "0 s or more")
        _require(self.action == "restart" or bool(self.process), "process", self.process, "a regular expression")


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

    requests: int = 60
    outstanding: int = 12
    warm_up: int = 12

    def __post_init__(self) -> None:
        _require(self.requests >= 2, "requests", self.requests, "2 or more")
        _require(self.outstanding >= 1, "outstanding", self.outstanding, "1 or more")
        _require(self.warm_up >= 0, "warm_up", self.warm_up, "0 or more")


@dataclass(frozen=True, slots=True)
class Search:
    """Mode ``"server"``: the highest Poisson rate whose latency stays under a limit, by bisection, without an error.

    Parameters
    ----------
    limit
        Seconds.
    quantile
        Which latency: 0.99, or 0.9 where the samples of a probe are too few for that.
    probes
        How many rates to try at most.
    resolution
        The search ends when the bracket is this narrow, relative to its upper end.
    """

    limit: float = 0.5
    quantile: float = 0.9
    probes: int = 6
    resolution: float = 0.05

    def __post_init__(self) -> None:
        _require(self.limit > 0, "limit", self.limit, "more than 0 s")
        _require(0.5 <= self.quantile < 1, "quantile", self.quantile, "from 0.5 to below 1")
        _require(1 <= self.probes <= 20, "probes", self.probes, "from 1 to 20")
        _require(0 < self.resolution < 1, "resolution", self.resolution, "between 0 and 1")


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
        _require(bool(names), "classes", names, "one class or more")
        _require(len(names) == len(set(names)), "classes", names, "of different names")
        _require(self.seed >= 0, "seed", self.seed, "0 or more")
        _require(self.duration > 0, "duration", self.duration, "more than 0 s")
        _require(self.warm_up >= 0, "warm_up", self.warm_up, "0 s or more")
        if self.mode == "open" and self.arrivals is None and any(kind.arrivals is None for kind in self.classes):
            raise ScenarioError("arrivals: missing; an open run needs them, for the scenario or for every class")
        for event in self.events:
            _require(event.at < self.duration, "events.at", event.at, f"before the end of the run, {self.duration:g} s")

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
        TOML.
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
