"""The loss of a segmentation, and how good one is.

MONAI's `DiceCELoss` is the same sum, but cannot leave out pixels whose class nobody knows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recond_models.training.heads.samples import IGNORED

_SMOOTH = 1.0


def dice_and_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return one minus the mean soft Dice of the classes in a batch, plus the mean cross entropy.

    Milletari et al. 2016 (arXiv:1606.04797), over all pixels of the batch together, so that a class that a slice has hardly any of
    does not rule; the sum after Isensee et al. 2021 (nnU-Net, doi:10.1038/s41592-020-01008-z).

    Parameters
    ----------
    logits
        float32 (batch, classes, rows, columns).
    targets
        int64 (batch, rows, columns): classes, or `IGNORED`.
    """
    classes = logits.shape[1]
    known = (targets != IGNORED).to(logits)
    places = torch.where(targets != IGNORED, targets, 0)
    logarithms = torch.log_softmax(logits, dim=1)
    right = logarithms.gather(1, places[:, None])[:, 0] * known
    entropy = -right.sum() / known.sum().clamp(min=1)
    probable = logarithms.exp() * known[:, None]
    overlap = logits.new_zeros(classes).scatter_add(0, places.flatten(), (right.exp() * known).flatten())
    true = logits.new_zeros(classes).scatter_add(0, places.flatten(), known.flatten())
    dice = (2 * overlap + _SMOOTH) / (probable.sum(dim=(0, 2, 3)) + true + _SMOOTH)
    there = true > 0
    there[0] = False  # background is easy
    if not bool(there.any()):
        return entropy
    return entropy + 1 - dice[there].mean()


class DiceCounter:
    """Counts pixels of each class.

    Parameters
    ----------
    classes
        How many there are.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._table = torch.zeros(classes, classes, dtype=torch.int64)

    def add(self, labels: Tensor, targets: Tensor) -> None:
        """Count pixels of integer labels and targets of one shape; `IGNORED` targets do not count."""
        known = targets != IGNORED
        pairs = targets[known].to(torch.int64) * self.classes + labels[known].to(torch.int64)
        self._table += torch.bincount(pairs, minlength=self.classes**2).reshape(self.classes, self.classes).cpu()

    def scores(self) -> list[float]:
        """Return the Dice coefficient of each class over all that was counted; NaN where a class is nowhere."""
        both = self._table.sum(dim=0) + self._table.sum(dim=1)
        return [
            float(2 * self._table[number, number] / both[number]) if both[number] else float("nan")
            for number in range(self.classes)
        ]
