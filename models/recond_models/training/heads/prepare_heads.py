"""Pack the heads that `lesion` and `series` are trained on.

    python -m recond_models.training.heads.prepare_heads VOLUMES -o OUT --masks MASKS --lesions LABELS

VOLUMES is what `make training-data` wrote, MASKS what ``bench/heads/brain_masks.py`` wrote, LABELS the folder of the collection
with ``ms_mni_patientNN_LESION.nii.gz``. The reports of both heads are made with what comes out.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import click
import nibabel
import numpy as np
from numpy.typing import NDArray

from recond_models.training.heads.bank import Contrast, LesionHead, from_labels, from_signal
from recond_models.training.volumes import SOURCES, Source, Volume, is_saved

_LEFT_OUT = {
    "colin27": "healthy head for the figures",
    "colin27-brain": "as colin27",
    "mni152-2009a": "healthy head for the figures",
    "inia19": "no human head",
    "niimath_T2": "a stroke that nobody marked",
}
_MARKED = "ms_mni_"


def contrast_of(name: str) -> Contrast:
    """Return the contrast of a volume by its name."""
    if "FLAIR" in name or name == "torchio_T2":
        return "flair"
    if "T1POST" in name:
        return "t1post"
    return "t2" if "T2" in name else "t1"


def pack(volume: Volume, masks: Path, labels: Path) -> LesionHead:
    """Pack a volume with its mask and its lesions, where there are some."""
    source = volume.source
    seed = zlib.crc32(source.name.encode())
    if volume.has_labels:
        return from_labels(volume, seed)
    mask = masks / f"{source.name}.npy"
    brain = np.load(mask) if mask.exists() else None
    lesion = None
    # Plaques are not seen on T1 without contrast agent.
    if source.name.startswith(_MARKED) and not source.name.endswith("_T1"):
        lesion = _lesion(volume, labels)
    return from_signal(volume, contrast_of(source.name), brain, lesion, seed)


def _lesion(volume: Volume, labels: Path) -> NDArray[np.bool_]:
    """Return the marked lesions on the grid of a volume, which is a part of that of its label file."""
    stem, _, _ = volume.source.name.rpartition("_")
    marked = _canonical(labels / f"{stem}_LESION.nii.gz") > 0
    whole = _canonical(labels.parent / "images" / f"{volume.source.name}.nii.gz")
    return marked[_place(whole, np.asarray(volume.voxels, dtype=np.float32))]


def _canonical(path: Path) -> NDArray[np.float32]:
    """Return the voxels of a file with axes along those of the patient."""
    image = nibabel.as_closest_canonical(nibabel.load(path))  # type: ignore[no-untyped-call]
    return np.asarray(image.dataobj, dtype=np.float32)


def _place(whole: NDArray[np.float32], part: NDArray[np.float32]) -> tuple[slice, ...]:
    """Return where a part was cut out, by its profiles along the axes."""
    place = []
    for axis, size in enumerate(part.shape):
        others = tuple(other for other in range(3) if other != axis)
        profile, wanted = whole.sum(axis=others), part.sum(axis=others)
        likeness = [
            np.corrcoef(profile[start : start + size], wanted)[0, 1] for start in range(len(profile) - size + 1)
        ]
        start = int(np.argmax(likeness))
        place.append(slice(start, start + size))
    return tuple(place)


def _wanted(source: Source) -> bool:
    return (
        source.name not in _LEFT_OUT
        and source.split != "test"
        and source.subject != "itk"
        and "lowfield" not in source.name
    )


@click.command()
@click.argument("volumes", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Where to.")
@click.option("--masks", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True, help="Brains.")
@click.option(
    "--lesions", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True, help="Marked lesions."
)
def main(volumes: Path, output: Path, masks: Path, lesions: Path) -> None:
    """Pack the heads in VOLUMES."""
    output.mkdir(parents=True, exist_ok=True)
    for source in SOURCES:
        if not _wanted(source) or not is_saved(volumes, source):
            continue
        head = pack(Volume.load(volumes, source), masks, lesions)
        head.save(output)
        click.echo(f"{head.name}: {head.contrast}")


if __name__ == "__main__":
    main()
