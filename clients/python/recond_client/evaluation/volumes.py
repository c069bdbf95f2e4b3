"""The fastMRI files of a folder that can be scored."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from recond_client.errors import InputError

_REFERENCES: Final = {4: ("reconstruction_rss", "reconstruction_esc"), 3: ("reconstruction_esc", "reconstruction_rss")}
"""Datasets with the true images, by the axes of the k-space: several coils, one coil."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A fastMRI file.

    Parameters
    ----------
    path
        The file; its name seeds the mask.
    acquisition
        Attribute of that name, such as ``"AXT2"``; empty if there is none.
    acceleration
        Attribute of that name, None if there is none.
    slices
        Slices of the k-space.
    masked
        It brings a mask: the challenge's test files do.
    reference
        Name of the dataset with the true images; empty if there is none.
    """

    path: Path
    acquisition: str
    acceleration: float | None
    slices: int
    masked: bool
    reference: str

    def truth(self) -> NDArray[np.float32]:
        """Read the true images: float32 (slices, rows, columns).

        Raises
        ------
        InputError
            They cannot be read.
        """
        try:
            with h5py.File(self.path, "r") as file:
                values: NDArray[np.float32] = np.asarray(file[self.reference][()], dtype=np.float32)
                return values
        except (OSError, KeyError, TypeError, ValueError) as error:
            msg = f"{self.reference} in {self.path} cannot be read: {error}"
            raise InputError(msg, reason="REFERENCE_UNREADABLE", field=str(self.path)) from error


def find_volumes(
    folder: Path, *, acquisitions: Collection[str] = (), acceleration: float | None = None
) -> tuple[list[Volume], list[str]]:
    """Return the files of a folder that can be scored, in the order of their names, and why others cannot.

    Parameters
    ----------
    folder
        Its ``.h5`` files are looked at, not those of folders in it.
    acquisitions
        Take only these; empty for all.
    acceleration
        Take only files whose attribute says this; None for all.

    Returns
    -------
    volumes, left_out
        Files, and a sentence for every file that should have been one but cannot be scored. Those that the filters leave out are
        not mentioned.

    Raises
    ------
    InputError
        It is no folder.
    """
    if not folder.is_dir():
        msg = f"{folder} is not a folder: name the folder that holds the fastMRI .h5 files"
        raise InputError(msg, reason="NO_FOLDER", field="FOLDER")
    volumes, left_out = [], []
    for path in sorted(folder.glob("*.h5")):
        try:
            volume = _look(path)
        except (OSError, KeyError, TypeError, ValueError) as error:
            left_out.append(f"{path.name} cannot be read: {error}")
            continue
        if volume is None:
            continue  # another kind of HDF5, such as a reconstruction
        if (acquisitions and volume.acquisition not in acquisitions) or (
            acceleration is not None and volume.acceleration != acceleration
        ):
            continue
        if volume.reference:
            volumes.append(volume)
        else:
            left_out.append(f"{path.name} has no true images (reconstruction_rss or reconstruction_esc)")
    return volumes, left_out


def _look(path: Path) -> Volume | None:
    """Return what a file is, None if it holds no sorted k-space."""
    with h5py.File(path, "r") as file:
        kspace = file.get("kspace")
        if not isinstance(kspace, h5py.Dataset) or kspace.ndim not in _REFERENCES:
            return None
        acceleration = file.attrs.get("acceleration")
        return Volume(
            path=path,
            acquisition=_text(file.attrs.get("acquisition", "")),
            acceleration=None if acceleration is None else float(acceleration),
            slices=int(kspace.shape[0]),
            masked="mask" in file,
            reference=next((name for name in _REFERENCES[kspace.ndim] if name in file), ""),
        )


def _text(value: Any) -> str:  # noqa: ANN401 - what HDF5 attributes hold
    """Return an attribute as text."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
