"""Synthetic lesions: solids given by a signed distance, so that they are evaluated only where a slice needs them.

A lesion is a ball of random radii, turned, with lobes and an uneven surface; within it a rim and a core, around it oedema, and what
lies around is pushed aside. All lengths are in mm, all positions in the frame of the head that it grows in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["solid", "ring", "cyst", "patchy", "meningioma", "plaque", "infarct", "glioma"]
ENHANCING: tuple[Kind, ...] = ("solid", "ring", "cyst", "patchy", "meningioma")
"""Kinds seen on T1-weighted images after contrast."""
BRIGHT: tuple[Kind, ...] = ("plaque", "infarct", "glioma")
"""Kinds seen on FLAIR and T2-weighted images beside those above."""

SMALLEST_ML, LARGEST_ML = 0.05, 60.0

_BALL = 4 * np.pi / 3
_WAVES = 7
_FAR = 60.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What a lesion is made of at some points; shares from 0 to 1, float32, of the shape of the points.

    Parameters
    ----------
    body
        The lesion with its core.
    core
        Necrosis or cyst within it.
    oedema
        Around it, the lesion itself excluded.
    """

    body: NDArray[np.float32]
    core: NDArray[np.float32]
    oedema: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Lesion:
    """One lesion.

    Parameters
    ----------
    kind
        What it resembles.
    centre
        float32 (3,), mm.
    radius
        Of the ball of about the same volume, mm.
    frame
        float32 (3, 3): from mm off the centre to units of the radii.
    lobes
        float32 (lobes, 4): middles in units of the radii, and relative sizes; the first is ``(0, 0, 0, 1)``.
    waves
        float32 (waves, 5): wave vectors in radians per unit, phase and amplitude of the uneven surface.
    edge
        Width of its border, mm.
    rim
        Thickness of what encloses the core, mm; 0 without a core.
    nodule
        float32 (4,): middle and radius in units of a nodule within the core; radius 0 if there is none.
    oedema
        How far oedema reaches, mm.
    push
        How far tissue at its surface was pushed aside, mm.
    """

    kind: Kind
    centre: NDArray[np.float32]
    radius: float
    frame: NDArray[np.float32]
    lobes: NDArray[np.float32]
    waves: NDArray[np.float32]
    edge: float
    rim: float
    nodule: NDArray[np.float32]
    oedema: float
    push: float

    @property
    def extent(self) -> float:
        """Beyond this distance of the centre the lesion has no part, mm."""
        stretch = 1 / float(np.linalg.svd(self.frame, compute_uv=False)[-1])
        lobes = float((np.linalg.norm(self.lobes[:, :3], axis=1) + self.lobes[:, 3]).max())
        uneven = 1 + float(np.abs(self.waves[:, 4]).sum())
        return stretch * lobes * uneven + 3 * self.edge + 1.6 * self.oedema

    def distance(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return about the signed distance from the surface in mm, negative inside, for points (3, ...)."""
        return self._distance(*self._units(points))

    def parts(self, points: NDArray[np.float32]) -> Parts:
        """Return what is where, for points (3, ...)."""
        units, uneven = self._units(points)
        distance = self._distance(units, uneven)
        body = _step(-distance / np.float32(self.edge))
        core = np.zeros_like(body)
        if self.rim > 0:
            # The rim is of uneven thickness: the same waves, turned inside out.
            inner: NDArray[np.float32] = (distance + self.rim * (1 + 1.2 * uneven)).astype(np.float32)
            core = _step(-inner / np.float32(self.edge))
            if self.nodule[3] > 0:
                away = np.sqrt(((units - _column(self.nodule[:3], units)) ** 2).sum(axis=0)) - self.nodule[3]
                core *= _step(away * np.float32(self.radius / self.edge))
        oedema = np.zeros_like(body)
        if self.oedema > 0:
            reach: NDArray[np.float32] = np.float32(self.oedema) * np.clip(1 + 4 * uneven, 0.15, 1.6).astype(np.float32)
            oedema = _step((reach - distance) / np.float32(2 * self.edge)) * (1 - body)
        return Parts(body, core, oedema)

    def source(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return where tissue at some points was before the lesion grew, mm, for points (3, ...).

        The displacement decays over one radius beyond the surface.
        """
        if self.push <= 0:
            return points
        offset = points - _column(self.centre, points)
        away = np.sqrt((offset**2).sum(axis=0))
        beyond = np.maximum(away - np.float32(self.radius), 0)
        shift = np.float32(self.push) * np.exp(-beyond / np.float32(1.2 * self.radius + 4))
        # Nothing is pulled through the centre.
        shift = np.minimum(shift, 0.6 * away) / np.maximum(away, np.float32(1e-3))
        moved: NDArray[np.float32] = points - offset * shift
        return moved

    def _units(self, points: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the points in units of the radii, and how uneven the surface is in their direction."""
        offset = (points - _column(self.centre, points)).reshape(3, -1)
        units = self.frame @ offset
        phases = self.waves[:, :3] @ units + self.waves[:, 3:4]
        uneven = self.waves[:, 4] @ np.cos(phases)
        return units.reshape(points.shape), uneven.reshape(points.shape[1:])

    def _distance(self, units: NDArray[np.float32], uneven: NDArray[np.float32]) -> NDArray[np.float32]:
        nearest = np.full(units.shape[1:], _FAR, dtype=np.float32)
        for lobe in self.lobes:
            away = np.sqrt(((units - _column(lobe[:3], units)) ** 2).sum(axis=0)) - lobe[3]
            np.minimum(nearest, away, out=nearest)
        result: NDArray[np.float32] = (nearest + uneven) * np.float32(self.radius)
        return result


def draw_volume(generator: np.random.Generator, low: float = SMALLEST_ML, high: float = LARGEST_ML) -> float:
    """Draw a volume in ml, log-uniform."""
    return float(np.exp(generator.uniform(np.log(low), np.log(high))))


def draw_lesion(
    generator: np.random.Generator,
    kind: Kind,
    volume_ml: float,
    centre: NDArray[np.floating],
    axis: NDArray[np.floating] | None = None,
) -> Lesion:
    """Draw a lesion.

    Parameters
    ----------
    generator
        Source of randomness.
    kind
        What it resembles.
    volume_ml
        About its volume, without oedema.
    centre
        (3,), mm.
    axis
        (3,), unit vector along which it is short (meningioma: towards the skull) or long (plaque: away from the ventricle); any if
        None.

    Raises
    ------
    ValueError
        The volume is not positive.
    """
    if volume_ml <= 0:
        raise ValueError(f"a lesion has a volume above 0 ml, got {volume_ml}")
    radius = float((1000 * volume_ml / _BALL) ** (1 / 3))
    spread = {"plaque": 0.3, "infarct": 0.35, "meningioma": 0.12}.get(kind, 0.2)
    radii = np.exp(generator.normal(0, spread, 3))
    if kind == "plaque" and axis is not None:
        radii = np.array([generator.uniform(1.2, 2.0), 0.8, 0.8]) * np.exp(generator.normal(0, 0.1, 3))
    if kind == "meningioma":
        radii[0] *= generator.uniform(0.55, 0.95)
    radii /= np.prod(radii) ** (1 / 3)
    turn = _turned(generator, axis)
    lobes = _lobes(generator, kind)
    # Lobes overlap; what they add to the volume is taken off the radius, about.
    grown = float((1 + 0.55 * (lobes[1:, 3] ** 3).sum()) ** (1 / 3))
    frame = (turn / (radii[:, None] * radius / grown)).astype(np.float32)
    uneven = {"infarct": 0.3, "glioma": 0.25, "patchy": 0.2, "meningioma": 0.08}.get(kind, 0.14)
    waves = _waves(generator, uneven * generator.uniform(0.2, 1))
    rim, nodule = 0.0, np.zeros(4)
    if kind in {"ring", "cyst"}:
        thinnest, thickest = (0.12, 0.5) if kind == "ring" else (0.05, 0.15)
        rim = max(radius * generator.uniform(thinnest, thickest), 0.8)
    if kind == "cyst":
        direction = _direction(generator)
        size = generator.uniform(0.3, 0.6)
        nodule = np.array([*(direction * (1 - 0.7 * size)), size])
    reach = {"plaque": 0.0, "infarct": 0.0}.get(kind, generator.uniform(2, 22) * (generator.random() < 0.65))
    pushes = {"plaque": 0.0, "infarct": 0.03}.get(kind, generator.uniform(0.1, 0.55))
    edge = float(np.exp(generator.uniform(np.log(0.25), np.log(1.0 if kind not in {"infarct", "glioma"} else 2.2))))
    return Lesion(
        kind=kind,
        centre=np.asarray(centre, dtype=np.float32),
        radius=radius / grown,
        frame=frame,
        lobes=lobes,
        waves=waves,
        edge=min(edge, 0.35 * radius),
        rim=float(rim),
        nodule=nodule.astype(np.float32),
        oedema=float(min(reach, 2.5 * radius + 3)),
        push=float(pushes * radius),
    )


def _lobes(generator: np.random.Generator, kind: Kind) -> NDArray[np.float32]:
    """Return a main ball and up to three smaller ones on its surface."""
    shares = {"plaque": 0.25, "infarct": 0.6, "glioma": 0.6, "meningioma": 0.2}
    count = int(generator.integers(1, 4)) if generator.random() < shares.get(kind, 0.35) else 0
    lobes = [np.array([0.0, 0.0, 0.0, 1.0])]
    lobes.extend(
        np.array([*(_direction(generator) * generator.uniform(0.6, 1.1)), generator.uniform(0.35, 0.8)])
        for _ in range(count)
    )
    return np.asarray(lobes, dtype=np.float32)


def _waves(generator: np.random.Generator, size: float) -> NDArray[np.float32]:
    """Return random plane waves, weaker the shorter they are."""
    lengths = generator.uniform(1.5, 6, _WAVES)
    vectors = np.stack([_direction(generator) for _ in range(_WAVES)]) * lengths[:, None]
    amplitudes = size * generator.normal(0, 1, _WAVES) / lengths
    return np.column_stack([vectors, generator.uniform(0, 2 * np.pi, _WAVES), amplitudes]).astype(np.float32)


def _turned(generator: np.random.Generator, axis: NDArray[np.floating] | None) -> NDArray[np.float64]:
    """Return a random rotation (3, 3) whose first row is the axis, if there is one."""
    first = _direction(generator) if axis is None else np.asarray(axis, dtype=np.float64)
    second = np.cross(first, _direction(generator))
    second /= max(float(np.linalg.norm(second)), 1e-6)
    return np.stack([first, second, np.cross(first, second)])


def _direction(generator: np.random.Generator) -> NDArray[np.float64]:
    vector = generator.standard_normal(3)
    return vector / max(float(np.linalg.norm(vector)), 1e-6)


def _column(values: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shape three values so that they apply to points (3, ...)."""
    return values.reshape(3, *[1] * (points.ndim - 1))


def _step(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 0 far below zero, 1 far above, a smooth step about as wide as 1."""
    steps: NDArray[np.float32] = np.clip(np.float32(0.5) + np.float32(0.5) * values, 0, 1)
    return steps * steps * (3 - 2 * steps)
