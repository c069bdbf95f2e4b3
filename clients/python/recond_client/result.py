"""What the service gives back."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recond_client.errors import InputError
from recond_client.heads import HeadResult

Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class ImageIndex:
    """Where an image belongs in the scan.

    Parameters
    ----------
    image
        Number of the image in the order in which the frames of the scan were complete.
    slice, contrast, phase, repetition, set
        Counters of the scan; slices of a 3-D scan are its partitions, slab after slab.
    stack
        Number of the stack in `Result.stacks`. While images are still to come it is what is known so far: by orientation, slab,
        encoding and size.
    """

    image: int
    slice: int = 0
    contrast: int = 0
    phase: int = 0
    repetition: int = 0
    set: int = 0
    stack: int = 0


@dataclass(frozen=True, slots=True)
class Geometry:
    """Position and orientation of an image, patient coordinates LPS.

    Parameters
    ----------
    position
        Centre of pixel ``(rows // 2, columns // 2)``, mm.
    row_direction, column_direction
        Unit vectors along increasing row (readout) and column (phase encode) index.
    slice_direction
        Unit vector of the slice normal.
    spacing
        Pixel size along rows, along columns, and slice thickness, mm.
    """

    position: Vector
    row_direction: Vector
    column_direction: Vector
    slice_direction: Vector
    spacing: Vector


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was noticed in the data, and what was done about it.

    Parameters
    ----------
    code
        Stable name, such as ``"noise-scan-missing"``.
    severity
        ``"info"`` or ``"warning"``.
    message
        What was found and what was done about it, in one sentence.
    count
        How often it happened.
    """

    code: str
    severity: str
    message: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Image:
    """One reconstructed image.

    Parameters
    ----------
    index
        Slice, contrast, phase and further counters.
    pixels
        float32 (rows, columns), magnitudes in the units of the measured data; rows = readout.
    geometry
        None where the input has none.
    complex_pixels
        complex64 (rows, columns), the same with its phase; None where that was not asked for.
    uncertainty
        float32 (rows, columns): standard deviation of the error of `pixels`, in their units; None where that was not asked for.
    data_consistency_residual
        ``||A x - y|| / ||y||`` over the measured samples of this image; None where the model does not fit the samples, or where the
        image was put together from several frames.
    findings
        What was noticed on this image: that a classical model took the place of the network, for example.
    """

    index: ImageIndex
    pixels: NDArray[np.float32]
    geometry: Geometry | None = None
    complex_pixels: NDArray[np.complex64] | None = None
    uncertainty: NDArray[np.float32] | None = None
    data_consistency_residual: float | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Figures:
    """Quality figures; None where a figure does not apply.

    Parameters
    ----------
    ssim, psnr, nmse
        Against the reference, as fastMRI defines them: over the picture, background included; psnr in dB.
    data_consistency_residual
        ``||A x - y|| / ||y||`` over the measured samples.
    noise_level
        Standard deviation of the noise as a fraction of the volume's maximum.
    ssim_object, psnr_object, nmse_object
        Against the reference, inside the object: where the mean over 7 x 7 pixels of the reference is above a tenth of its 99th
        percentile, holes filled. These are the figures to compare images by; those over the picture compare with published ones.
    """

    ssim: float | None = None
    psnr: float | None = None
    nmse: float | None = None
    data_consistency_residual: float | None = None
    noise_level: float | None = None
    ssim_object: float | None = None
    psnr_object: float | None = None
    nmse_object: float | None = None

    def applicable(self) -> dict[str, float]:
        """Return the figures that apply, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Seconds:
    """Seconds spent in each stage, summed over frames where a stage is per frame."""

    upload: float = 0.0
    ingest: float = 0.0
    conditioning: float = 0.0
    queue: float = 0.0
    compute: float = 0.0
    encode: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a call has come.

    Parameters
    ----------
    sent_bytes, total_bytes
        Of the upload; `total_bytes` is 0 where it is not known.
    images_done, images_total
        Of the images; `images_total` is 0 while it is not known.
    model
        Name of the model that runs; empty while it is not known.
    """

    sent_bytes: int = 0
    total_bytes: int = 0
    images_done: int = 0
    images_total: int = 0
    model: str = ""


@dataclass(frozen=True, slots=True)
class Stack:
    """Images of one orientation, slab, encoding and size: one affine holds for all of them.

    Parameters
    ----------
    name
        ``"axial"``, ``"sagittal"``, ``"coronal"``, ``"slab1"``, ...
    images
        float32 (images, rows, columns), in their order; shape (0, 0, 0) if the images were not asked for.
    index, geometry
        Place and position of each image.
    shape
        (images, rows, columns), also where the images were not asked for.
    complex_images
        complex64 like `images`, with their phase; None where that was not asked for.
    uncertainty
        float32 like `images`: standard deviation of the error of each pixel; None where that was not asked for.
    """

    name: str
    images: NDArray[np.float32]
    index: tuple[ImageIndex, ...]
    geometry: tuple[Geometry | None, ...]
    shape: tuple[int, ...]
    complex_images: NDArray[np.complex64] | None = None
    uncertainty: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that predicted held-out samples.

    Parameters
    ----------
    model
        Its name.
    held_out_error
        ``||prediction - samples|| / ||samples||``.
    expected_ssim
        SSIM inside the object that is expected of it, from that error and from scans that were sampled alike.
    """

    model: str
    held_out_error: float
    expected_ssim: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the service chose the model by.

    Parameters
    ----------
    model
        The model that was chosen.
    preferred
        The model that scans that were sampled alike speak for.
    candidates
        What held-out samples showed, the best prediction first; empty where none were held out.
    slices
        On how many slices samples were held out, other ones on each.
    seconds
        Time of model servers that this took.
    not_tried
        Why no samples were held out; empty where some were.
    """

    model: str
    preferred: str
    candidates: tuple[Candidate, ...] = ()
    slices: int = 0
    seconds: float = 0.0
    not_tried: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """A reconstructed scan.

    Parameters
    ----------
    images
        float32 (images, rows, columns), rows = readout: stack after stack, in each slices by position, within contrast, phase,
        repetition and set. Shape (0, 0, 0) if the images were not asked for, or have several sizes: those are in `stacks`.
    index, geometry
        Of each image, in the same order; the geometry is None where the input has none.
    figures
        SSIM, PSNR, NMSE and others; None where one does not apply.
    seconds
        Where the time went.
    findings
        What was noticed in the data.
    model, version, weights_sha256
        What reconstructed it; the hash is empty for classical models.
    reason
        Why this model was chosen.
    request_id
        Names the request in the logs of the service.
    reference
        Where the reference of the figures came from: ``"file"``, ``"reference file"``, ``"undersampling"``, or empty.
    shape
        (images, rows, columns) as the service reports it, also where the images were not asked for; rows and columns are 0
        where there are several sizes.
    stacks
        The images by orientation, slab and size.
    heads
        What each head says of the first volume, by name; of a head that looked at single slices alone, of the first slice.
    head_results
        All that heads said, in the order in which it came: of slices, and of volumes.
    complex_images
        complex64 like `images`, with their phase; None where that was not asked for.
    uncertainty
        float32 like `images`: standard deviation of the error of each pixel, in the units of the images; None where that was not
        asked for.
    files
        Output files by ending, such as ``".nii.gz"``, or ``"_axial.nii.gz"`` for a file that holds one of several stacks, or
        ``"_part-phase.nii.gz"`` for the phase of complex images, ``"_uncertainty.nii.gz"``, and ``"_tissue.nii.gz"`` for the label
        map of a head of that name, ``"_series_attention-contrast.nii.gz"`` for an attention map.
    evidence
        What the service chose the model by; None where a model was named, or a rule chose.
    """

    images: NDArray[np.float32]
    index: tuple[ImageIndex, ...]
    geometry: tuple[Geometry | None, ...]
    figures: Figures
    seconds: Seconds
    findings: tuple[Finding, ...]
    model: str
    version: str
    reason: str
    request_id: str
    weights_sha256: str = ""
    reference: str = ""
    shape: tuple[int, ...] = ()
    stacks: tuple[Stack, ...] = ()
    heads: Mapping[str, HeadResult] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    complex_images: NDArray[np.complex64] | None = None
    uncertainty: NDArray[np.float32] | None = None
    evidence: Evidence | None = None
    head_results: tuple[HeadResult, ...] = ()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the output file that goes with the ending of `path`; at no time is there a half-written file of that name.

        The phase of complex images and the uncertainty go beside it, see `save_all`.

        Parameters
        ----------
        path
            Where to; its ending names one of the outputs that the call asked for.

        Returns
        -------
        The path.

        Raises
        ------
        InputError
            If no output of that ending was asked for, or each of several stacks has one of its own.
        OSError
            If it cannot be written.
        """
        files = files_for(self.files, Path(path))
        if files[0][0].name != Path(path).name:
            names = ", ".join(stack.name for stack in self.stacks)
            msg = (
                f"{Path(path).name!r} would have to hold several stacks ({names}), which have a file each: write them with "
                "save_all, or ask for one with stack=..."
            )
            raise InputError(msg, reason="SEVERAL_STACKS", field="path")
        return self.save_all(path)[0]

    def save_all(self, path: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Write the output file that goes with the ending of `path`, or all of them.

        Each of several stacks has its own, ``head_axial.nii.gz`` for ``head.nii.gz``, and so has the phase of complex images in
        NIfTI, ``head_part-phase.nii.gz``, the uncertainty, ``head_uncertainty.nii.gz``, and the label map of each head,
        ``head_tissue.nii.gz``.

        Parameters
        ----------
        path
            As for `save`.

        Returns
        -------
        tuple of Path
            The files that were written.

        Raises
        ------
        InputError
            If no output of that ending was asked for.
        OSError
            If one cannot be written.
        """
        return save_files(self.files, Path(path))


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file beside its place and move it there when it is whole.

    Parameters
    ----------
    path
        Where to; a file of that name is replaced.
    data
        The whole contents of the file.

    Raises
    ------
    OSError
        If it cannot be written; nothing is left behind.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; an output gets the permissions that any other new file would have.
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise


def save_files(files: Mapping[str, bytes], target: Path) -> tuple[Path, ...]:
    """Write the output files of a call that go with the ending of a path; raises as `Result.save_all` does."""
    found = files_for(files, target)
    for path, data in found:
        write_atomically(path, data)
    return tuple(path for path, _ in found)


def files_for(files: Mapping[str, bytes], target: Path) -> list[tuple[Path, bytes]]:
    """Return what to write where for a path that ends in one of the outputs of a call.

    Raises
    ------
    InputError
        It ends in none.
    """
    found = []
    for name, data in files.items():
        place, dot, rest = name.partition(".")
        ending = dot + rest
        if target.name.endswith(ending):
            found.append((target.with_name(f"{target.name.removesuffix(ending)}{place}{ending}"), data))
    if found:
        return found
    endings = dict.fromkeys(name[name.index(".") :] for name in files)
    msg = (
        f"{target.name!r} does not end in one of the outputs of this call ({', '.join(endings) or 'none'}): "
        "name its ending in outputs=(...)"
    )
    raise InputError(msg, reason="OUTPUT_NOT_REQUESTED", field="outputs")
