"""Samples that the `lesion` head is trained on: heads, measured and painted, with lesions put in or known, or without any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recond_models.training.heads.acquisition import acquire
from recond_models.training.heads.bank import LesionHead
from recond_models.training.heads.lesions import ENHANCING, Kind, Lesion, draw_lesion, draw_volume
from recond_models.training.heads.looks import Look, Weighting, draw_look
from recond_models.training.heads.paint import painted, put_in
from recond_models.training.heads.samples import IGNORED, Sample
from recond_models.training.heads.stacks import SLICES, Found, Stack, draw_stack, shown

CLASSES = ("none", "enhancing lesion", "bright lesion")
"""Bright on T1 after contrast, with the core that it encloses; bright on FLAIR or T2, oedema included."""

NONE, ENHANCED, BRIGHT = range(3)

FREE_SHARE = 0.3
"""How many samples have no lesion."""

_WEIGHTINGS: tuple[tuple[Weighting, float], ...] = (("t1post", 0.52), ("flair", 0.27), ("t2", 0.14), ("t1", 0.07))
_LABELS_SHARE = 0.45
_STRIPPED_SHARE = 0.25
_DISTRACTED_SHARE = 0.25
# Less than this share of a voxel is no lesion, more is one; in between nobody knows.
_ABSENT, _PRESENT = 0.3, 0.5
_MOST = 15
# Of white matter; and noise relative to that, or small lesions would drown.
_CLIPPED = 3.0
_NOISE = 0.07


@dataclass(frozen=True, slots=True)
class Drawn:
    """Lesions in slices before a scanner saw them.

    Parameters
    ----------
    image
        float32 (5, rows, columns), not negative.
    share
        float32 (5, rows, columns): how much of each voxel is lesion.
    known
        Whether `share` is the truth; False where the head may have lesions that nobody marked in this contrast.
    weighting
        The contrast.
    white
        Signal of white matter.
    stack
        Where the slices lie.
    lesions
        What was put in.
    """

    image: NDArray[np.float32]
    share: NDArray[np.float32]
    known: bool
    weighting: Weighting
    white: float
    stack: Stack
    lesions: tuple[Lesion, ...]


class LesionSamples:
    """Samples of the `lesion` head, whose classes are `CLASSES`.

    Parameters
    ----------
    heads
        What lesions are put into.
    size
        Rows and columns of the samples.

    Raises
    ------
    ValueError
        No head shows any of the contrasts.
    """

    def __init__(self, heads: Sequence[LesionHead], size: tuple[int, int] = (160, 160)) -> None:
        self._size = size
        self._heads = {weighting: _serving(heads, weighting) for weighting, _ in _WEIGHTINGS}
        if not any(self._heads.values()):
            raise ValueError("no head to put lesions into: prepare the heads first")

    @property
    def classes(self) -> int:
        """Classes in the targets."""
        return len(CLASSES)

    def draw(self, generator: np.random.Generator) -> Sample:
        """Return a sample; the same generator state gives the same sample."""
        drawn = self.draw_slices(generator)
        image = acquire(generator, np.minimum(drawn.image, _CLIPPED * drawn.white), _NOISE)
        share = drawn.share[SLICES // 2]
        target = np.where(share >= _PRESENT, ENHANCED if drawn.weighting == "t1post" else BRIGHT, NONE).astype(np.uint8)
        target[(share > _ABSENT) & (share < _PRESENT)] = IGNORED
        if not drawn.known:
            target[share > 0] = IGNORED
        turns = int(generator.integers(4)) if self._size[0] == self._size[1] else 2 * int(generator.integers(2))
        image, target = np.rot90(image, turns, (1, 2)), np.rot90(target, turns)
        if generator.random() < 0.5:
            image, target = image[:, ::-1], target[::-1]
        if generator.random() < 0.5:
            image = image[::-1]
        return Sample(np.ascontiguousarray(image), np.ascontiguousarray(target))

    def draw_slices(self, generator: np.random.Generator) -> Drawn:
        """Return slices before the scanner and the truth about them."""
        weighting, head = self._choose(generator)
        look = _look(generator, head, weighting)
        lesions, focus = _plan(generator, head, weighting)
        stack = draw_stack(generator, head, focus, self._size)
        inverse = np.linalg.inv(stack.strain)
        placed = [
            draw_lesion(generator, kind, volume, inverse @ place, None if axis is None else _unit(inverse @ axis))
            for kind, volume, place, axis in lesions
        ]
        placed = [lesion for lesion in placed if stack.window(lesion.centre, lesion.extent) is not None]
        points, found = shown(generator, head, stack, placed, look.table)
        image = painted(generator, head, found, look, stack)
        share = np.zeros_like(image)
        for lesion in placed:
            window = stack.window(lesion.centre, lesion.extent)
            assert window is not None  # noqa: S101  (lesions outside were left out above)
            parts = lesion.parts(points[(slice(None), *window)])
            put_in(generator, image[window], share[window], found.hull[window], lesion, parts, look)
        if weighting in {"t1post", "t1"} and generator.random() < _DISTRACTED_SHARE:
            self._distract(generator, head, stack, points, image, found, look)
        if head.extra == "lesion":
            np.maximum(share, found.extra, out=share)
        if generator.random() < _STRIPPED_SHARE:
            image = image * (found.hull > generator.uniform(0.3, 0.7))
        parts_of = (SLICES, len(stack.offsets), *self._size)
        known = head.extra != "lesion" or weighting in {"flair", "t2"}
        return Drawn(
            image.reshape(parts_of).mean(axis=1),
            share.reshape(parts_of).mean(axis=1),
            known,
            weighting,
            look.white,
            stack,
            tuple(placed),
        )

    @staticmethod
    def _distract(
        generator: np.random.Generator,
        head: LesionHead,
        stack: Stack,
        points: NDArray[np.float32],
        image: NDArray[np.float32],
        found: Found,
        look: Look,
    ) -> None:
        """Put in a dark lesion, which is none for this head: an old infarct, a plaque or oedema without enhancement."""
        kinds: tuple[Kind, ...] = ("infarct", "plaque", "glioma")
        kind = kinds[int(generator.integers(3))]
        place, axis = _site(generator, head, kind)
        middle = stack.strain @ stack.origin
        place = middle + 0.4 * (place - middle)
        lesion = draw_lesion(generator, kind, draw_volume(generator, 0.05, 30), np.linalg.solve(stack.strain, place), axis)
        window = stack.window(lesion.centre, lesion.extent)
        if window is None:
            return
        part = image[window]
        level = np.float32(look.fluid + generator.uniform(0, 0.85) * (look.white - look.fluid))
        amount = lesion.parts(points[(slice(None), *window)]).body * found.hull[window] * look.tissue(part)
        part += amount * np.minimum(level - part, 0)

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


def _serving(heads: Sequence[LesionHead], weighting: Weighting) -> list[LesionHead]:
    """Return the heads that can show a contrast: contrast agent is put into T1-weighted heads."""
    measured = {"t1post": {"t1", "t1post"}, "t1": {"t1"}, "flair": {"flair"}, "t2": {"t2"}}[weighting]
    return [head for head in heads if head.contrast == "labels" or head.contrast in measured]


def _look(generator: np.random.Generator, head: LesionHead, weighting: Weighting) -> Look:
    if head.contrast == "labels":
        return draw_look(generator, weighting)
    return Look(weighting, *head.levels)


def _plan(
    generator: np.random.Generator, head: LesionHead, weighting: Weighting
) -> tuple[list[tuple[Kind, float, NDArray[np.float64], NDArray[np.float64] | None]], NDArray[np.float64] | None]:
    """Draw what is put where: kind, ml, position in the head, axis; and the position that the slices go through."""
    if weighting == "t1" or generator.random() < FREE_SHARE:
        return [], None
    many = generator.random() < (0.3 if weighting == "t1post" else 0.5)
    count = int(generator.integers(3, _MOST + 1)) if many else int(generator.integers(1, 3))
    planned: list[tuple[Kind, float, NDArray[np.float64], NDArray[np.float64] | None]] = []
    for number in range(count):
        kind = _kind(generator, weighting, many)
        volume = draw_volume(generator, 0.05, 4.0) if many else draw_volume(generator, 0.1)
        if kind == "plaque":
            volume = draw_volume(generator, 0.03, 3.0)
        elif kind in {"glioma", "infarct"}:
            volume = draw_volume(generator, 0.5)
        place, axis = _site(generator, head, kind)
        if number and planned:
            # The others lie near the first, or the slices would seldom show them.
            place, axis = min((_site(generator, head, kind) for _ in range(4)), key=lambda drawn: _apart(drawn, planned[0][2]))
        planned.append((kind, volume, place, axis))
    return planned, planned[0][2]


def _kind(generator: np.random.Generator, weighting: Weighting, many: bool) -> Kind:
    if weighting == "t1post":
        shares = (0.55, 0.33, 0.0, 0.1, 0.02) if many else (0.27, 0.27, 0.12, 0.14, 0.2)
        return ENHANCING[int(generator.choice(len(ENHANCING), p=shares))]
    if many:
        return "plaque" if generator.random() < 0.85 else "infarct"
    kinds: tuple[Kind, ...] = ("plaque", "infarct", "glioma", "solid", "ring", "cyst", "meningioma")
    return kinds[int(generator.choice(len(kinds), p=(0.2, 0.2, 0.25, 0.12, 0.12, 0.05, 0.06)))]


def _site(
    generator: np.random.Generator, head: LesionHead, kind: Kind
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Draw a position for a lesion of a kind, and the axis that it is short or long along."""
    sites = {
        "meningioma": (("dura", 0.8), ("falx", 0.2)),
        "plaque": (("ventricle", 0.45), ("white", 0.3), ("junction", 0.15), ("fossa", 0.1)),
        "infarct": (("white", 0.4), ("junction", 0.4), ("any", 0.1), ("fossa", 0.1)),
    }.get(kind, (("any", 0.35), ("white", 0.2), ("junction", 0.27), ("fossa", 0.18)))
    names = [name for name, _ in sites if len(head.sites[name])] or ["any"]
    shares = np.array([dict(sites).get(name, 1.0) for name in names])
    name = names[int(generator.choice(len(names), p=shares / shares.sum()))]
    place = np.asarray(head.sites[name][generator.integers(len(head.sites[name]))], dtype=np.float64)
    place = place + generator.normal(0, 0.7, 3)
    axis = {"dura": _unit(place), "falx": np.array([1.0, 0.0, 0.0])}.get(name)
    if name == "ventricle":
        axis = _unit(place * [1, 0.3, 0.3])
    return place, axis


def _apart(drawn: tuple[NDArray[np.float64], NDArray[np.float64] | None], first: NDArray[np.float64]) -> float:
    return float(np.abs(drawn[0] - first).min())


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / max(float(np.linalg.norm(vector)), 1e-6)
