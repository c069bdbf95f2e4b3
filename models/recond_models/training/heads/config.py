"""What `recond train` reads for a head: a TOML file that says ``head = ...``."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from recond_models.training.config import TrainingConfigError


@dataclass(frozen=True, slots=True)
class HeadTrainingConfig:
    """How to train a head.

    Parameters
    ----------
    head
        Which generator makes the samples: ``"tissue"``.
    name, version, description
        Of the head that comes out.
    architecture
        Arguments of `recond_models.heads.network.SliceUNet` beside the numbers of slices and classes.
    seed
        Of weights and samples: the same seed gives the same samples in the same order.
    steps
        Updates of the weights in all.
    batch
        Samples in a step.
    size
        Rows and columns of a sample.
    learning_rate
        Of AdamW, after a short warm-up.
    weight_decay
        Of AdamW.
    decay
        Part of the steps, at the end, in which the learning rate falls to zero.
    easy_steps
        Steps at the beginning in which samples are good scans of usual contrasts, where the generator makes such: what the network
        learns from these it needs for all others.
    bank
        Folder of stacks that recond has reconstructed (`recond_models.training.heads.reconstructed`) within that of the training
        volumes; empty for none.
    average
        Decay of the exponential moving average of the weights, which is what is evaluated and saved.
    evaluate_every
        Steps between evaluations on held-out subjects.
    evaluation_samples
        Samples of an evaluation, always the same.
    checkpoint_every
        Steps between checkpoints.
    precision
        ``"bfloat16"``: of the convolutions; weights and all else are float32.
    start, origin
        Weights of another head to begin with, a safetensors file beside the configuration or an absolute path, and what they are.
        What has another shape, as the last layer of a head with other classes, begins at random.
    """

    head: str
    name: str
    description: str
    version: str = "1"
    architecture: dict[str, Any] = field(default_factory=dict)
    seed: int = 1
    steps: int = 10_000
    batch: int = 8
    size: tuple[int, int] = (160, 160)
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    decay: float = 0.3
    easy_steps: int = 0
    bank: str = ""
    average: float = 0.999
    evaluate_every: int = 500
    evaluation_samples: int = 64
    checkpoint_every: int = 100
    precision: str = "bfloat16"
    start: str = ""
    origin: str = ""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "evaluate_every", "evaluation_samples", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise TrainingConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.easy_steps < 0:
            raise TrainingConfigError(f"easy_steps must be at least 0, got {self.easy_steps}")
        if len(self.size) != 2 or min(self.size) < 16:
            raise TrainingConfigError(f"size holds rows and columns, at least 16, got {self.size}")
        if self.precision not in {"float32", "bfloat16"}:
            raise TrainingConfigError(f"precision must be 'float32' or 'bfloat16', got {self.precision!r}")
        if not 0 <= self.average < 1 or not 0 <= self.decay <= 1 or self.learning_rate <= 0:
            raise TrainingConfigError("need 0 <= average < 1, 0 <= decay <= 1 and learning_rate > 0")
        if self.start and not self.origin:
            raise TrainingConfigError("origin must say what the weights in start are, for the model card")

    @classmethod
    def read(cls, path: Path) -> HeadTrainingConfig:
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
    def from_json(cls, data: dict[str, Any]) -> HeadTrainingConfig:
        """Return what `to_json` described.

        Raises
        ------
        TrainingConfigError
            A field is missing, unknown or out of range.
        """
        known = {each.name for each in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise TrainingConfigError(f"unknown fields {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        if missing := sorted({"head", "name", "description"} - set(data)):
            raise TrainingConfigError(f"missing fields: {', '.join(missing)}")
        given = dict(data)
        if "size" in given:
            given["size"] = tuple(given["size"])
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of plain values."""
        return asdict(self) | {"size": list(self.size)}

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step: up over the first 200, level, and linearly down to zero at the end."""
        falling = max(1.0, self.decay * self.steps)
        return self.learning_rate * min(1.0, (step + 1) / 200, (self.steps - step) / falling)


def names_head(path: Path) -> bool:
    """Tell whether a TOML file configures the training of a head."""
    try:
        return "head" in tomllib.loads(path.read_text())
    except (OSError, ValueError):
        return False
