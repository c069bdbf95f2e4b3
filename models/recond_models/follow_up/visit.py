"""One visit of a patient: a scan, and what heads found in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date as Date  # noqa: N812 - a field is called date
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recond_models.follow_up.errors import VisitError
from recond_models.heads.measurements import Grid, Labels

Kind = Literal["lesions", "structures"]


@dataclass(frozen=True, slots=True, eq=False)
class HeadResult:
    """The label map of a head.

    Parameters
    ----------
    kind
        ``"lesions"``: separate things that are counted and followed one by one; ``"structures"``: parts that everybody has.
    labels
        Integers (slices, rows, columns) on the grid of the visit: numbered lesions or a mask; numbers of structures.
    names
        Of structures; empty for lesions.
    probabilities
        (slices, rows, columns) each, by the name of the structure, or by ``"lesion"``.
    """

    kind: Kind
    labels: NDArray[Any]
    names: Labels = field(default_factory=dict)
    probabilities: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Visit:
    """A scan of a patient with the results of heads.

    Parameters
    ----------
    name
        Of the visit in reports, such as a file name or a study number.
    image
        Real (slices, rows, columns), any scale.
    grid
        Where its voxels lie.
    heads
        Results by the name of the head, on the grid of the image.
    date
        Of the scan; None if unknown: changes then have no rate.
    patient
        Pseudonym; empty if unknown.
    brain
        bool, shape of the image: brain mask; None if no head made one.

    Raises
    ------
    VisitError
        The image is no volume, or a result is not on its grid.
    """

    name: str
    image: NDArray[Any]
    grid: Grid
    heads: Mapping[str, HeadResult] = field(default_factory=dict)
    date: Date | None = None
    patient: str = ""
    brain: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.dtype.kind == "c":
            raise VisitError(
                f"the image of visit {self.name} must be real with slices, rows and columns, "
                f"got {self.image.dtype} {self.image.shape}"
            )
        for name, head in self.heads.items():
            self._check(head.labels, f"the label map of head {name}")
            if head.kind == "structures" and not head.names:
                raise VisitError(f"head {name} of visit {self.name} has structures without names")
            for part, values in head.probabilities.items():
                self._check(values, f"the probability of {part} of head {name}")
        if self.brain is not None:
            self._check(self.brain, "the brain mask")

    def _check(self, values: NDArray[Any], name: str) -> None:
        if values.shape != self.image.shape:
            raise VisitError(
                f"{name} of visit {self.name} has the shape {values.shape}, its image {self.image.shape}: both lie on one grid"
            )

    @property
    def structures(self) -> HeadResult | None:
        """The first head with structures: lesions are located by it."""
        return next((head for head in self.heads.values() if head.kind == "structures"), None)
