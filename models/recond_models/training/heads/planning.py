"""Which lesions grow where: kinds by contrast, places by kind."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recond_models.training.heads.bank import LesionHead
from recond_models.training.heads.lesions import ENHANCING, Kind, Lesion, draw_lesion, draw_volume
from recond_models.training.heads.looks import Look, Weighting, draw_look

FREE_SHARE = 0.3
"""How many samples have no lesion."""

EASY_ML = 1.0
"""Smaller lesions are not easy."""

MOST = 15
"""Lesions in a head."""

_SITES: dict[str, tuple[tuple[str, float], ...]] = {
    "meningioma": (("dura", 0.8), ("falx", 0.2)),
    "plaque": (("ventricle", 0.45), ("white", 0.3), ("junction", 0.15), ("fossa", 0.1)),
    "infarct": (("white", 0.4), ("junction", 0.4), ("any", 0.1), ("fossa", 0.1)),
}
_USUAL_SITES = (("any", 0.35), ("white", 0.2), ("junction", 0.27), ("fossa", 0.18))


@dataclass(frozen=True, slots=True)
class Planned:
    """A lesion to be put in.

    Parameters
    ----------
    kind
        What it resembles.
    volume_ml
        About its volume.
    place
        float64 (3,), mm from the middle of the brain, in the head.
    axis
        float64 (3,), unit vector that it is short or long along; None for any.
    """

    kind: Kind
    volume_ml: float
    place: NDArray[np.float64]
    axis: NDArray[np.float64] | None

    def grown(self, generator: np.random.Generator, strain: NDArray[np.float64]) -> Lesion:
        """Return the lesion in a patient whose positions a strain takes to those of the head."""
        inverse = np.linalg.inv(strain)
        axis = None if self.axis is None else unit(inverse @ self.axis)
        return draw_lesion(generator, self.kind, self.volume_ml, inverse @ self.place, axis)


def look_of(generator: np.random.Generator, head: LesionHead, weighting: Weighting) -> Look:
    """Return the signals of a head: its own, or some that are drawn for a map of structures."""
    if head.contrast == "labels":
        return draw_look(generator, weighting)
    return Look(weighting, *head.levels)


def plan(
    generator: np.random.Generator, head: LesionHead, weighting: Weighting, *, easy: bool = False
) -> list[Planned]:
    """Draw what a sample shows: nothing, one or two lesions, or many small ones that lie near the first.

    Parameters
    ----------
    generator, head, weighting
        Source of randomness, what lesions are put into, and the contrast.
    easy
        Seldom nothing, and one lesion of at least `EASY_ML`.
    """
    if weighting == "t1" or generator.random() < (0.4 if easy else 1) * FREE_SHARE:
        return []
    if easy:
        only = draw_planned(generator, head, weighting, many=False)
        return [replace(only, volume_ml=max(only.volume_ml, draw_volume(generator, EASY_ML, 30)))]
    many = generator.random() < (0.3 if weighting == "t1post" else 0.5)
    count = int(generator.integers(3, MOST + 1)) if many else int(generator.integers(1, 3))
    planned = [draw_planned(generator, head, weighting, many=many)]
    for _ in range(count - 1):
        # Near the first, or the slices would seldom show them.
        drawn = [draw_planned(generator, head, weighting, many=many) for _ in range(4)]
        planned.append(min(drawn, key=lambda one: float(np.abs(one.place - planned[0].place).min())))
    return planned


def draw_planned(
    generator: np.random.Generator, head: LesionHead, weighting: Weighting, *, many: bool, kind: Kind | None = None
) -> Planned:
    """Draw one lesion of a contrast, or of a kind; small ones where there are many."""
    chosen = kind or _kind(generator, weighting, many)
    if chosen == "plaque":
        volume = draw_volume(generator, 0.03, 3.0)
    elif chosen in {"glioma", "infarct"}:
        volume = draw_volume(generator, 0.5)
    else:
        volume = draw_volume(generator, 0.05, 4.0) if many else draw_volume(generator, 0.1)
    return Planned(chosen, volume, *_site(generator, head, chosen))


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
    sites = [(name, share) for name, share in _SITES.get(kind, _USUAL_SITES) if len(head.sites[name])]
    names, shares = zip(*(sites or [("any", 1.0)]), strict=True)
    name = names[int(generator.choice(len(names), p=np.asarray(shares) / sum(shares)))]
    place = np.asarray(head.sites[name][generator.integers(len(head.sites[name]))], dtype=np.float64)
    place = place + generator.normal(0, 0.7, 3)
    if name == "dura":
        return place, unit(place)
    if name == "falx":
        return place, np.array([1.0, 0.0, 0.0])
    # Plaques point away from the ventricles.
    return place, unit(place * [1, 0.3, 0.3]) if name == "ventricle" else None


def unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a vector of length 1."""
    return vector / max(float(np.linalg.norm(vector)), 1e-6)
