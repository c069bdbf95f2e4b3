"""What is driven, and what is done to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal

from recond_loadtest.toml_reader import TABLE, ScenarioError, require

TargetKind = Literal["recond", "kserve", "http", "mrd"]
EventAction = Literal["kill", "stop", "continue", "restart"]


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """What is driven.

    Parameters
    ----------
    kind
        ``"recond"``: its own call. ``"kserve"``: a server of the KServe v2 protocol. ``"http"``: one POST per request. ``"mrd"``:
        scans as scanners send them, to `recond gateway` or another MRD server.
    address
        ``HOST:PORT``, or for HTTP a URL. May hold ``{port}``, as `command` does.
    command
        Starts the target; it is stopped after the run. ``{port}`` and ``{metrics_port}`` become free ports,
        ``{folder}`` a folder that is removed with it. None if it runs already.
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
    rate
        MRD: times as fast as scans were measured; 0 for as fast as they are taken.
    """

    __pydantic_config__: ClassVar = TABLE

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
    rate: float = 1.0

    def __post_init__(self) -> None:
        require(self.pad_coils >= 0, "pad_coils", self.pad_coils, "0 or more")
        require(self.rate >= 0, "rate", self.rate, "0 or more")
        require(self.ready_seconds > 0, "ready_seconds", self.ready_seconds, "more than 0 s")
        if self.command is None and "{" in self.address + self.metrics:
            raise ScenarioError(f"address: {self.address!r} has a free port, which needs a command that starts there")


#: Starts a service of this installation, on loopback, for the time of the run.
OWN_SERVICE: Final = TargetSettings(
    command="recond serve --stop-with-stdin --listen 127.0.0.1:{port} --metrics-listen 127.0.0.1:{metrics_port}",
    metrics="http://127.0.0.1:{metrics_port}/metrics",
    environment={"OMP_WAIT_POLICY": "PASSIVE"},
)

#: The same with a gateway before it, for scanners.
OWN_GATEWAY: Final = TargetSettings(
    kind="mrd",
    command=(
        "recond gateway --stop-with-stdin --listen 127.0.0.1:{port} --metrics-listen 127.0.0.1:{metrics_port} "
        "--spool {folder}/spool --log-level error"
    ),
    metrics="http://127.0.0.1:{metrics_port}/metrics",
    environment={"OMP_WAIT_POLICY": "PASSIVE"},
)


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

    __pydantic_config__: ClassVar = TABLE

    at: float
    action: EventAction
    process: str = ""

    def __post_init__(self) -> None:
        require(self.at >= 0, "at", self.at, "0 s or more")
        require(self.action == "restart" or bool(self.process), "process", self.process, "a regular expression")
