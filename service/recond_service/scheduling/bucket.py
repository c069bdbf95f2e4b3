"""What frames have to share to share a batch."""

from __future__ import annotations

from dataclasses import dataclass

from recond_models.model import ModelInfo


@dataclass(frozen=True, slots=True)
class Bucket:
    """Frames of one bucket can be computed together, whatever their coils.

    Rows and columns have to be equal: padding them changes the image. Coils lie one after another in a batch and need no padding.

    Parameters
    ----------
    model, version, weights_sha256
        The model that reconstructs them.
    rows, columns
        Of their k-space.
    """

    model: str
    version: str
    weights_sha256: str
    rows: int
    columns: int

    @classmethod
    def of(cls, model: ModelInfo, rows: int, columns: int) -> Bucket:
        """Return the bucket of frames of that size."""
        return cls(model.name, model.version, model.weights_sha256, rows, columns)

    @property
    def pixels(self) -> int:
        """Rows times columns."""
        return self.rows * self.columns
