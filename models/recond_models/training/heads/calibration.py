"""The temperature at which the probabilities of a head are as high as it is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

from recond_models.training.heads.samples import IGNORED, Sample

_TEMPERATURES = np.exp(np.linspace(np.log(0.5), np.log(3.0), 25))
_BINS = 15
_OBJECT = 0.1


@torch.no_grad()
def calibrate(network: Callable[[Tensor], Tensor], samples: Sequence[Sample]) -> tuple[float, float, float]:
    """Choose the temperature with the smallest cross entropy on held-out samples.

    Guo et al. 2017, arXiv:1706.04599. Pixels of the object count: about the air around it nobody is in doubt.

    Parameters
    ----------
    network
        Returns logits, float32 (batch, classes, rows, columns).
    samples
        Held-out samples.

    Returns
    -------
    temperature
        To divide logits by.
    before, after
        Expected calibration error at 1 and at this temperature: mean difference of confidence and share of right labels.
    """
    logits, targets = [], []
    for sample in samples:
        made = network(torch.from_numpy(sample.image)[None])[0].flatten(1).T
        target = torch.from_numpy(sample.target).flatten().to(torch.int64)
        bright = torch.from_numpy(sample.image[len(sample.image) // 2]).flatten() > _OBJECT
        counts = (target != IGNORED) & bright
        logits.append(made[counts])
        targets.append(target[counts])
    all_logits, all_targets = torch.cat(logits), torch.cat(targets)
    losses = [float(nnf.cross_entropy(all_logits / value, all_targets)) for value in _TEMPERATURES]
    best = float(_TEMPERATURES[int(np.argmin(losses))])
    return best, _error(all_logits, all_targets), _error(all_logits / best, all_targets)


def _error(logits: Tensor, targets: Tensor) -> float:
    """Return the expected calibration error."""
    confidence, labels = torch.softmax(logits, dim=1).max(dim=1)
    right = (labels == targets).to(torch.float32)
    places = (confidence * _BINS).long().clamp(max=_BINS - 1)
    sums = torch.zeros(_BINS).index_add(0, places, right - confidence)
    return float(sums.abs().sum() / len(targets))
