"""Heads that lesions are put into, packed so that one fetch brings all that is known of a voxel."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from recond_models.training.heads.enhancement import normal_enhancement
from recond_models.training.labels import STRUCTURES
from recond_models.training.volumes import SIGNAL_UNITS, VOXEL, Volume, VolumesNotFoundError

Contrast = Literal["t1", "t1post", "t2", "flair", "labels"]
"""Of a head's own signal; ``"labels"``: a map of structures, whose signal is drawn."""

SITES = ("any", "white", "junction", "ventricle", "dura", "falx", "fossa")
"""Where lesions begin: anywhere in the brain, white matter, the border of grey and white matter, beside the ventricles, below the
skull, at the midline, and in cerebellum and brain stem."""

HULL_SHIFT, EXTRA_SHIFT = 16, 24
"""Bits of a packed voxel: 16 of signal (or 8 of structure, 8 of how near a ventricle is), 8 of hull, 8 of `LesionHead.extra`."""

HELD_OUT = ("synthseg-16", "synthseg-17", "ms-cross-26", "ms-long-04")
"""Subjects that the lesion head is not trained on."""

UNMARKED = tuple(
    f"ms_long_patient{patient}_{scan}"
    for patient in ("01", "03", "04", "09", "19", "20")
    for scan in ("study1_FLAIR", "study1_T2W", "study2_FLAIR")
)
"""Scans of patients that show lesions which nobody marked."""

_WHITE, _GREY = (2, 7, 16, 28, 41, 46, 60, 85), (3, 8, 10, 11, 12, 13, 17, 18, 26, 42, 47, 49, 50, 51, 52, 53, 54, 58)
_VENTRICLES = (4, 5, 14, 15, 43, 44)
_FLUID = (*_VENTRICLES, 24, 72)
_PLEXUS = (136, 137, 163, 164)
_VESSELS = (30, 62)
_CLOSING_MM = 5.0
_ORDER = {"t1": (0, 1, 2), "t1post": (0, 1, 2), "flair": (0, 2, 1), "t2": (2, 1, 0)}
_MOST_SITES = 4000
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class LesionHead:
    """A head on a grid along the patient's axes.

    Parameters
    ----------
    name, subject
        Of the volume, and whose head it is.
    contrast
        Of its signal.
    thick
        Thick slices, which are not cut through.
    extra
        What the last eight bits are: ``"enhancement"`` of a healthy head, or a ``"lesion"`` that is known.
    spacing
        Edges of a voxel, mm (x, y, z).
    centre
        Voxel in the middle of the brain.
    levels
        Signal of fluid, grey and white matter, 0 to 1; zeros for a map of structures.
    voxels
        uint32 (x, y, z), see `HULL_SHIFT`.
    sites
        float32 (places, 3) for each of `SITES`, mm from the middle of the brain.
    """

    name: str
    subject: str
    contrast: Contrast
    thick: bool
    extra: Literal["enhancement", "lesion"]
    spacing: tuple[float, float, float]
    centre: tuple[float, float, float]
    levels: tuple[float, float, float]
    voxels: NDArray[np.uint32]
    sites: dict[str, NDArray[np.float32]]

    @property
    def flat(self) -> NDArray[np.uint32]:
        """All voxels in a row; not a memory map in type, which would slow every look-up."""
        return self.voxels.view(np.ndarray).reshape(-1)

    def save(self, folder: Path) -> None:
        """Write ``NAME.voxels.npy``, ``NAME.sites.npz`` and at last ``NAME.json``."""
        np.save(folder / f"{self.name}.voxels.npy", self.voxels)
        np.savez(folder / f"{self.name}.sites.npz", **self.sites)  # type: ignore[arg-type]
        about = {
            "head": _FORMAT,
            "name": self.name,
            "subject": self.subject,
            "contrast": self.contrast,
            "thick": self.thick,
        }
        about |= {"extra": self.extra, "spacing": self.spacing, "centre": self.centre, "levels": self.levels}
        (folder / f"{self.name}.json").write_text(json.dumps(about, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path, name: str) -> LesionHead:
        """Open what `save` wrote; voxels are read when they are used.

        Raises
        ------
        FileNotFoundError
            It is not there.
        ValueError
            It was written by another version.
        """
        about = json.loads((folder / f"{name}.json").read_text())
        if about.pop("head") != _FORMAT:
            raise ValueError(f"{name} in {folder} was written by another version: prepare the heads again")
        for field in ("spacing", "centre", "levels"):
            about[field] = tuple(about[field])
        with np.load(folder / f"{name}.sites.npz") as sites:
            places = {key: sites[key] for key in sites.files}
        return cls(**about, voxels=np.load(folder / f"{name}.voxels.npy", mmap_mode="r"), sites=places)


def load_heads(folder: Path, *, held_out: bool, unmarked: bool = False) -> list[LesionHead]:
    """Return the heads in a folder that are trained on, or those that are held out.

    Parameters
    ----------
    folder
        Where they are.
    held_out
        Which of both.
    unmarked
        Also scans that show lesions which nobody marked.

    Raises
    ------
    VolumesNotFoundError
        There is none.
    """
    names = sorted(path.stem for path in folder.glob("*.json"))
    heads = [LesionHead.load(folder, name) for name in names if unmarked or not name.startswith(UNMARKED)]
    chosen = [head for head in heads if (head.subject in HELD_OUT) == held_out]
    if not chosen:
        raise VolumesNotFoundError(f"no heads to put lesions into in {folder}: prepare them first")
    return chosen


def from_signal(
    volume: Volume,
    contrast: Contrast,
    brain: NDArray[np.bool_] | None,
    lesion: NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> LesionHead:
    """Pack a measured head.

    Parameters
    ----------
    volume
        The head.
    contrast
        Its contrast.
    brain
        Bool (x, y, z): the brain; None if there is nothing else in the volume.
    lesion
        Bool (x, y, z): lesions that are known, if it has some.
    seed
        Of the vessels that are drawn.

    Raises
    ------
    ValueError
        The volume is a map of structures, or has no brain.
    """
    if volume.has_labels:
        raise ValueError(f"{volume.source.name} is a map of structures")
    raw = volume.voxels["signal"] if volume.voxels.dtype == VOXEL else volume.voxels
    signal = np.asarray(raw)
    brain = signal > 0.05 * SIGNAL_UNITS if brain is None else brain
    if not brain.any():
        raise ValueError(f"{volume.source.name} has no brain")
    hull = _closed(brain, volume.spacing)
    depth = _depth(hull, volume.spacing)
    smooth = ndimage.gaussian_filter(signal.astype(np.float32), [0.7 / s for s in volume.spacing]) / SIGNAL_UNITS
    means = _means(smooth[(depth > 2)][::7])
    kinds = np.abs(smooth[None] - means[:, None, None, None]).argmin(axis=0)
    fluid, grey, white = (kinds == number for number in _ORDER[contrast])
    deep = ndimage.binary_opening(fluid & (depth > 20), iterations=2 if min(volume.spacing) > 0.8 else 3)
    generator = np.random.default_rng(seed)
    if lesion is None:
        extra = normal_enhancement(generator, hull, volume.spacing, volume.centre, fluid, depth)
    else:
        extra = lesion.astype(np.uint8) * np.uint8(255)
    tissue = (grey & hull, white & hull, deep)
    return LesionHead(
        volume.source.name,
        volume.source.subject,
        contrast,
        volume.source.layout == "slices",
        "enhancement" if lesion is None else "lesion",
        volume.spacing,
        volume.centre,
        _triple([means[number] for number in _ORDER[contrast]]),
        _packed(signal, _soft(hull, volume.spacing), extra),
        _sites(generator, volume, tissue, depth),
    )


def from_labels(volume: Volume, seed: int = 0) -> LesionHead:
    """Pack a map of structures.

    Raises
    ------
    ValueError
        The volume is none.
    """
    if not volume.has_labels:
        raise ValueError(f"{volume.source.name} is no map of structures")
    numbers = np.asarray(volume.voxels)
    structures = np.asarray(STRUCTURES, dtype=np.int16)[numbers]
    inside = (structures > 0) & (structures < 500) & (structures != 85)
    # Fluid reaches down the spine; and single voxels of it lie in the face.
    named, count = ndimage.label(ndimage.binary_opening(inside, iterations=2))
    if count == 0:
        raise ValueError(f"{volume.source.name} has no brain")
    largest = named == 1 + int(np.bincount(named.ravel())[1:].argmax())
    hull = _closed(largest, volume.spacing)
    hull[:, :, : max(0, round(volume.centre[2] - 75 / volume.spacing[2]))] = False
    depth = _depth(hull, volume.spacing)
    ventricles = np.isin(structures, _VENTRICLES)
    away = _away(ventricles, volume.spacing)
    lining = np.round(255 * np.exp(-(away.astype(np.float32) ** 2))).astype(np.uint16)
    generator = np.random.default_rng(seed)
    fluid = np.isin(structures, _FLUID)
    extra = normal_enhancement(generator, hull, volume.spacing, volume.centre, fluid, depth)
    # The plexus and vessels of the map have labels of their own; what was drawn from rough positions stays in the fluid.
    solid = hull & ~fluid & (depth > 4)
    extra[solid] = (extra[solid] * 0.4).astype(np.uint8)
    extra[np.isin(structures, (*_PLEXUS, *_VESSELS))] = 220
    tissue = (np.isin(structures, _GREY) & hull, np.isin(structures, _WHITE) & hull, ventricles)
    return LesionHead(
        volume.source.name,
        volume.source.subject,
        "labels",
        False,
        "enhancement",
        volume.spacing,
        volume.centre,
        (0.0, 0.0, 0.0),
        _packed(numbers.astype(np.uint16) | (lining << 8), _soft(hull, volume.spacing), extra),
        _sites(generator, volume, tissue, depth),
    )


def white_structures() -> NDArray[np.float32]:
    """Return how much each of `STRUCTURES` is white matter, 0 or 1, float32 (structures,)."""
    return np.isin(np.asarray(STRUCTURES), _WHITE).astype(np.float32)


def _sites(
    generator: np.random.Generator,
    volume: Volume,
    tissue: tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]],
    depth: NDArray[np.float32],
) -> dict[str, NDArray[np.float32]]:
    """Return positions for each of `SITES`."""
    grey, white, ventricles = tissue
    spacing, centre = np.asarray(volume.spacing), np.asarray(volume.centre)
    x, y, z = (((np.arange(n) - c) * s) for n, c, s in zip(depth.shape, centre, spacing, strict=True))
    away = _away(ventricles, volume.spacing)
    brain = grey | white
    chosen = {
        "any": brain & (depth > 3),
        "white": white & (depth > 5),
        "junction": ndimage.binary_dilation(white, iterations=2) & grey & (depth > 2),
        "ventricle": white & (away > 0.5) & (away < 7),
        "dura": (depth > 1) & (depth < 4),
        "falx": brain & (np.abs(x) < 4)[:, None, None] & (z > 15)[None, None, :],
        "fossa": brain & (depth > 3) & (y < -8)[None, :, None] & (z < -25)[None, None, :],
    }
    result = {}
    for name, where in chosen.items():
        flat = np.flatnonzero(where)
        if flat.size > _MOST_SITES:
            flat = generator.choice(flat, _MOST_SITES, replace=False)
        voxels = np.column_stack(np.unravel_index(np.sort(flat), depth.shape))
        result[name] = ((voxels - centre) * spacing).astype(np.float32)
    return result


def _closed(brain: NDArray[np.bool_], spacing: tuple[float, ...]) -> NDArray[np.bool_]:
    """Fill furrows and holes; computed on every second voxel where voxels are small."""
    steps = [2 if size < 1.6 else 1 for size in spacing]
    coarse = brain[tuple(slice(None, None, step) for step in steps)]
    sizes = [step * size for step, size in zip(steps, spacing, strict=True)]
    margin = [int(np.ceil(_CLOSING_MM / size)) + 1 for size in sizes]
    padded = np.pad(coarse, [(width, width) for width in margin])
    swollen = ndimage.distance_transform_edt(~padded, sampling=sizes) <= _CLOSING_MM
    shrunk = ndimage.distance_transform_edt(swollen, sampling=sizes) > _CLOSING_MM
    shrunk = shrunk[tuple(slice(width, -width) for width in margin)]
    for axis, step in enumerate(steps):
        shrunk = np.repeat(shrunk, step, axis=axis)
    filled: NDArray[np.bool_] = shrunk[tuple(slice(0, n) for n in brain.shape)] | brain
    return np.asarray(ndimage.binary_fill_holes(filled))


def _depth(hull: NDArray[np.bool_], spacing: tuple[float, ...]) -> NDArray[np.float32]:
    """Return the distance from the surface within the hull, mm; 0 outside."""
    depth = np.zeros(hull.shape, dtype=np.float32)
    window = ndimage.find_objects(hull.astype(np.uint8))[0]
    depth[window] = ndimage.distance_transform_edt(np.pad(hull[window], 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    return depth


def _away(ventricles: NDArray[np.bool_], spacing: tuple[float, ...]) -> NDArray[np.float32]:
    """Return the distance from the ventricles, mm; far off everything is equally far."""
    away = np.full(ventricles.shape, 99.0, dtype=np.float32)
    found = ndimage.find_objects(ventricles.astype(np.uint8))
    if found:
        window = tuple(
            slice(max(part.start - int(10 / size), 0), part.stop + int(10 / size))
            for part, size in zip(found[0], spacing, strict=True)
        )
        away[window] = ndimage.distance_transform_edt(~ventricles[window], sampling=spacing)
    return away


def _soft(hull: NDArray[np.bool_], spacing: tuple[float, ...]) -> NDArray[np.uint8]:
    """Return the hull with a border of about 2 mm, 0 to 255."""
    smooth = ndimage.gaussian_filter(hull.astype(np.float32), [0.8 / size for size in spacing])
    soft: NDArray[np.uint8] = np.round(255 * smooth).astype(np.uint8)
    return soft


def _means(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return three levels by k-means in one dimension, rising."""
    means = np.quantile(values, [0.08, 0.4, 0.8])
    for _ in range(30):
        kinds = np.abs(values[:, None] - means[None, :]).argmin(axis=1)
        means = np.array([values[kinds == kind].mean() if (kinds == kind).any() else means[kind] for kind in range(3)])
    return np.sort(means)


def _packed(signal: NDArray[Any], hull: NDArray[np.uint8], extra: NDArray[np.uint8]) -> NDArray[np.uint32]:
    packed = signal.astype(np.uint32)
    packed |= hull.astype(np.uint32) << HULL_SHIFT
    packed |= extra.astype(np.uint32) << EXTRA_SHIFT
    return packed


def _triple(values: list[Any]) -> tuple[float, float, float]:
    first, second, third = values
    return float(first), float(second), float(third)
