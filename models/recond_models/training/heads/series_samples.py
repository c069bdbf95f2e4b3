"""Slices that the `series` head is trained on, and what is true of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from recond_models.heads.series_network import ARTEFACTS, OUTPUTS, prepare_slice
from recond_models.training.fields import smooth_field
from recond_models.training.heads import artefacts
from recond_models.training.heads.bank import LesionHead
from recond_models.training.heads.looks import Look, Weighting, draw_look
from recond_models.training.heads.others import draw_other
from recond_models.training.heads.planning import plan
from recond_models.training.heads.samples import IGNORED
from recond_models.training.heads.scenes import compose
from recond_models.training.heads.signal_equations import Contrast, signals
from recond_models.training.heads.stacks import Stack, draw_stack

_SIZE = (192, 192)
_CONTRASTS: tuple[Contrast, ...] = ("t1", "t1post", "t2", "flair", "pd", "t2*")
"""In the order of `OUTPUTS`."""
_PLANES = ("axial", "coronal", "sagittal")
_OTHER_SHARE, _NONE_SHARE = 0.16, 0.06
_CLEAN_SHARE = 0.45
_MEASURED_SHARE = 0.6
# Where slices are cut, mm from the middle of the brain, by plane.
_REACH = {"axial": (-55.0, 68.0), "coronal": (-80.0, 72.0), "sagittal": (-60.0, 60.0)}
_BRAIN_MM = 4.0


@dataclass(frozen=True, slots=True)
class SeriesSample:
    """A slice and its classes.

    Parameters
    ----------
    image
        float32 (`SIDE`, `SIDE`), as `prepare_slice` makes it.
    classes
        uint8 (outputs,), in the order of `OUTPUTS`; `IGNORED` where there is no answer.
    """

    image: NDArray[np.float32]
    classes: NDArray[np.uint8]


class SeriesSamples:
    """Slices of heads in any contrast and plane, of other things, and of nothing, with and without artefacts.

    Parameters
    ----------
    heads
        Measured ones show their own contrast (contrast agent is put into T1-weighted ones), maps of structures any.
    pictures
        float32 (rows, columns): pictures of anything but heads.

    Raises
    ------
    ValueError
        There is no head.
    """

    def __init__(self, heads: Sequence[LesionHead], pictures: Sequence[NDArray[np.float32]] = ()) -> None:
        if not heads:
            raise ValueError("no head to cut slices from: prepare the heads first")
        self._maps = [head for head in heads if head.contrast == "labels"]
        self._measured = {
            contrast: [
                head for head in heads if head.contrast == contrast or (contrast == "t1post" and head.contrast == "t1")
            ]
            for contrast in _CONTRASTS
        }
        self._pictures = tuple(pictures)

    def draw(self, generator: np.random.Generator) -> SeriesSample:
        """Return a sample; the same generator state gives the same sample."""
        classes = np.full(len(OUTPUTS), IGNORED, dtype=np.uint8)
        names = list(OUTPUTS)
        classes[names.index("anatomy")] = 0
        choice = generator.random()
        if choice < _NONE_SHARE:
            classes[names.index("anatomy")] = 2
            return SeriesSample(prepare_slice(_nothing(generator)), classes)
        if choice < _NONE_SHARE + _OTHER_SHARE:
            classes[names.index("anatomy")] = 1
            shape = (int(generator.integers(100, 170)), int(generator.integers(100, 170)))
            image = draw_other(generator, shape, self._pictures)
        else:
            image, contrast, plane = self._head(generator)
            classes[names.index("contrast")], classes[names.index("plane")] = contrast, plane
        image = _placed(generator, image)
        image, grades = degraded(generator, image)
        for artefact, grade in grades.items():
            classes[names.index(artefact)] = grade
        if grades["failed reconstruction"] == 2:
            # Nobody could tell.
            for name in names:
                if name != "failed reconstruction":
                    classes[names.index(name)] = IGNORED
        return SeriesSample(prepare_slice(_turned(generator, image)), classes)

    def draw_series(self, generator: np.random.Generator, count: int) -> tuple[NDArray[np.float32], int, int]:
        """Return slices of one head with the same contrast, plane and artefacts, and the numbers of its contrast and plane.

        Parameters
        ----------
        generator
            Source of randomness; the same state gives the same series.
        count
            How many slices.

        Returns
        -------
        tuple
            float32 (count, `SIDE`, `SIDE`), as `prepare_slice` makes them; places in `OUTPUTS`.
        """
        number, head = self._subject(generator)
        plane = _PLANES[int(generator.integers(len(_PLANES)))]
        look = _look(generator, head, _CONTRASTS[number])
        planned = plan(generator, head, look.weighting) if generator.random() < 0.4 else []
        same = int(generator.integers(1 << 32))
        slices = []
        for _ in range(count):
            stack, plane = _cut(generator, head, plane)
            scanner = np.random.default_rng(same)
            image, _ = degraded(scanner, _placed(scanner, compose(generator, head, look, stack, planned).image[0]))
            slices.append(prepare_slice(_turned(generator, image)))
        return np.stack(slices), number, _PLANES.index(plane)

    def _head(self, generator: np.random.Generator) -> tuple[NDArray[np.float32], int, int]:
        """Return a slice of a head, and the numbers of its contrast and plane."""
        number, head = self._subject(generator)
        stack, plane = _cut(generator, head, _PLANES[int(generator.integers(len(_PLANES)))])
        look = _look(generator, head, _CONTRASTS[number])
        planned = plan(generator, head, look.weighting) if generator.random() < 0.4 else []
        scene = compose(generator, head, look, stack, planned)
        return scene.image[0], number, _PLANES.index(plane)

    def _subject(self, generator: np.random.Generator) -> tuple[int, LesionHead]:
        """Return the number of a contrast, and a head to show in it."""
        number = int(generator.integers(len(_CONTRASTS)))
        contrast = _CONTRASTS[number]
        measured = self._measured[contrast]
        if measured and (not self._maps or generator.random() < _MEASURED_SHARE):
            head = measured[int(generator.integers(len(measured)))]
        else:
            head = self._maps[int(generator.integers(len(self._maps)))]
        return number, head


def _cut(generator: np.random.Generator, head: LesionHead, wanted: str) -> tuple[Stack, str]:
    """Draw one slice through the brain, in the wanted plane where the head has thin enough slices; return it and its plane."""
    drawn = draw_stack(generator, head, None, _SIZE, wanted)
    axis = int(np.abs(drawn.axes[0]).argmax())
    plane = ("sagittal", "coronal", "axial")[axis]
    along = drawn.axes @ drawn.origin
    if not head.thick:
        along[0] = generator.uniform(*_REACH[plane])
    along[1:] = generator.normal(0, 8, 2)
    return replace(drawn, origin=along @ drawn.axes, slices=1, offsets=np.zeros(1)), plane


def _look(generator: np.random.Generator, head: LesionHead, contrast: Contrast) -> Look:
    """Return the signals of a head in a contrast."""
    weighting: Weighting = {"pd": "t2", "t2*": "t2"}.get(contrast, contrast)  # type: ignore[assignment]
    if head.contrast != "labels":
        look = Look(weighting, *head.levels)
    else:
        look = draw_look(generator, weighting, signals(generator, contrast), iron=contrast == "t2*")
    return replace(look, blood=look.white * float(generator.uniform(1.3, 3.0)))


def _placed(generator: np.random.Generator, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Draw a field of view around the object: seldom tight, often with much air."""
    bright = image > 0.1 * artefacts.bright(image)
    if not bright.any():
        return image
    bounds = []
    for axis in (0, 1):
        used = np.flatnonzero(bright.any(axis=1 - axis))
        margin = max(2, round((used[-1] - used[0]) * generator.uniform(0.01, 0.3)))
        bounds.append((int(used[0]) - margin, int(used[-1]) + 1 + margin))
    (top, bottom), (left, right) = bounds
    widened = np.pad(
        image, [(max(0, -top), max(0, bottom - image.shape[0])), (max(0, -left), max(0, right - image.shape[1]))]
    )
    top, left = max(top, 0), max(left, 0)
    return widened[top : top + bounds[0][1] - bounds[0][0], left : left + bounds[1][1] - bounds[1][0]]


def degraded(generator: np.random.Generator, image: NDArray[np.float32]) -> tuple[NDArray[np.float32], dict[str, int]]:
    """Return a slice as it was measured, and the grade of each of `ARTEFACTS` in it.

    Parameters
    ----------
    generator
        Source of randomness.
    image
        float32 (rows, columns), not negative.
    """
    grades = dict.fromkeys(ARTEFACTS, 0)
    blurred = ndimage.gaussian_filter(image, generator.uniform(0, 1.0), truncate=3)
    blurred *= np.exp(np.float32(generator.uniform(0, 0.3)) * smooth_field(generator, image.shape, 4)[0])
    phase = np.float32(generator.uniform(0, 1.5)) * smooth_field(generator, image.shape, 4)[0]
    made: NDArray[np.complexfloating] = np.empty(image.shape, dtype=np.complex64)
    made.real, made.imag = blurred * np.cos(phase), blurred * np.sin(phase)
    # Phase encoding runs along either side.
    across = generator.random() < 0.5
    made = made.T if across else made
    if generator.random() >= _CLEAN_SHARE:
        chosen = generator.choice(len(ARTEFACTS), size=1 if generator.random() < 0.75 else 2, replace=False)
        # Folding changes the size, failure comes last.
        for name in sorted(
            (ARTEFACTS[number] for number in chosen),
            key=("wrap", "motion", "noise", "spike", "failed reconstruction").index,
        ):
            grade: artefacts.Grade = 1 if generator.random() < 0.45 else 2
            made = artefacts.SIMULATED[name](generator, made, grade)
            grades[name] = grade
    if not grades["noise"]:
        level = np.float32(generator.uniform(0, 0.055) * artefacts.bright(made))
        made.real += level * generator.standard_normal(made.shape, dtype=np.float32)
        made.imag += level * generator.standard_normal(made.shape, dtype=np.float32)
    return np.abs(made.T if across else made).astype(np.float32), grades


def _turned(generator: np.random.Generator, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn by quarters, mirror, stretch the contrast a little, and change the number of pixels."""
    image = np.rot90(image, int(generator.integers(4)))
    if generator.random() < 0.5:
        image = image[::-1]
    top = max(float(image.max()), 1e-12)
    image = top * (image / top) ** np.float32(np.exp(generator.normal(0, 0.1)))
    if generator.random() < 0.3:
        stretch = np.exp(generator.normal(0, 0.1, 2))
        image = ndimage.zoom(image, stretch, order=1)
    turned: NDArray[np.float32] = np.ascontiguousarray(image, dtype=np.float32)
    return turned


def _nothing(generator: np.random.Generator) -> NDArray[np.float32]:
    """Return what there is where nothing was measured: zeros, noise, noise with shading or a few bright points."""
    shape = (int(generator.integers(64, 257)), int(generator.integers(64, 257)))
    kind = int(generator.integers(4))
    if kind == 0:
        return np.zeros(shape, dtype=np.float32)
    white = generator.standard_normal((2, *shape))
    image: NDArray[np.float32] = np.hypot(white[0], white[1]).astype(np.float32)
    if generator.random() < 0.4:
        image = ndimage.gaussian_filter(image, generator.uniform(0.3, 1.5))
    if kind == 2:
        image *= np.exp(np.float32(generator.uniform(0, 0.8)) * smooth_field(generator, shape, 4)[0])
    if kind == 3:
        places = generator.integers(0, image.size, int(generator.integers(1, 30)))
        image.reshape(-1)[places] *= np.float32(generator.uniform(3, 30))
    return image
