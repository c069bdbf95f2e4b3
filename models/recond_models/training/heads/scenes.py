"""Slices through a head with lesions in it, before a scanner sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recond_models.training.heads.bank import LesionHead
from recond_models.training.heads.lesions import Kind, Lesion, draw_volume
from recond_models.training.heads.looks import Look
from recond_models.training.heads.paint import painted, put_in
from recond_models.training.heads.planning import Planned, draw_planned
from recond_models.training.heads.stacks import Found, Stack, shown

_STRIPPED_SHARE = 0.25
_DISTRACTED_SHARE = 0.25
_DISTRACTIONS: tuple[Kind, ...] = ("infarct", "plaque", "glioma")


@dataclass(frozen=True, slots=True)
class Scene:
    """Slices and the truth about them.

    Parameters
    ----------
    image
        float32 (slices, rows, columns), not negative.
    share
        float32 (slices, rows, columns): how much of each voxel is lesion.
    owner
        uint8 (slices, rows, columns): number of the lesion, from 1 on in the order of `lesions`, that has most of a
        voxel; 0 for none.
    lesions
        What was put in and is seen.
    known
        Whether `share` is the truth; False where the head may have lesions that nobody marked in this contrast.
    """

    image: NDArray[np.float32]
    share: NDArray[np.float32]
    owner: NDArray[np.uint8]
    lesions: tuple[Lesion, ...]
    known: bool


def compose(
    generator: np.random.Generator, head: LesionHead, look: Look, stack: Stack, planned: Sequence[Planned]
) -> Scene:
    """Put lesions into a head and cut slices.

    Parameters
    ----------
    generator
        Source of randomness.
    head, look, stack
        What is cut, how bright it is, and where.
    planned
        What is put in.
    """
    lesions = [each.grown(generator, stack.strain) for each in planned]
    lesions = [lesion for lesion in lesions if stack.window(lesion.centre, lesion.extent) is not None]
    points, found = shown(generator, head, stack, lesions, look.table)
    image = painted(generator, head, found, look, stack)
    if look.weighting in {"t1post", "t1"} and generator.random() < _DISTRACTED_SHARE:
        _distract(generator, head, stack, points, image, found, look)
    share = np.zeros_like(image)
    owner = np.zeros(image.shape, dtype=np.uint8)
    for number, lesion in enumerate(lesions, start=1):
        window = stack.window(lesion.centre, lesion.extent)
        assert window is not None  # noqa: S101  (lesions outside were left out above)
        before = share[window].copy()
        parts = lesion.parts(points[(slice(None), *window)])
        put_in(generator, image[window], share[window], found.hull[window], lesion, parts, look)
        owner[window][share[window] > before] = number
    if head.extra == "lesion":
        np.maximum(share, found.extra, out=share)
    if generator.random() < _STRIPPED_SHARE:
        image = image * (found.hull > generator.uniform(0.3, 0.7))
    middle = len(stack.offsets) // 2
    owners = owner.reshape(stack.slices, len(stack.offsets), *stack.size)[:, middle]
    known = head.extra != "lesion" or look.weighting in {"flair", "t2"}
    return Scene(stack.averaged(image), stack.averaged(share), owners, tuple(lesions), known)


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
    kind = _DISTRACTIONS[int(generator.integers(len(_DISTRACTIONS)))]
    drawn = draw_planned(generator, head, look.weighting, many=False, kind=kind)
    middle = stack.strain @ stack.origin
    nearer = Planned(kind, draw_volume(generator, 0.05, 30), middle + 0.4 * (drawn.place - middle), drawn.axis)
    lesion = nearer.grown(generator, stack.strain)
    window = stack.window(lesion.centre, lesion.extent)
    if window is None:
        return
    part = image[window]
    level = np.float32(look.fluid + generator.uniform(0, 0.85) * (look.white - look.fluid))
    amount = lesion.parts(points[(slice(None), *window)]).body * found.hull[window] * look.tissue(part)
    part += amount * np.minimum(level - part, 0)
