"""Label maps of heads: what they call tissues, where their structures lie, which are held out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from recond_models.training.heads import painting
from recond_models.training.heads.samples import IGNORED
from recond_models.training.labels import STRUCTURES
from recond_models.training.prepare import normalise
from recond_models.training.volumes import SOURCES, Volume, VolumesNotFoundError, is_saved

CLASSES = (
    "background",
    "cerebrospinal fluid",
    "grey matter",
    "white matter",
    "deep grey nuclei",
    "cerebellar grey matter",
    "cerebellar white matter",
    "brain stem",
)
"""Classes of the network."""

OUTPUT = (
    "background",
    "cerebrospinal fluid",
    "grey matter",
    "white matter",
    "deep grey nuclei",
    "cerebellum",
    "brain stem",
)
"""Classes of the head."""

MERGED = (0, 1, 2, 3, 4, 5, 5, 6)
"""For each of `CLASSES` its place in `OUTPUT`."""

HELD_OUT = ("heads_training_seg_09", "heads_training_seg_16", "heads_training_seg_17")
"""Label maps that nothing is trained on."""

_MEMBERS = (
    (),
    (*painting.FLUID, 30, 31, 62, 63, 136, 137, 163, 164),
    painting.CORTEX,
    (2, 25, 41, 57, 77, 85, 251, 252, 253, 254, 255),
    (28, 60, 80, *painting.NUCLEI),
    painting.CEREBELLAR_GREY,
    painting.CEREBELLAR_WHITE,
    painting.STEM,
)
"""FreeSurfer's labels of each class. Deep grey nuclei include the hippocampus, the amygdala and the ventral diencephalon."""

_SURFACE_FLUID_VOXELS = 6


@dataclass(frozen=True, slots=True)
class LabelMap:
    """The structures of a head.

    Parameters
    ----------
    structures
        uint8 (x, y, z), running to the right, front and top: places in `STRUCTURES`, or classes where `signal` is given.
    centre
        Voxel in the middle of the brain.
    spacing
        Edges of a voxel, mm.
    signal
        float32 (x, y, z), 0 to 1.5: a measured image of the same head; None if there is none.
    """

    structures: NDArray[np.uint8]
    centre: tuple[float, float, float]
    spacing: tuple[float, float, float]
    signal: NDArray[np.float32] | None = None

    def at(self, points: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the structures nearest to points (3, ...) in mm from the middle of the brain; 0 outside."""
        flat: NDArray[np.int32] | None = None
        inside: NDArray[np.bool_] | None = None
        for coordinate, size in enumerate(self.structures.shape):
            place = points[coordinate] * np.float32(1 / self.spacing[coordinate])
            place += np.float32(self.centre[coordinate] + 0.5)
            within = (place >= 0) & (place < size)
            number = place.astype(np.int32)
            if flat is None or inside is None:
                flat, inside = number, within
            else:
                flat *= size
                flat += number
                inside &= within
        assert flat is not None  # noqa: S101  (there are three coordinates)
        assert inside is not None  # noqa: S101
        flat *= inside
        found: NDArray[np.uint8] = self.structures.reshape(-1)[flat]
        found *= inside
        return found

    def signal_at(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the measured image at points in mm from the middle of the brain, linearly interpolated."""
        assert self.signal is not None  # noqa: S101
        places = [
            points[coordinate] / np.float32(self.spacing[coordinate]) + np.float32(self.centre[coordinate])
            for coordinate in range(3)
        ]
        found: NDArray[np.float32] = ndimage.map_coordinates(self.signal, places, order=1, output=np.float32)
        return found


def class_of_structures() -> NDArray[np.uint8]:
    """Return the class of each of `STRUCTURES`, uint8."""
    table = np.zeros(len(STRUCTURES), dtype=np.uint8)
    for number, members in enumerate(_MEMBERS):
        for member in members:
            if member in STRUCTURES:
                table[STRUCTURES.index(member)] = number
    return table


def load_maps(folder: Path, *, held_out: bool) -> list[LabelMap]:
    """Return the label maps in a folder of training volumes.

    Parameters
    ----------
    folder
        Where `make training-data` put them.
    held_out
        Those of `HELD_OUT`, or all others.

    Raises
    ------
    VolumesNotFoundError
        There is none.
    """
    wanted = [source for source in SOURCES if source.layout == "labels" and (source.name in HELD_OUT) == held_out]
    volumes = [Volume.load(folder, source) for source in wanted if is_saved(folder, source)]
    if not volumes:
        raise VolumesNotFoundError(
            f"no label maps ({wanted[0].name} ...) in {folder}: `make training-data` with a collection that holds them makes them"
        )
    return [LabelMap(np.ascontiguousarray(volume.voxels), volume.centre, volume.spacing) for volume in volumes]


def load_measured(collection: Path) -> list[LabelMap]:
    """Return the measured head with FreeSurfer's labels of a folder of collected images and labels, if it is there.

    Outside the brain nothing is labelled in it, not even the fluid around the brain: pixels near the brain do not count.
    """
    image, labels = collection / "images" / "fs001_orig.nii.gz", collection / "labels" / "fs001_aparc+aseg.nii.gz"
    if not (image.exists() and labels.exists()):
        return []
    grids = [
        nibabel.funcs.as_closest_canonical(nibabel.nifti1.Nifti1Image.from_filename(path))  # type: ignore[no-untyped-call]
        for path in (image, labels)
    ]
    numbers = np.asarray(grids[1].dataobj).astype(np.int64)
    numbers[numbers >= 2000] = 42
    numbers[numbers >= 1000] = 3
    table = np.zeros(int(numbers.max()) + 1, dtype=np.uint8)
    for number, members in enumerate(_MEMBERS):
        table[[member for member in members if member < len(table)]] = number
    classes = table[numbers]
    near = ndimage.binary_dilation(classes > 0, iterations=_SURFACE_FLUID_VOXELS)
    classes[near & (classes == 0)] = IGNORED
    signal = normalise(np.asarray(grids[0].dataobj, dtype=np.float32))
    (box,) = ndimage.find_objects((signal > 0.05).astype(np.uint8))
    centre = np.array(ndimage.center_of_mass(np.isin(numbers, (2, 41)))) - [side.start for side in box]
    spacing = np.linalg.norm(grids[0].affine[:3, :3], axis=0)
    x, y, z = (float(value) for value in centre)
    dx, dy, dz = (float(value) for value in spacing)
    return [LabelMap(np.ascontiguousarray(classes[box]), (x, y, z), (dx, dy, dz), np.ascontiguousarray(signal[box]))]
