"""How lesions and what surrounds them look in a contrast."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recond_models.training.fields import smooth_field
from recond_models.training.heads.bank import LesionHead
from recond_models.training.heads.lesions import Lesion, Parts
from recond_models.training.heads.looks import Look
from recond_models.training.heads.stacks import Found, Stack

# Least factor between a lesion and the brighter of what it lies in, or nobody could see it.
_VISIBLE = 1.14
# Of white matter: what is darker outside the skull is air or bone.
_TISSUE = 0.3


def painted(
    generator: np.random.Generator, head: LesionHead, found: Found, look: Look, stack: Stack
) -> NDArray[np.float32]:
    """Return slices without lesions, not negative: texture in maps of structures, blood bright after contrast or dark.

    Parameters
    ----------
    generator
        Source of randomness.
    head, found, look, stack
        What is where, and how bright it is.
    """
    image = found.image
    if look.table is not None and look.spread is not None:
        image = image + look.spread[found.nearest & 0xFF] * _texture(generator, stack)
        if look.weighting == "flair":
            # Fluid that seeps through the lining of the ventricles.
            lining = ((found.nearest >> 8) & 0xFF).astype(np.float32) * np.float32(1 / 255)
            image = image + lining * found.hull * np.float32(look.white * generator.uniform(0, 0.6))
    if head.extra != "enhancement":
        return np.maximum(image, 0)
    if look.weighting == "t1post":
        level = np.float32(look.white * np.exp(generator.uniform(np.log(1.1), np.log(3.2))))
        if generator.random() < 0.1:
            level = np.float32(
                look.fluid * generator.uniform(0.1, 1)
            )  # blood that flows out of the slice leaves no signal
        image = image + found.extra * np.float32(generator.uniform(0.5, 1)) * (level - image)
    elif look.table is not None:
        image = image * (1 - found.extra * np.float32(generator.uniform(0, 0.7)))
    return np.maximum(image, 0)


def put_in(
    generator: np.random.Generator,
    image: NDArray[np.float32],
    share: NDArray[np.float32],
    hull: NDArray[np.float32],
    lesion: Lesion,
    parts: Parts,
    look: Look,
) -> None:
    """Paint a lesion and enter it into the truth, both in place.

    Parameters
    ----------
    generator
        Source of randomness.
    image, share, hull
        float32 (slices, rows, columns): signal, share of lesion, and what lies within the skull, where the lesion is.
    lesion, parts
        What it is made of where.
    look
        The contrast.
    """
    after_contrast = look.weighting == "t1post"
    tissue = look.tissue(image)
    # What displaces tissue fills fluid too; what tissue turns into does not.
    grows = lesion.kind in {"solid", "ring", "cyst", "patchy", "meningioma"}
    body = parts.body * hull * (1.0 if grows else np.maximum(tissue, 0.15))
    oedema = parts.oedema * hull * np.clip(look.whiteness(image) * np.float32(generator.uniform(0.8, 1.1)), 0.08, 1)
    if after_contrast:
        image *= 1 - oedema * np.float32(generator.uniform(0, 0.3))
        level, core = _enhanced(generator, look)
    else:
        swollen = np.float32(_bright(generator, look))
        image += oedema * np.maximum(swollen - image, 0)
        level, core = _bright(generator, look), _core(generator, look)
    texture = _mottled(generator, image.shape, 0.5 if lesion.kind == "patchy" else generator.uniform(0, 0.15))
    solid = np.float32(level) * texture
    if not grows:
        # The tissue below shows through.
        solid = (
            np.maximum(solid, image * np.float32(_VISIBLE)) * np.float32(0.8)
            + np.float32(0.2 * level / look.white) * image
        )
    inner = parts.core * np.float32(generator.uniform(0.8, 1))
    image += body * ((1 - inner) * solid + inner * np.float32(core) - image)
    np.maximum(share, body, out=share)
    if not after_contrast:
        np.maximum(share, oedema, out=share)


def _enhanced(generator: np.random.Generator, look: Look) -> tuple[float, float]:
    """Return signals of an enhancing lesion and of its core."""
    level = look.white * float(np.exp(generator.uniform(np.log(1.2), np.log(2.8))))
    level = max(level, _VISIBLE * max(look.white, look.grey))
    return level, look.fluid + (look.white - look.fluid) * float(generator.uniform(0, 0.85))


def _bright(generator: np.random.Generator, look: Look) -> float:
    """Return the signal of a lesion on FLAIR or T2."""
    brighter = max(look.grey, look.white)
    if look.weighting == "t2":
        # Up to that of fluid.
        share = float(generator.uniform(0.15, 1.0))
        return max(brighter + share * (look.fluid - brighter), _VISIBLE * brighter)
    return brighter * float(np.exp(generator.uniform(np.log(_VISIBLE), np.log(2.0))))


def _core(generator: np.random.Generator, look: Look) -> float:
    """Return the signal of necrosis or a cyst on FLAIR or T2: fluid, or something richer in protein."""
    return look.fluid + float(generator.uniform(0, 1)) * (1.3 * max(look.grey, look.white) - look.fluid)


def _texture(generator: np.random.Generator, stack: Stack) -> NDArray[np.float32]:
    """Return fluctuations of about 1: coarse ones through all slices, fine ones in each."""
    coarse = smooth_field(generator, stack.size, int(generator.integers(8, 30)))
    fine = generator.standard_normal((stack.slices, *stack.size), dtype=np.float32) * np.float32(
        generator.uniform(0, 0.8)
    )
    return np.repeat(np.tanh(coarse) + fine, len(stack.offsets), axis=0)


def _mottled(generator: np.random.Generator, shape: tuple[int, ...], size: float) -> NDArray[np.float32]:
    """Return smooth factors about 1 that vary by `size`, not below 0.3."""
    if min(shape[1:]) < 4:
        return np.ones(shape, dtype=np.float32)
    knots = int(np.clip(max(shape[1:]) // 4, 5, 24))
    field = smooth_field(generator, (shape[1], shape[2]), knots)
    factors: NDArray[np.float32] = np.maximum(1 + np.float32(size) * field, np.float32(0.3))
    return factors
