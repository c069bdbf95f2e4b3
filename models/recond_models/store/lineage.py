"""How a model came to be: what it was trained with, on what, from what, and how well it did."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Lineage:
    """How a model came to be; empty where that was not stated.

    Parameters
    ----------
    parent
        The model whose weights it began with, as ``NAME@VERSION`` or in words.
    hyperparameters
        By name: plain values, or lists and objects of such.
    metrics
        Figures of its evaluation by name.
    data
        What it was trained and evaluated on: one object of plain values a source.

    Raises
    ------
    ValueError
        A field is of another type.
    """

    parent: str = ""
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    data: tuple[dict[str, Scalar], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.parent, str) or not isinstance(self.hyperparameters, dict):
            raise ValueError("a lineage has a parent, which is text, and hyperparameters, which are an object")  # noqa: TRY004 - as documented
        if not isinstance(self.metrics, dict) or not all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in self.metrics.values()
        ):
            raise ValueError(f"the metrics of a lineage are an object of numbers, got {self.metrics!r}")
        if not all(isinstance(source, dict) for source in self.data):
            raise ValueError(f"the data of a lineage are a list of objects, got {self.data!r}")

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of plain values."""
        return asdict(self) | {"data": list(self.data)}

    @classmethod
    def from_json(cls, data: object) -> Lineage:
        """Return what `to_json` described; fields may be missing.

        Raises
        ------
        ValueError
            It is no object, or has unknown fields or fields of another type.
        """
        known = {entry.name for entry in fields(cls)}
        if not isinstance(data, dict) or not set(data) <= known:
            raise ValueError(f"a lineage is an object with some of the fields {', '.join(sorted(known))}")
        sources = data.get("data", [])
        if not isinstance(sources, list):
            raise ValueError(f"the data of a lineage are a list of objects, got {sources!r}")  # noqa: TRY004 - as documented
        return cls(**{**data, "data": tuple(sources)})
