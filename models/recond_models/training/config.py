"""What `recond train` reads: a TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from recond_models.networks.unrolled import UnrolledArchitecture


class TrainingConfigError(ValueError):
    """The configuration cannot be used; the message says which field and why."""


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How to train an unrolled network.

    Parameters
    ----------
    name
        Of the model that comes out.
    description
        One sentence for people.
    architecture
        Sizes of the network.
    seed
        Of weights and samples: the same seed gives the same samples in the same order.
    steps
        Updates of the weights in all.
    batch
        Frames in a step.
    smallest, largest
        Rows and columns of a training frame are drawn from this range.
    largest_area
        Most pixels of a frame.
    coils
        Most virtual coils of a frame.
    rounds
        ``[[from step, rounds], ...]``: fewer rounds in the beginning are learnt faster.
    learning_rate
        Of Adam, after a short warm-up.
    decay
        Part of the steps, at the end, in which the learning rate falls to zero.
    average
        Decay of the exponential moving average of the weights, which is what is evaluated and saved.
    earlier
        Weight of the rounds before the last in the loss.
    inside
        The loss counts what is inside the object.
    small
        Part of the frames whose sides are drawn evenly on a logarithmic scale: more small matrices.
    shapes
        Part of the frames that show random shapes in place of heads.
    anatomy
        What the contract and the card say that the training images show.
    evaluate_every
        Steps between evaluations on the held-out subjects.
    evaluation_frames
        Frames of an evaluation, always the same.
    checkpoint_every
        Steps between checkpoints.
    precision
        ``"bfloat16"``: of the convolutions; the weights and all else are float32.
    data_workers
        Processes that simulate samples.
    start
        Weights of another unrolled network with the same channels to start from, a safetensors file beside the configuration or
        an absolute path; empty to start from random ones. It may have other numbers of rounds.
    only
        ``"deviation"``: the weights in `start` stay as they are, and the part that predicts deviations is trained to them.
    version, origin
        Version of the model that comes out, and what its card says that `start` is.
    """

    name: str
    description: str
    architecture: UnrolledArchitecture
    seed: int = 1
    steps: int = 10_000
    batch: int = 1
    smallest: int = 96
    largest: int = 256
    largest_area: int = 160 * 192
    coils: int = 6
    rounds: tuple[tuple[int, int], ...] = ()
    learning_rate: float = 4e-4
    decay: float = 0.3
    average: float = 0.999
    earlier: float = 0.1
    inside: bool = False
    small: float = 0.0
    shapes: float = 0.0
    anatomy: str = "head"
    evaluate_every: int = 500
    evaluation_frames: int = 24
    checkpoint_every: int = 250
    precision: str = "bfloat16"
    data_workers: int = 1
    start: str = ""
    only: str = ""
    version: str = "1"
    origin: str = ""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "smallest", "coils", "evaluate_every", "evaluation_frames", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise TrainingConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.largest < self.smallest or self.smallest**2 > self.largest_area:
            raise TrainingConfigError("need smallest <= largest and smallest x smallest <= largest_area")
        if not 2 <= self.coils <= self.architecture.coils:
            raise TrainingConfigError(
                f"coils must be from 2 to the network's {self.architecture.coils}, got {self.coils}"
            )
        if self.precision not in {"float32", "bfloat16"}:
            raise TrainingConfigError(f"precision must be 'float32' or 'bfloat16', got {self.precision!r}")
        self._check_start()
        if not 0 <= self.small <= 1 or not 0 <= self.shapes <= 1:
            raise TrainingConfigError(f"small and shapes must be from 0 to 1, got {self.small} and {self.shapes}")
        if not 0 <= self.average < 1 or not 0 <= self.decay <= 1 or self.learning_rate <= 0:
            raise TrainingConfigError("need 0 <= average < 1, 0 <= decay <= 1 and learning_rate > 0")
        for start, rounds in self.rounds:
            if start < 0 or not 1 <= rounds <= self.architecture.rounds:
                raise TrainingConfigError(
                    f"rounds holds [from step, rounds] with 1 to {self.architecture.rounds} rounds, got {[start, rounds]}"
                )

    def _check_start(self) -> None:
        if self.start and not self.origin:
            raise TrainingConfigError("origin must say what the weights in start are, for the model card")
        if self.only not in {"", "deviation"}:
            raise TrainingConfigError(f"only must be empty or 'deviation', got {self.only!r}")
        if self.only and not (self.start and self.architecture.deviation):
            raise TrainingConfigError(
                "to train deviations, start must name weights and the architecture have a deviation"
            )

    @classmethod
    def read(cls, path: Path) -> TrainingConfig:
        """Read a TOML file.

        Raises
        ------
        TrainingConfigError
            The file is missing, is not TOML, or a field is unknown or out of range.
        """
        try:
            data = tomllib.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise TrainingConfigError(f"{path} cannot be read: {error}") from error
        if start := data.get("start"):
            data["start"] = str((path.parent / str(start)).resolve())
        try:
            return cls.from_json(data)
        except (TypeError, ValueError) as error:
            raise TrainingConfigError(f"{path}: {error}") from error

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TrainingConfig:
        """Return what `to_json` described.

        Raises
        ------
        TrainingConfigError
            A field is missing, unknown or out of range.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise TrainingConfigError(f"unknown fields {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        if missing := sorted({"name", "description", "architecture"} - set(data)):
            raise TrainingConfigError(f"missing fields: {', '.join(missing)}")
        rounds = tuple((int(start), int(number)) for start, number in data.get("rounds", ()))
        return cls(
            **{
                **data,
                "architecture": UnrolledArchitecture.from_json(data["architecture"]),
                "rounds": rounds,
            }
        )

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of plain values."""
        return asdict(self) | {
            "architecture": self.architecture.to_json(),
            "rounds": [list(stage) for stage in self.rounds],
        }

    def rounds_at(self, step: int) -> int:
        """Return how many rounds the network makes in a step."""
        stages = [rounds for start, rounds in self.rounds if start <= step]
        return stages[-1] if stages else self.architecture.rounds

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step: up over the first 200, level, and linearly down to zero at the end."""
        falling = max(1.0, self.decay * self.steps)
        return self.learning_rate * min(1.0, (step + 1) / 200, (self.steps - step) / falling)
