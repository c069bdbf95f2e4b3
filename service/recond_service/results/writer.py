"""Collects the images of one request, scores them and writes them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from recond_service.finishing import finish_magnitude
from recond_service.ingest import read_reference
from recond_service.results.fastmri import write_fastmri
from recond_service.results.figures import compute_figures
from recond_service.results.mrd import write_mrd
from recond_service.results.nifti import write_nifti
from recond_service.results.png import write_png
from recond_service.results.volume import Volumes, sort_images
from recond_service.types import (
    DefectError,
    Figures,
    FindingList,
    FinishedImage,
    Frame,
    InvalidInputError,
    LimitExceededError,
    OutputFormat,
    ScanRequest,
)


@dataclass(frozen=True, slots=True)
class ScanSummary:
    """What is known when all images are there.

    Parameters
    ----------
    figures
        Quality figures.
    reference_source
        Where the reference came from, as in `Frame`; empty without one.
    order
        Numbers of the images in the order of the output volume.
    shape
        (images, rows, columns).
    """

    figures: Figures
    reference_source: str
    order: tuple[int, ...]
    shape: tuple[int, int, int]


class ResultWriter:
    """Finishes images one by one; scores and writes them when all are there.

    Parameters
    ----------
    request
        Limits, and the reference that was sent along.
    findings
        Gets what was noticed.

    Raises
    ------
    InvalidInputError, LimitExceededError
        If the reference that was sent along cannot be read. It is read at once, since the parts of a request may be gone when its
        images are there.
    """

    def __init__(self, request: ScanRequest, findings: FindingList) -> None:
        self._request = request
        self._findings = findings
        self._images: dict[int, FinishedImage] = {}
        self._references: dict[int, NDArray[np.float32]] = {}
        self._source = ""
        self._whitened = False
        self._bytes = 0
        self._volumes: Volumes | None = None
        self._model = ("", "")
        self._sent = _load_reference(request)

    def add(self, number: int, frame: Frame, image: NDArray[np.float32]) -> FinishedImage:
        """Finish an image: crop or interpolate it, and undo the scaling of its frame.

        Parameters
        ----------
        number
            Number of the frame; each is added once, in any order.
        frame
            Where the image came from; its k-space is not looked at.
        image
            Magnitudes (rows, columns) as the model made them.

        Returns
        -------
        FinishedImage
            In the units of the measured data.

        Raises
        ------
        InvalidInputError
            If the reference that was sent along has another shape.
        LimitExceededError
            If the images of the request take more memory than it may.
        """
        pixels = finish_magnitude(image, frame.image_shape, frame.window, frame.scale)
        if self._sent is not None and self._sent.shape[1:] != pixels.shape:
            raise _wrong_reference(self._sent.shape[1:], pixels.shape, "(rows, columns)")
        self._bytes += pixels.nbytes * (1 if frame.reference is None else 2)
        if self._bytes > self._request.limits.max_scan_bytes:
            raise LimitExceededError(
                f"The images take more than {self._request.limits.max_scan_bytes} bytes, which is what this service takes.",
                reason="IMAGES_TOO_LARGE",
                field=f"image {number}",
            )
        if not np.isfinite(pixels).all():
            pixels = np.nan_to_num(pixels, nan=0.0, posinf=float(np.finfo(np.float32).max), neginf=0.0)
            self._findings.warn(
                "image-not-finite",
                "Pixels that are no numbers were set to zero, those beyond single precision to its largest number.",
            )
        finished = FinishedImage(number, frame.index, pixels, frame.geometry)
        self._images[number] = finished
        self._whitened |= frame.whitened
        if frame.reference is not None:
            self._references[number] = frame.reference
            self._source = frame.reference_source
        return finished

    def finish(self, residuals: Sequence[float | None], model: str, version: str) -> ScanSummary:
        """Sort and score the images.

        Parameters
        ----------
        residuals
            ``||A x - y|| / ||y||`` of each image, None where the model does not fit the samples.
        model, version
            What made the images.

        Raises
        ------
        InvalidInputError
            If the reference does not fit the images.
        """
        if not self._images:
            raise DefectError("finish was called before an image was added.")
        self._model = (model, version)
        self._volumes = sort_images(list(self._images.values()))
        volume = self._volumes.stack()
        reference, source = self._reference(self._volumes)
        if reference is not None and source == "reference file" and self._whitened:
            volume = self._in_units_of(reference, volume)
        figures = compute_figures(volume, reference, residuals, self._findings)
        order = tuple(image.number for image in self._volumes.images)
        return ScanSummary(figures, source if reference is not None else "", order, self._volumes.shape)

    def write(self, format: OutputFormat, file: BinaryIO) -> None:  # noqa: A002 - the word of the wire contract
        """Write an output file, after `finish`.

        Parameters
        ----------
        format
            Which.
        file
            Seekable, open for reading and writing, empty.
        """
        if self._volumes is None:
            raise DefectError("write was called before finish.")
        match format:
            case OutputFormat.FASTMRI_HDF5:
                write_fastmri(self._volumes, file)
            case OutputFormat.MRD:
                write_mrd(self._volumes, *self._model, file)
            case OutputFormat.NIFTI:
                write_nifti(self._volumes, self._findings, file)
            case OutputFormat.PNG:
                write_png(self._volumes, file)

    def _reference(self, volumes: Volumes) -> tuple[NDArray[np.float32] | None, str]:
        """Return the reference in the order of the volume: the one that was sent along, else those of the frames."""
        if self._sent is None:
            if len(self._references) != len(self._images):
                return None, ""
            return np.stack([self._references[image.number] for image in volumes.images]), self._source
        if self._sent.shape != volumes.shape:
            raise _wrong_reference(self._sent.shape, volumes.shape, "(images, rows, columns)")
        return self._sent, "reference file"

    def _in_units_of(self, reference: NDArray[np.float32], volume: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return whitened images, which are in units of the noise, in the units of a reference: one least-squares factor."""
        energy = float(np.vdot(volume.astype(np.float64), volume))
        factor = float(np.vdot(reference.astype(np.float64), volume)) / energy if energy > 0 else 1.0
        if not (np.isfinite(factor) and factor > 0):
            return volume
        self._findings.info(
            "images-scaled-to-reference",
            f"Whitened images are in units of the noise: for the figures only, they were multiplied by {factor:.6g} (least squares "
            "over the volume) to bring them to the units of the reference.",
        )
        scaled: NDArray[np.float32] = (volume * np.float64(factor)).astype(np.float32)
        return scaled


def _load_reference(request: ScanRequest) -> NDArray[np.float32] | None:
    """Return the reference that was sent along, float32 (images, rows, columns) in the order of the output volume, or None."""
    sent = read_reference(request)
    if sent is None:
        return None
    volume = np.empty(sent.shape, np.float32)
    for number, image in enumerate(sent.images()):
        if not np.isfinite(image).all():
            place = f"{sent.place}[{number}]"
            raise InvalidInputError(
                f"{place} holds NaN or Inf: a reference must be finite.", reason="NOT_FINITE", field=place
            )
        volume[number] = image
    return volume


def _wrong_reference(found: tuple[int, ...], wanted: tuple[int, ...], axes: str) -> InvalidInputError:
    return InvalidInputError(
        f"The reference has the shape {found}, the reconstruction {wanted} {axes}: send a reference for the same images.",
        reason="REFERENCE_SHAPE",
        field="reference",
    )
