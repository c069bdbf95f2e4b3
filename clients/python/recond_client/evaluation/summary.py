"""Means over volumes, as the fastMRI challenge reported them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from recond_client.evaluation.scores import Score


@dataclass(frozen=True, slots=True)
class Mean:
    """Mean of a figure over volumes, each of which weighs the same, and twice the sample standard deviation.

    Parameters
    ----------
    mean
        Mean over the volumes.
    two_std
        Twice the standard deviation with ``n - 1``; None for a single volume.
    volumes
        How many there are.
    """

    mean: float
    two_std: float | None
    volumes: int


@dataclass(frozen=True, slots=True)
class Group:
    """A model on some data.

    Parameters
    ----------
    model, version
        What was asked for; the versions that ran, joined by commas.
    sampling
        As in `Score`.
    acquisition
        Acquisition, or ``"all"``.
    volumes, slices
        How many were scored.
    ssim, psnr, nmse
        Figures, None where no volume has one.
    seconds_per_slice
        Time in the model.
    ssim_object, psnr_object, nmse_object
        Figures inside the object.
    """

    model: str
    version: str
    sampling: str
    acquisition: str
    volumes: int
    slices: int
    ssim: Mean | None
    psnr: Mean | None
    nmse: Mean | None
    seconds_per_slice: float
    ssim_object: Mean | None
    psnr_object: Mean | None
    nmse_object: Mean | None

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of plain values."""
        return asdict(self)


def summarise(scores: Sequence[Score]) -> list[Group]:
    """Group scores by model and sampling: all volumes, then, where there are several, each acquisition.

    Parameters
    ----------
    scores
        One of each volume, model and sampling.

    Returns
    -------
    list of Group
        In the order in which models and samplings appear; acquisitions in the order of their names.
    """
    groups = []
    for asked, sampling in dict.fromkeys((score.asked, score.sampling) for score in scores):
        chosen = [score for score in scores if (score.asked, score.sampling) == (asked, sampling)]
        groups.append(_group(chosen, "all"))
        acquisitions = sorted({score.acquisition for score in chosen})
        if len(acquisitions) > 1:
            groups += [_group([score for score in chosen if score.acquisition == name], name) for name in acquisitions]
    return groups


def _group(scores: Sequence[Score], acquisition: str) -> Group:
    first = scores[0]
    slices = sum(score.slices for score in scores)
    return Group(
        model=first.asked,
        version=", ".join(sorted({score.version for score in scores})),
        sampling=first.sampling,
        acquisition=acquisition or "none",
        volumes=len(scores),
        slices=slices,
        ssim=_mean([score.ssim for score in scores]),
        psnr=_mean([score.psnr for score in scores]),
        nmse=_mean([score.nmse for score in scores]),
        seconds_per_slice=sum(score.seconds for score in scores) / max(slices, 1),
        ssim_object=_mean([score.ssim_object for score in scores]),
        psnr_object=_mean([score.psnr_object for score in scores]),
        nmse_object=_mean([score.nmse_object for score in scores]),
    )


def _mean(values: Sequence[float | None]) -> Mean | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    return Mean(statistics.fmean(known), 2 * statistics.stdev(known) if len(known) > 1 else None, len(known))
