"""The heads that training data are simulated from, and which of them no network may be trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Split = Literal["training", "validation", "test"]

TISSUES = ("grey", "white", "fluid", "bone", "soft")
"""Tissue classes in the order of `Volume.tissues`: grey matter, white matter, cerebrospinal fluid, bone and air cells, scalp and
all other soft tissue."""

VOXEL = np.dtype([("signal", "<u2"), ("tissues", "u1", (5,)), ("unused", "u1")])
"""Eight bytes for a voxel: T1-weighted signal in `SIGNAL_UNITS`, share of each tissue in 1/255."""

SIGNAL_UNITS = 40_000
LARGEST_SIGNAL = 1.5

_FORMAT = 2


@dataclass(frozen=True, slots=True)
class Source:
    """A head that can be had from a package manager.

    Parameters
    ----------
    name
        Name of the volume.
    subject
        Whose head; volumes of one subject are always in one split.
    split
        What it is used for.
    licence
        SPDX name of the licence of the package.
    package
        Where it comes from.
    reason
        Why it is in its split.
    weight
        How often slices are cut from it, relative to the others of its split.
    """

    name: str
    subject: str
    split: Split
    licence: str
    package: str
    reason: str
    weight: float = 1.0


SOURCES = (
    Source(
        "colin27",
        "colin",
        "training",
        "BSD-3-Clause",
        "Debian mricron-data (tissue priors: PyPI spm-runtime, GPL-2.0)",
        "one real head with skull at 1 mm, so sharp that it carries most of the training",
        4.0,
    ),
    Source(
        "colin27-brain",
        "colin",
        "training",
        "BSD-3-Clause",
        "Debian mricron-data",
        "the brain of the same head at 0.5 mm: the only detail finer than 1 mm there is",
        3.0,
    ),
    Source(
        "mni152-2009a",
        "mni152",
        "training",
        "BSD-3-Clause",
        "PyPI nilearn",
        "average of 152 people: another anatomy, smooth, with maps of grey and white matter",
        1.5,
    ),
    Source(
        "inia19",
        "inia19",
        "training",
        "CC-BY-3.0",
        "Debian mricron-data",
        "average of 19 macaques at 0.5 mm, enlarged to the size of a human brain: other folds, for variety",
    ),
    Source(
        "itk-t1",
        "itk",
        "validation",
        "Apache-2.0",
        "Debian insighttoolkit5-examples",
        "one real head, 2 x 2 x 3 mm: too coarse to train on, independent enough to stop and choose by",
    ),
    Source(
        "brainbrowser-1",
        "brainbrowser",
        "test",
        "AGPL-3.0-only",
        "npm brainbrowser 2.3.0",
        "a real T1 head at 1 mm with skull, face and neck, measured once: the nearest to a patient, so kept for the report",
    ),
    Source(
        "brainbrowser-2",
        "brainbrowser",
        "test",
        "AGPL-3.0-only",
        "npm brainbrowser 2.3.0",
        "the same person in another pose, so in the same split",
    ),
)


class VolumesNotFoundError(FileNotFoundError):
    """The converted volumes are not in the folder."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A head on a grid along the patient's axes.

    Parameters
    ----------
    source
        Where it comes from and what it may be used for.
    voxels
        `VOXEL` (x, y, z) running to the right, to the front and to the top (RAS): signal and tissues of a place lie together,
        because they are always wanted together.
    has_tissues
        The tissues are known.
    spacing
        Edges of a voxel in mm, (x, y, z).
    centre
        Voxel in the middle of the brain, (x, y, z).
    folder
        Where it was loaded from; the voxels are then a map of the file. None if made in memory.
    """

    source: Source
    voxels: NDArray[np.void]
    has_tissues: bool
    spacing: tuple[float, float, float]
    centre: tuple[float, float, float]
    folder: Path | None = None

    @classmethod
    def of(
        cls,
        source: Source,
        signal: NDArray[np.floating[Any]],
        tissues: NDArray[np.uint8] | None,
        spacing: tuple[float, float, float],
        centre: tuple[float, float, float],
    ) -> Volume:
        """Pack a volume.

        Parameters
        ----------
        source, spacing, centre
            As above.
        signal
            Float (x, y, z), T1-weighted, 0 to 1.5, robust maximum 1, background 0.
        tissues
            uint8 (tissues, x, y, z): share of each of `TISSUES` in 1/255, the rest is air; None if unknown.

        Raises
        ------
        ValueError
            The shapes do not belong together, or the signal is out of range.
        """
        if tissues is not None and tissues.shape != (len(TISSUES), *signal.shape):
            raise ValueError(f"tissues must have the shape {(len(TISSUES), *signal.shape)}, got {tissues.shape}")
        if not (signal.min() >= 0 and signal.max() <= LARGEST_SIGNAL):
            raise ValueError(f"the signal must be in 0 to {LARGEST_SIGNAL}, got {signal.min()} to {signal.max()}")
        voxels = np.zeros(signal.shape, dtype=VOXEL)
        voxels["signal"] = np.round(signal * SIGNAL_UNITS)
        if tissues is not None:
            voxels["tissues"] = np.moveaxis(tissues, 0, -1)
        return cls(source, voxels, tissues is not None, spacing, centre)

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along x, y, z."""
        return self.voxels.shape

    def save(self, folder: Path) -> None:
        """Write ``NAME.voxels.npy`` and ``NAME.json``; the second tells that the first is whole."""
        name = self.source.name
        about: dict[str, Any] = {
            "volume": _FORMAT,
            "name": name,
            "subject": self.source.subject,
            "licence": self.source.licence,
            "package": self.source.package,
            "spacing": list(self.spacing),
            "centre": list(self.centre),
            "tissues": self.has_tissues,
        }
        np.save(folder / f"{name}.voxels.npy", self.voxels.view(np.uint64))
        (folder / f"{name}.json").write_text(json.dumps(about, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path, source: Source) -> Volume:
        """Open what `save` wrote; voxels are read when they are used.

        Raises
        ------
        VolumesNotFoundError
            It is not there, or was written by another version.
        """
        if not is_saved(folder, source):
            raise VolumesNotFoundError(f"no volume {source.name} in {folder}: `make training-data` fetches the volumes")
        about = json.loads((folder / f"{source.name}.json").read_text())
        voxels = np.asarray(np.load(folder / f"{source.name}.voxels.npy", mmap_mode="r")).view(VOXEL)
        return cls(source, voxels, about["tissues"], _triple(about["spacing"]), _triple(about["centre"]), folder)

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes share the pages of the file instead of getting a copy through a pipe.
        if self.folder is not None:
            return Volume.load, (self.folder, self.source)
        return Volume, (self.source, self.voxels, self.has_tissues, self.spacing, self.centre)


def is_saved(folder: Path, source: Source) -> bool:
    """Tell whether a volume is in a folder, as this version writes it."""
    path = folder / f"{source.name}.json"
    return path.is_file() and json.loads(path.read_text()).get("volume") == _FORMAT


def load_volumes(folder: Path, split: Split) -> tuple[Volume, ...]:
    """Return the volumes of a split that are in a folder.

    Parameters
    ----------
    folder
        Where `make training-data` put them.
    split
        What they are for.

    Returns
    -------
    tuple of Volume
        At least one, in the order of `SOURCES`.

    Raises
    ------
    VolumesNotFoundError
        There is none.
    ValueError
        There is no such split.
    """
    if split not in get_args(Split):
        raise ValueError(f"unknown split {split!r}, expected one of {', '.join(get_args(Split))}")
    wanted = [source for source in SOURCES if source.split == split]
    found = [source for source in wanted if is_saved(folder, source)]
    if not found:
        names = ", ".join(source.name for source in wanted)
        raise VolumesNotFoundError(
            f"none of the {split} volumes ({names}) is in {folder}: `make training-data` fetches them"
        )
    return tuple(Volume.load(folder, source) for source in found)


def _triple(values: list[float]) -> tuple[float, float, float]:
    """Return three numbers."""
    x, y, z = values
    return float(x), float(y), float(z)
