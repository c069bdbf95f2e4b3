"""The heads that training data are simulated from, and which of them no network may be trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Split = Literal["training", "validation", "test"]
Layout = Literal["volume", "slices", "labels"]

TISSUES = ("grey", "white", "fluid", "bone", "soft")
"""Tissue classes in the order of `Volume.tissues`: grey matter, white matter, cerebrospinal fluid, bone and air cells, scalp and
all other soft tissue."""

VOXEL = np.dtype([("signal", "<u2"), ("tissues", "u1", (5,)), ("unused", "u1")])
"""Eight bytes for a voxel: T1-weighted signal in `SIGNAL_UNITS`, share of each tissue in 1/255."""

SIGNAL_UNITS = 40_000
LARGEST_SIGNAL = 1.5

_FORMAT = 2
_PRESENT = 0.1


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
    layout
        ``"volume"``: cut in any direction; ``"slices"``: thick slices, cut along their own plane only; ``"labels"``: a map of
        structures, whose signal is drawn anew for every slice.
    """

    name: str
    subject: str
    split: Split
    licence: str
    package: str
    reason: str
    weight: float = 1.0
    layout: Layout = "volume"


PACKAGED = (
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
"""What package managers have."""

_SYNTHSEG = "BBillot/SynthSeg data/training_label_maps"
_MS = "muschellij2/open_ms_data (Lesjak et al., Ljubljana)"


def _collected(
    names: str,
    subject: str,
    split: Split,
    licence: str,
    package: str,
    reason: str,
    weight: float,
    layout: Layout = "volume",
) -> tuple[Source, ...]:
    """Return sources of one subject that differ in their contrast."""
    return tuple(Source(name, subject, split, licence, package, reason, weight, layout) for name in names.split())


COLLECTED = (
    *(
        Source(
            f"heads_training_seg_{number:02d}",
            f"synthseg-{number:02d}",
            "validation" if number in {16, 17} else "training",
            "Apache-2.0",
            _SYNTHSEG,
            "map of the structures of a whole head: contrast and texture are drawn for every slice",
            0.8,
            "labels",
        )
        for number in range(1, 18)
    ),
    *_collected(
        "studyforrest_T1", "studyforrest", "training", "PDDL-1.0", "datalad/example-dicom-structural",
        "one real head at 0.7 mm", 3.0,
    ),
    *_collected(
        "synthsr_FLAIR", "synthsr", "training", "Apache-2.0", "neurolabusc/py_synthsr", "a real 3-D FLAIR with skull and eyes", 3.0
    ),
    *_collected(
        "seg3d_T1", "seg3d", "training", "MIT", "neurolabusc/VolumeRenderingData", "a real head of a patient", 2.0
    ),
    *_collected("fs001_orig", "fs001", "training", "Apache-2.0", "raamana/visualqc", "one real head at 1 mm", 2.0),
    *_collected("niimath_T1", "niimath", "training", "CC0-1.0", "rordenlab/niimath-bitmap", "a real brain at 0.8 mm", 1.0),
    *_collected(
        "niimath_T2", "niimath-M2307", "training", "CC0-1.0", "rordenlab/niimath-bitmap",
        "a real T2-weighted brain after a stroke", 1.0,
    ),
    *(
        source
        for patient in ("07", "26")
        for source in _collected(
            f"ms_mni_patient{patient}_FLAIR ms_mni_patient{patient}_T1 ms_mni_patient{patient}_T1POST ms_mni_patient{patient}_T2",
            f"ms-cross-{patient}", "training", "CC-BY-4.0", _MS,
            "brain of a patient with multiple sclerosis in four contrasts; resampled, so seldom", 0.2,
        )
    ),
    *_collected(
        "ms_long_patient01_study1_FLAIR ms_long_patient01_study1_T1W ms_long_patient01_study1_T2W",
        "ms-long-01", "training", "CC-BY-4.0", _MS, "slices of a patient with multiple sclerosis", 0.9, "slices",
    ),
    *_collected(
        "ms_long_patient03_study1_FLAIR ms_long_patient03_study1_T2W ms_long_patient03_study2_T1W",
        "ms-long-03", "training", "CC-BY-4.0", _MS, "slices of a patient with multiple sclerosis", 0.9, "slices",
    ),
    *_collected(
        "ms_long_patient04_study1_FLAIR ms_long_patient04_study1_T1W ms_long_patient04_study1_T2W",
        "ms-long-04", "validation", "CC-BY-4.0", _MS, "slices of a patient in three contrasts: real, and of nobody else", 1.0,
        "slices",
    ),
    *_collected(
        "ms_long_patient09_study2_FLAIR", "ms-long-09", "training", "CC-BY-4.0", _MS,
        "slices of a patient with multiple sclerosis", 0.9, "slices",
    ),
    *_collected(
        "ms_long_patient19_study1_FLAIR ms_long_patient19_study2_T1W", "ms-long-19", "training", "CC-BY-4.0", _MS,
        "slices of a patient with multiple sclerosis", 0.9, "slices",
    ),
    *_collected(
        "ms_long_patient20_study2_FLAIR ms_long_patient20_study2_T1W", "ms-long-20", "training", "CC-BY-4.0", _MS,
        "slices of a patient with multiple sclerosis", 0.9, "slices",
    ),
    *_collected(
        "fnndsc_T2_FSE", "fnndsc", "training", "Apache-2.0", "FNNDSC/data", "fast spin echo at 0.4 mm, whole head", 2.0, "slices"
    ),
    *_collected("torchio_T2", "fernando", "training", "MIT", "fepegar/torchio-data", "slices of a whole head", 1.0, "slices"),
    *(
        source
        for patient in ("6A", "6B", "7A")
        for source in _collected(
            f"lowfield_pair_{patient}_3T_T1w lowfield_pair_{patient}_3T_T2w lowfield_pair_{patient}_3T_FLAIR",
            f"lowfield-{patient}", "validation", "CC0-1.0", "bispmri/Ultra-low-field-MRI-Scanner",
            "four slices of a patient at 3 T; scans of the same patient at 0.055 T are tests, so not trained on", 0.5, "slices",
        )
    ),
)  # fmt: skip
"""Files that are collected in a folder, by the names that they have there."""

SOURCES = (*PACKAGED, *COLLECTED)


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
        (x, y, z) running to the right, to the front and to the top (RAS). `VOXEL`: signal and tissues of a place lie together,
        because they are always wanted together; uint16: the signal alone; uint8: numbers of structures.
    has_tissues
        The tissues are known: the voxels are `VOXEL`.
    spacing
        Edges of a voxel in mm, (x, y, z).
    centre
        Voxel in the middle of the brain, (x, y, z).
    folder
        Where it was loaded from; the voxels are then a map of the file. None if made in memory.
    """

    source: Source
    voxels: NDArray[Any]
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
        units = np.round(signal * SIGNAL_UNITS).astype(np.uint16)
        if tissues is None:
            return cls(source, units, False, spacing, centre)
        voxels = np.zeros(signal.shape, dtype=VOXEL)
        voxels["signal"] = units
        voxels["tissues"] = np.moveaxis(tissues, 0, -1)
        return cls(source, voxels, True, spacing, centre)

    @property
    def has_labels(self) -> bool:
        """The voxels are numbers of structures."""
        return self.voxels.dtype == np.uint8

    def present(self, step: int) -> NDArray[np.bool_]:
        """Tell where the head is, on every `step`-th voxel along each axis."""
        part = self.voxels[::step, ::step, ::step]
        if self.has_labels:
            return np.asarray(part > 0)
        signal = part["signal"] if part.dtype == VOXEL else part
        return np.asarray(signal > _PRESENT * SIGNAL_UNITS)

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
        raw = self.voxels.view(np.uint64) if self.voxels.dtype == VOXEL else self.voxels
        np.save(folder / f"{name}.voxels.npy", raw)
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
        voxels = np.asarray(np.load(folder / f"{source.name}.voxels.npy", mmap_mode="r"))
        if voxels.dtype == np.uint64:
            voxels = voxels.view(VOXEL)
            if not about["tissues"]:
                voxels = np.ascontiguousarray(voxels["signal"])
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
        names = ", ".join(source.name for source in wanted if source in PACKAGED)
        raise VolumesNotFoundError(
            f"none of the {split} volumes ({names}) is in {folder}: `make training-data` fetches them"
        )
    return tuple(Volume.load(folder, source) for source in found)


def _triple(values: list[float]) -> tuple[float, float, float]:
    """Return three numbers."""
    x, y, z = values
    return float(x), float(y), float(z)
