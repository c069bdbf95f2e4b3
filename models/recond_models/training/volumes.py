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
    """

    name: str
    subject: str
    split: Split
    licence: str
    package: str
    reason: str


SOURCES = (
    Source(
        "colin27",
        "colin",
        "training",
        "BSD-3-Clause",
        "Debian mricron-data (tissue priors: PyPI spm-runtime, GPL-2.0)",
        "one real head with skull at 1 mm, so sharp that it carries most of the training",
    ),
    Source(
        "colin27-brain",
        "colin",
        "training",
        "BSD-3-Clause",
        "Debian mricron-data",
        "the brain of the same head at 0.5 mm: the only detail finer than 1 mm there is",
    ),
    Source(
        "mni152-2009a",
        "mni152",
        "training",
        "BSD-3-Clause",
        "PyPI nilearn",
        "average of 152 people: another anatomy, smooth, with maps of grey and white matter",
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
    signal
        float32 (x, y, z) running to the right, to the front and to the top (RAS); T1-weighted, robust maximum 1, background 0.
    tissues
        uint8 (tissues, x, y, z): share of each of `TISSUES` in 1/255, the rest is air; None if unknown.
    spacing
        Edges of a voxel in mm, (x, y, z).
    centre
        Voxel in the middle of the brain, (x, y, z).
    folder
        Where it was loaded from; the arrays are then maps of its files. None if made in memory.
    """

    source: Source
    signal: NDArray[np.float32]
    tissues: NDArray[np.uint8] | None
    spacing: tuple[float, float, float]
    centre: tuple[float, float, float]
    folder: Path | None = None

    def save(self, folder: Path) -> None:
        """Write ``NAME.signal.npy``, ``NAME.tissues.npy`` and ``NAME.json``; the last one tells that the others are whole."""
        name = self.source.name
        np.save(folder / f"{name}.signal.npy", self.signal)
        if self.tissues is not None:
            np.save(folder / f"{name}.tissues.npy", self.tissues)
        about: dict[str, Any] = {
            "name": name,
            "subject": self.source.subject,
            "licence": self.source.licence,
            "package": self.source.package,
            "spacing": list(self.spacing),
            "centre": list(self.centre),
            "tissues": self.tissues is not None,
        }
        (folder / f"{name}.json").write_text(json.dumps(about, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path, source: Source) -> Volume:
        """Read what `save` wrote.

        Raises
        ------
        VolumesNotFoundError
            It is not there.
        """
        about_path = folder / f"{source.name}.json"
        if not about_path.is_file():
            raise VolumesNotFoundError(f"no volume {source.name} in {folder}: `make training-data` fetches the volumes")
        about = json.loads(about_path.read_text())
        signal = _map(folder / f"{source.name}.signal.npy")
        tissues = _map(folder / f"{source.name}.tissues.npy") if about["tissues"] else None
        return cls(source, signal, tissues, _triple(about["spacing"]), _triple(about["centre"]), folder)

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes share the pages of the file instead of getting a copy through a pipe.
        if self.folder is not None:
            return Volume.load, (self.folder, self.source)
        return Volume, (self.source, self.signal, self.tissues, self.spacing, self.centre)


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
    found = [source for source in wanted if (folder / f"{source.name}.json").is_file()]
    if not found:
        names = ", ".join(source.name for source in wanted)
        raise VolumesNotFoundError(
            f"none of the {split} volumes ({names}) is in {folder}: `make training-data` fetches them"
        )
    return tuple(Volume.load(folder, source) for source in found)


def _map(path: Path) -> NDArray[Any]:
    """Open an array without reading it; pages are read as they are used."""
    array: NDArray[Any] = np.asarray(np.load(path, mmap_mode="r"))
    return array


def _triple(values: list[float]) -> tuple[float, float, float]:
    """Return three numbers."""
    x, y, z = values
    return float(x), float(y), float(z)
