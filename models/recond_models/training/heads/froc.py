"""The free-response curve: how many lesions are found against how many that are none (Bunch et al. 1978, doi:10.1117/12.955926)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Matched:
    """What was found in a volume, against the truth.

    Parameters
    ----------
    volumes_ml
        Of the true lesions.
    found_with
        Confidence of the most confident detection that touches each of them; minus infinity if none does.
    found_ml
        Volume of all detections that touch it.
    false
        Confidences of detections that touch none.
    """

    volumes_ml: tuple[float, ...]
    found_with: tuple[float, ...]
    found_ml: tuple[float, ...]
    false: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """A point of the curve.

    Parameters
    ----------
    confidence
        Least one that counts.
    false_positives
        In a volume, on average.
    sensitivity
        Share of the true lesions that are found.
    """

    confidence: float
    false_positives: float
    sensitivity: float


def match(
    truth: NDArray[np.integer], labels: NDArray[np.integer], confidences: Sequence[float], voxel_ml: float
) -> Matched:
    """Match detections with the truth by overlap.

    Parameters
    ----------
    truth, labels
        (slices, rows, columns): numbers of true and of detected lesions, 0 for none.
    confidences
        Of the detections 1, 2, ...
    voxel_ml
        Volume of a voxel.

    Raises
    ------
    ValueError
        The shapes differ, or a detection has no confidence.
    """
    if truth.shape != labels.shape:
        raise ValueError(f"truth {truth.shape} and detections {labels.shape} have different shapes")
    if int(labels.max(initial=0)) > len(confidences):
        raise ValueError(f"{int(labels.max())} detections have {len(confidences)} confidences")
    sizes = np.bincount(labels.ravel(), minlength=len(confidences) + 1)
    volumes, found, found_ml, right = [], [], [], set[int]()
    for number in np.unique(truth[truth > 0]):
        inside = truth == number
        touching = [int(label) for label in np.unique(labels[inside]) if label]
        right.update(touching)
        volumes.append(float(inside.sum()) * voxel_ml)
        found.append(max((confidences[label - 1] for label in touching), default=-np.inf))
        found_ml.append(float(sum(sizes[label] for label in touching)) * voxel_ml)
    false = [value for label, value in enumerate(confidences, start=1) if label not in right]
    return Matched(tuple(volumes), tuple(found), tuple(found_ml), tuple(false))


def curve(matches: Sequence[Matched], smallest_ml: float = 0.0, largest_ml: float = float("inf")) -> list[Point]:
    """Return the curve over some volumes, from the most confident detection on.

    Parameters
    ----------
    matches
        One for each volume, those without lesions too.
    smallest_ml, largest_ml
        True lesions outside this range do not count; false detections always do.

    Raises
    ------
    ValueError
        There is no volume, or no lesion in the range.
    """
    found = np.array(
        [
            confidence
            for each in matches
            for confidence, volume in zip(each.found_with, each.volumes_ml, strict=True)
            if smallest_ml <= volume < largest_ml
        ]
    )
    if not matches or found.size == 0:
        raise ValueError("a curve needs volumes with lesions of the size")
    false = np.array([value for each in matches for value in each.false])
    levels = np.unique(np.concatenate([found[np.isfinite(found)], false]))[::-1]
    return [
        Point(float(level), float((false >= level).sum() / len(matches)), float((found >= level).mean()))
        for level in levels
    ]


def sensitivity_at(points: Sequence[Point], false_positives: float) -> float:
    """Return the best sensitivity with at most so many false positives a volume; 0 if there is none."""
    return max((point.sensitivity for point in points if point.false_positives <= false_positives), default=0.0)
