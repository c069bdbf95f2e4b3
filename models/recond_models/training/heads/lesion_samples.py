"""Samples that the `lesion` head is trained on: heads, measured and painted, with lesions put in or known, or without any."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recond_models.training.heads.acquisition import acquire
from recond_models.training.heads.bank import LesionHead
from recond_models.training.heads.looks import Weighting
from recond_models.training.heads.planning import look_of, plan
from recond_models.training.heads.samples import IGNORED, Sample
from recond_models.training.heads.scenes import compose
from recond_models.training.heads.stacks import SLICES, draw_stack

CLASSES = ("none", "enhancing lesion", "bright lesion")
"""Bright on T1 after contrast, with the core that it encloses; bright on FLAIR or T2, oedema included."""

NONE, ENHANCED, BRIGHT = range(3)

SEVERITY = 0.6
"""Worst scans, see `acquire`: in worse ones small lesions would drown."""

CLIPPED = 3.0
"""Brighter than so many times white matter is nothing, or noise, which is relative to it, would drown all else."""

PRESENT = 0.5
"""This share of a voxel is a lesion."""

# Less than this is none; in between nobody knows.
_ABSENT = 0.3
_WEIGHTINGS: tuple[tuple[Weighting, float], ...] = (("t1post", 0.52), ("flair", 0.27), ("t2", 0.14), ("t1", 0.07))
_LABELS_SHARE = 0.45


class LesionSamples:
    """Samples of the `lesion` head, whose classes are `CLASSES`.

    Parameters
    ----------
    heads
        What lesions are put into.
    size
        Rows and columns of the samples.
    easy
        Good scans, and nearly always with a lesion of at least half a ml.

    Raises
    ------
    ValueError
        No head shows any of the contrasts.
    """

    def __init__(self, heads: Sequence[LesionHead], size: tuple[int, int] = (160, 160), *, easy: bool = False) -> None:
        self._size, self._easy = size, easy
        self._heads = {weighting: serving(heads, weighting) for weighting, _ in _WEIGHTINGS}
        if not any(self._heads.values()):
            raise ValueError("no head to put lesions into: prepare the heads first")

    @property
    def classes(self) -> int:
        """Classes in the targets."""
        return len(CLASSES)

    def draw(self, generator: np.random.Generator) -> Sample:
        """Return a sample; the same generator state gives the same sample."""
        weighting, head = self._choose(generator)
        look = look_of(generator, head, weighting)
        planned = plan(generator, head, weighting, easy=self._easy)
        stack = draw_stack(generator, head, planned[0].place if planned else None, self._size)
        scene = compose(generator, head, look, stack, planned)
        image = acquire(generator, np.minimum(scene.image, CLIPPED * look.white), self._severity(generator))
        share = scene.share[SLICES // 2]
        target = np.where(share >= PRESENT, ENHANCED if weighting == "t1post" else BRIGHT, NONE).astype(np.uint8)
        target[(share > _ABSENT) & (share < PRESENT)] = IGNORED
        if not scene.known:
            target[share > 0] = IGNORED
        turns = int(generator.integers(4)) if self._size[0] == self._size[1] else 2 * int(generator.integers(2))
        image, target = np.rot90(image, turns, (1, 2)), np.rot90(target, turns)
        if generator.random() < 0.5:
            image, target = image[:, ::-1], target[::-1]
        if generator.random() < 0.5:
            image = image[::-1]
        return Sample(np.ascontiguousarray(image), np.ascontiguousarray(target))

    def _severity(self, generator: np.random.Generator) -> float:
        return float(generator.uniform(0, 0.2 if self._easy else SEVERITY))

    def _choose(self, generator: np.random.Generator) -> tuple[Weighting, LesionHead]:
        """Draw a contrast and a head that can show it."""
        names, shares = zip(*((name, share) for name, share in _WEIGHTINGS if self._heads[name]), strict=True)
        weighting: Weighting = names[int(generator.choice(len(names), p=np.asarray(shares) / sum(shares)))]
        heads = self._heads[weighting]
        maps = [head for head in heads if head.contrast == "labels"]
        measured = [head for head in heads if head.contrast != "labels"]
        chosen = maps if maps and (not measured or generator.random() < _LABELS_SHARE) else measured
        # Thick slices and bare brains are many and alike.
        weights = np.array([0.4 if head.thick or head.extra == "lesion" else 1.0 for head in chosen])
        return weighting, chosen[int(generator.choice(len(chosen), p=weights / weights.sum()))]


def serving(heads: Sequence[LesionHead], weighting: Weighting) -> list[LesionHead]:
    """Return the heads that can show a contrast: contrast agent is put into T1-weighted heads."""
    measured = {"t1post": {"t1", "t1post"}, "t1": {"t1"}, "flair": {"flair"}, "t2": {"t2"}}[weighting]
    return [head for head in heads if head.contrast == "labels" or head.contrast in measured]
