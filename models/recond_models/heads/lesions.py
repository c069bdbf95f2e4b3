"""From the probability of lesion in every voxel to single lesions, each with a confidence."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FEATURES = ("intercept", "peak", "mean", "volume", "slices")
"""What the confidence of a lesion follows from: logit of its most probable voxels and of all, ln of its volume in mm3, ln of the
number of slices that show it."""

_TOP_SHARE = 0.2
_LARGEST_HOLE_MM2 = 500.0
_SURE = 6.0
_BYTES = 255


@dataclass(frozen=True, slots=True)
class DetectionRules:
    """What counts as a lesion.

    Parameters
    ----------
    extent
        Voxels of at least this probability belong to a lesion.
    seed
        A lesion has a voxel of at least this probability.
    smallest_mm3
        Smaller ones do not count.
    confidence
        Less confident ones do not count.
    gap_mm
        Parts that are no further from each other are one lesion.
    coefficients
        Of a logistic regression on `FEATURES`, which gives the confidence.
    confidences
        In place of `confidence` for lesions of kind 1, 2, and so on, where kinds are known.
    """

    extent: float = 0.5
    seed: float = 0.6
    smallest_mm3: float = 15.0
    confidence: float = 0.0
    gap_mm: float = 2.0
    coefficients: tuple[float, ...] = (0.0, 1.0, 0.0, 0.0, 0.0)
    confidences: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.extent <= self.seed <= 1:
            raise ValueError(f"need 0 < extent <= seed <= 1, got {self.extent} and {self.seed}")
        if self.smallest_mm3 < 0 or self.gap_mm < 0:
            raise ValueError(f"smallest_mm3 and gap_mm are at least 0, got {self.smallest_mm3} and {self.gap_mm}")
        if len(self.coefficients) != len(FEATURES):
            raise ValueError(f"there are {len(FEATURES)} coefficients, got {len(self.coefficients)}")

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> DetectionRules:
        """Return what `to_json` described.

        Raises
        ------
        ValueError
            A field is unknown or out of range.
        """
        try:
            tuples = {name: tuple(data.get(name, getattr(cls(), name))) for name in ("coefficients", "confidences")}
            return cls(**data | tuples)
        except TypeError as error:
            raise ValueError(f"rules of the detection of lesions: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of plain values."""
        return asdict(self) | {"coefficients": list(self.coefficients), "confidences": list(self.confidences)}

    def least_confidence(self, kind: int) -> float:
        """Return how confident a lesion of a kind has to be, 0 for an unknown kind."""
        return self.confidences[kind - 1] if 1 <= kind <= len(self.confidences) else self.confidence


@dataclass(frozen=True, slots=True)
class Candidate:
    """What may be a lesion.

    Parameters
    ----------
    volume_mm3
        Of its voxels.
    features
        Values of `FEATURES`.
    confidence
        How probable it is that it is one, 0 to 1.
    kind
        What most of its voxels are, from 1 on; 0 where that is not known.
    """

    volume_mm3: float
    features: tuple[float, ...]
    confidence: float
    kind: int = 0


@dataclass(frozen=True, slots=True)
class Detection:
    """Lesions of a volume.

    Parameters
    ----------
    labels
        uint16 (slices, rows, columns): 0, or the number of a lesion, from 1 on in the order of `lesions`.
    lesions
        Largest first.
    """

    labels: NDArray[np.uint16]
    lesions: tuple[Candidate, ...]


def detect(
    probability: NDArray[np.uint8],
    spacing: tuple[float, float, float],
    rules: DetectionRules | None = None,
    kinds: NDArray[np.uint8] | None = None,
) -> Detection:
    """Find the lesions of a volume.

    Parameters
    ----------
    probability
        uint8 (slices, rows, columns): probability of lesion in 1/255, over all classes of lesions.
    spacing
        Distance of slices, of rows and of columns, mm.
    rules
        What counts; the usual ones if None.
    kinds
        uint8 (slices, rows, columns): the most probable kind of lesion of each voxel, from 1 on; None where kinds are not known.

    Raises
    ------
    ValueError
        The probabilities are not a volume of uint8, the kinds are not of its shape, or the spacing is not positive.
    """
    if probability.ndim != 3 or probability.dtype != np.uint8:
        raise ValueError(
            f"probabilities are uint8 (slices, rows, columns), got {probability.dtype} of shape {probability.shape}"
        )
    if kinds is not None and kinds.shape != probability.shape:
        raise ValueError(f"kinds of shape {kinds.shape} for probabilities of shape {probability.shape}")
    if len(spacing) != 3 or not all(np.isfinite(step) and step > 0 for step in spacing):
        raise ValueError(f"distances of slices, rows and columns are positive mm, got {spacing}")
    rules = rules or DetectionRules()
    within = _filled(probability >= _level(rules.extent), spacing[1] * spacing[2])
    numbers, count = ndimage.label(_joined(within, spacing, rules.gap_mm), np.ones((3, 3, 3)))
    numbers = np.where(within, numbers, 0)
    found: list[tuple[Candidate, int]] = []
    for number, window in enumerate(ndimage.find_objects(numbers, count), start=1):
        if window is None:
            continue
        inside = numbers[window] == number
        kind = 0 if kinds is None else _most(kinds[window][inside])
        candidate = _candidate(probability[window], inside, spacing, rules, kind)
        if candidate is not None:
            found.append((candidate, number))
    found.sort(key=lambda pair: -pair[0].volume_mm3)
    table = np.zeros(count + 1, dtype=np.uint16)
    for place, (_, number) in enumerate(found, start=1):
        table[number] = place
    return Detection(table[numbers], tuple(candidate for candidate, _ in found))


def _candidate(
    probability: NDArray[np.uint8],
    inside: NDArray[np.bool_],
    spacing: tuple[float, float, float],
    rules: DetectionRules,
    kind: int,
) -> Candidate | None:
    """Return what a connected part is, or None if it does not count."""
    values = np.sort(probability[inside])[::-1].astype(np.float64) / _BYTES
    volume = float(values.size * np.prod(spacing))
    if volume < rules.smallest_mm3 or values[0] < rules.seed:
        return None
    top = values[: max(1, round(_TOP_SHARE * values.size))]
    slices = int(inside.any(axis=(1, 2)).sum())
    features = (
        1.0,
        _logit(float(top.mean())),
        _logit(float(values.mean())),
        float(np.log(volume)),
        float(np.log(slices)),
    )
    total = float(np.dot(features, rules.coefficients))
    confidence = 1 / (1 + float(np.exp(-np.clip(total, -50, 50))))
    return Candidate(volume, features, confidence, kind) if confidence >= rules.least_confidence(kind) else None


def _most(kinds: NDArray[np.uint8]) -> int:
    """Return the most frequent kind above 0, 0 if there is none: in a filled core nothing is above 0."""
    counts = np.bincount(kinds.ravel(), minlength=2)[1:]
    return int(counts.argmax()) + 1 if counts.any() else 0


def _filled(within: NDArray[np.bool_], pixel_mm2: float) -> NDArray[np.bool_]:
    """Fill holes of each slice: a core that a rim encloses belongs to the lesion, but not all that something thin runs around."""
    filled = within.copy()
    for number in np.flatnonzero(within.any(axis=(1, 2))):
        holes, count = ndimage.label(ndimage.binary_fill_holes(within[number]) & ~within[number])
        if count:
            areas = np.bincount(holes.ravel()) * pixel_mm2
            areas[0] = np.inf
            filled[number] |= areas[holes] <= _LARGEST_HOLE_MM2
    return filled


def _joined(within: NDArray[np.bool_], spacing: tuple[float, float, float], gap_mm: float) -> NDArray[np.bool_]:
    """Return what is within half the gap of something, so that near parts touch."""
    if gap_mm <= 0 or not within.any():
        return within
    windows = ndimage.find_objects(within.astype(np.uint8))[0]
    margin = [int(np.ceil(gap_mm / step)) + 1 for step in spacing]
    window = tuple(
        slice(max(part.start - width, 0), part.stop + width) for part, width in zip(windows, margin, strict=True)
    )
    joined = within.copy()
    joined[window] |= ndimage.distance_transform_edt(~within[window], sampling=spacing) <= gap_mm / 2
    return joined


def _level(share: float) -> int:
    """Return a probability as a byte, at least 1."""
    return max(1, int(np.ceil(share * _BYTES - 1e-9)))


def _logit(probability: float) -> float:
    clipped = min(max(probability, 1e-6), 1 - 1e-6)
    return float(np.clip(np.log(clipped / (1 - clipped)), -_SURE, _SURE))
