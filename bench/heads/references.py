"""Heads whose tissues somebody else has labelled, and real heads of which only the brain is known."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import nibabel
import numpy as np
from numpy.typing import NDArray

from recond_models.training.fields import smooth_field
from recond_models.training.heads.label_maps import CLASSES, HELD_OUT, class_of_structures
from recond_models.training.heads.painting import draw_palette
from recond_models.training.prepare import read
from recond_models.training.volumes import SIGNAL_UNITS, SOURCES, VOXEL, Volume, is_saved

GREY = (2, 4, 5)
WHITE = (3, 6)
BRAIN = tuple(range(2, len(CLASSES)))
"""Places in `recond_models.training.heads.label_maps.CLASSES`."""

_ITK = "packages/insighttoolkit5-examples/usr/share/doc/insighttoolkit5-examples/examples/Data"
_PLANES = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}
_SEED = 5
# Of the scans at 0.055 T, whose files do not say: from slice to slice, and about their field of view.
_LOW_FIELD_MM, _FIELD_MM = 5.0, 230.0


@dataclass(frozen=True, slots=True)
class Reference:
    """A head and what is known of it.

    Parameters
    ----------
    name
        Of the head, contrast and plane.
    volume
        float32 (slices, rows, columns).
    spacing
        Of slices, rows and columns, mm.
    masks
        What the reference calls a tissue, bool of the shape of `volume`, and the classes of the network that mean the same.
    axes
        Axes of the RAS grid that became slices, rows and columns (the last two reversed).
    """

    name: str
    volume: NDArray[np.float32]
    spacing: tuple[float, float, float]
    masks: dict[str, tuple[NDArray[np.bool_], tuple[int, ...]]] = field(default_factory=dict)
    axes: tuple[int, int, int] = (2, 1, 0)

    def canonical(self) -> nibabel.nifti1.Nifti1Image:
        """Return the volume as a NIfTI image along the patient's axes."""
        order = np.argsort(self.axes)
        values = self.volume[:, ::-1, ::-1].transpose(order)
        affine = np.diag([*(self.spacing[axis] for axis in order), 1.0])
        return nibabel.nifti1.Nifti1Image(np.ascontiguousarray(values), affine)  # type: ignore[no-untyped-call]

    def back(self, canonical: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return what belongs to the grid of `canonical` on that of the volume."""
        return canonical.transpose(self.axes)[:, ::-1, ::-1]


def mni152() -> Iterator[Reference]:
    """Yield the MNI152 average of nilearn with its maps of grey and white matter, in three planes.

    Its map of grey matter includes the deep nuclei and the cerebellar cortex; the brain stem is shared between both maps, so what
    the head calls brain stem does not count.
    """
    spec = importlib.util.find_spec("nilearn")
    if spec is None or spec.origin is None:
        return
    folder = Path(spec.origin).parent / "datasets" / "data"
    signal, grey, white = (
        read(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz")[0] for name in ("t1", "gm", "wm")
    )
    for plane, axes in _PLANES.items():
        turned = [_slices(values, axes) for values in (signal, grey, white)]
        masks = {"grey matter": (turned[1] > 127, GREY), "white matter": (turned[2] > 127, WHITE)}
        yield Reference(f"MNI152, {plane}", turned[0], (1.0, 1.0, 1.0), masks, axes=axes)


def itk(volumes: Path) -> Iterator[Reference]:
    """Yield ITK's head: k-means of its brightness within a mask of the brain that somebody drew."""
    names = ("T1UCharRaw", "T1RawSkullStrip", "T1KmeansPrelimSegmentation")
    paths = [volumes / _ITK / f"KmeansTest_{name}.nii.gz" for name in names]
    if not all(path.exists() for path in paths):
        return
    signal, brain, clusters = (_slices(read(path)[0], _PLANES["coronal"]) for path in paths)
    inside = brain > 0
    masks = {
        "grey matter": (inside & (clusters == 5), GREY),
        "white matter": (inside & (clusters == 6), (*WHITE, 7)),
        "brain and fluid": (inside, (1, *BRAIN)),
    }
    yield Reference("ITK, coronal 3 mm", signal, (3.0, 2.0, 2.0), masks, axes=_PLANES["coronal"])


def painted(volumes: Path, weightings: tuple[str, ...] = ("t1", "t2", "flair", "pd")) -> Iterator[Reference]:
    """Yield the held-out label maps in usual contrasts: 2 mm in three planes, and thick axial slices."""
    classes = class_of_structures()
    plans = (("axial", 2), ("coronal", 2), ("sagittal", 2), ("axial", 5))
    for source in SOURCES:
        if source.name not in HELD_OUT or not is_saved(volumes, source):
            continue
        structures = Volume.load(volumes, source).voxels
        for number, weighting in enumerate(weightings):
            generator = np.random.default_rng([_SEED, HELD_OUT.index(source.name), number])
            palette = draw_palette(generator, weighting, 0.3, stripped=False)
            for plane, thick in (plans[number % 3], plans[3]):
                axes = _PLANES[plane]
                numbers = _slices(structures, axes)
                signal = palette.means[numbers]
                field_ = smooth_field(generator, signal.shape[1:], 5)[0]
                noise = palette.textures[numbers] + np.float32(0.02)
                signal = signal * np.exp(np.float32(0.12) * field_)
                signal += noise * generator.standard_normal(signal.shape, dtype=np.float32)
                count = len(signal) // thick
                signal = np.abs(signal[: count * thick].reshape(count, thick, *signal.shape[1:]).mean(axis=1))
                truth = classes[numbers[thick // 2 : count * thick : thick]]
                masks = {name: (truth == place, (place,)) for place, name in enumerate(CLASSES) if place}
                masks |= {
                    "all grey": (np.isin(truth, GREY), GREY),
                    "all white": (np.isin(truth, WHITE), WHITE),
                    "cerebellum": (np.isin(truth, (5, 6)), (5, 6)),
                    "brain": (np.isin(truth, BRAIN), BRAIN),
                }
                name = f"{source.name[-2:]} painted {weighting}, {plane} {thick} mm"
                yield Reference(name, signal, (float(thick), 1.0, 1.0), masks, axes=axes)


def real(volumes: Path, data: Path) -> Iterator[Reference]:
    """Yield real heads that no head was trained on: the training volumes of reconstruction, and images of measured k-space."""
    for source in SOURCES:
        if source.layout == "labels" or source.name.startswith(("fs001", "inia19", "colin27-brain", "mni152", "itk")):
            continue
        if not is_saved(volumes, source):
            continue
        volume = Volume.load(volumes, source)
        voxels = volume.voxels["signal"] if volume.voxels.dtype == VOXEL else volume.voxels
        signal = np.asarray(voxels, dtype=np.float32) / SIGNAL_UNITS
        axes = _PLANES["axial"]
        spacing = tuple(volume.spacing[axis] for axis in axes)
        if spacing[0] <= 8:
            yield Reference(source.name, _slices(signal, axes), spacing, axes=axes)  # type: ignore[arg-type]
    for path in sorted((data / "test" / "kspace").glob("lowfield_*.h5")):
        with h5py.File(path) as file:
            kspace = np.asarray(file["kspace"])
        images = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes=(-2, -1))), axes=(-2, -1))
        signal = np.sqrt((np.abs(images) ** 2).sum(axis=1)).astype(np.float32)
        pixels = (_FIELD_MM / signal.shape[1], _FIELD_MM / signal.shape[2])
        plane = {"cor": "coronal", "sag": "sagittal"}.get(path.stem[-3:], "axial")
        yield Reference(path.stem, signal, (_LOW_FIELD_MM, *pixels), axes=_PLANES[plane])


def _slices(values: NDArray[np.generic], axes: tuple[int, int, int]) -> NDArray[np.generic]:
    """Turn a RAS grid into slices whose rows run down and whose columns run to the left."""
    return np.ascontiguousarray(values.transpose(axes)[:, ::-1, ::-1])
