"""Kinds of requests: what they send, how urgent they are, what goes wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from recond_loadtest.arrivals import Arrivals
from recond_loadtest.toml_reader import TABLE, require

Priority = Literal["stat", "clinical", "research"]


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

    __pydantic_config__: ClassVar = TABLE

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

    __pydantic_config__: ClassVar = TABLE

    poison: float = 0.0
    truncate: float = 0.0
    cancel: float = 0.0
    cancel_within: float = 0.2
    slow: float = 0.0
    slow_bytes_per_second: float = 65536.0

    def __post_init__(self) -> None:
        shares = {"poison": self.poison, "truncate": self.truncate, "cancel": self.cancel, "slow": self.slow}
        for name, share in shares.items():
            require(0 <= share <= 1, name, share, "a share from 0 to 1")
        require(sum(shares.values()) <= 1, "poison + truncate + cancel + slow", sum(shares.values()), "at most 1")
        require(self.cancel_within > 0, "cancel_within", self.cancel_within, "more than 0 s")
        require(
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

    __pydantic_config__: ClassVar = TABLE

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
        require(bool(self.inputs), "inputs", self.inputs, "one input or more")
        require(self.weight > 0, "weight", self.weight, "more than 0")
        require(self.deadline is None or self.deadline > 0, "deadline", self.deadline, "more than 0 s")
