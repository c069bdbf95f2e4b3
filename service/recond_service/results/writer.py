"""Collects the images of one request, scores them and writes them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from recond_service.ingest import read_reference
from recond_service.results.figures import compute_figures, root_mean_square
from recond_service.results.head_maps import HeadMaps
from recond_service.results.writers import (
    write_attention_map,
    write_fastmri,
    write_label_map,
    write_mrd,
    write_nifti,
    write_png,
)
from recond_service.series import Assembly, Series, StackNumbers, make_series
from recond_service.types import (
    DefectError,
    Figures,
    FindingList,
    FinishedImage,
    Frame,
    HeadResult,
    ImagePlace,
    ImageVolume,
    InvalidInputError,
    LimitExceededError,
    OutputFormat,
    ScanRequest,
    StackSummary,
)

PHASE, UNCERTAINTY = "phase", "uncertainty"
"""Parts of images that have a NIfTI file of their own."""


@dataclass(frozen=True, slots=True)
class OutputFile:
    """Which of several files of a format.

    Parameters
    ----------
    stack
        Name of the stack that it holds alone; empty where one file holds all.
    part
        `PHASE`, `UNCERTAINTY`, the name of a head for its label map, that of an attention map, or empty.
    """

    stack: str
    part: str


@dataclass(frozen=True, slots=True)
class ResultSummary:
    """What is known when all images are there.

    Parameters
    ----------
    figures
        Quality figures of the images of the output.
    reference_source
        Where the reference came from, as in `Frame`; empty without one.
    order
        Numbers of the images in the order of the output: stack after stack.
    shape
        (images, rows, columns); rows and columns are 0 where stacks have several sizes.
    stacks
        What the output consists of.
    """

    figures: Figures
    reference_source: str
    order: tuple[int, ...]
    shape: tuple[int, int, int]
    stacks: tuple[StackSummary, ...]


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
        self._assembly = Assembly()
        self._reference_assembly = Assembly()
        self._stacks = StackNumbers()
        self._source = ""
        self._whitened = False
        self._repetition_time: float | None = None
        self._bytes = 0
        self._series: Series | None = None
        self._model = ("", "")
        self._head_maps = HeadMaps()
        self._given = False  # the images come from a file, and were not reconstructed here
        self._voxel_order: tuple[int, int, int] | None = None
        self._sent = _load_reference(request)

    def announce(self, number: int, frame: Frame) -> ImagePlace | None:
        """Give the images of a frame their numbers; frames are announced in their order, before any of them is added.

        Parameters
        ----------
        number
            Number of the frame.
        frame
            Its k-space is not looked at.

        Returns
        -------
        ImagePlace or None
            Where the image of the frame belongs; None for a plane of a 3-D scan, whose images are put together by `add`.
        """
        if frame.reference is not None:
            self._reference_assembly.announce(number, frame)
        image = self._assembly.announce(number, frame)
        if image is None:
            return None
        stack = self._stacks.of(frame.index, frame.geometry, frame.image_shape, frame)
        return ImagePlace(image, frame.index, frame.geometry, stack)

    def add(
        self,
        number: int,
        frame: Frame,
        image: NDArray[np.float32] | NDArray[np.complex64],
        uncertainty: NDArray[np.float32] | None = None,
    ) -> list[FinishedImage]:
        """Take the finished image of a frame.

        Parameters
        ----------
        number
            Number of the frame; each is added once, in any order.
        frame
            Where the image came from; its k-space is not looked at.
        image
            (rows, columns) in the units of the measured data: magnitudes, or complex.
        uncertainty
            float32 (rows, columns): standard deviations of the magnitudes; None where they are not wanted.

        Returns
        -------
        list of FinishedImage
            The images that are complete now: one for a 2-D frame; for the last frame of a 3-D scan the slices of the scan, for its
            other frames none.

        Raises
        ------
        InvalidInputError
            If the reference that was sent along has another shape.
        LimitExceededError
            If the images of the request take more memory than it may.
        """
        self._bytes += (
            image.nbytes * (2 if np.iscomplexobj(image) else 1) + (frame.reference is not None) * image.size * 4
        ) + (uncertainty is not None) * image.size * 4
        if self._bytes > self._request.limits.max_scan_bytes:
            raise LimitExceededError(
                f"The images take more than {self._request.limits.max_scan_bytes} bytes, which is what this service takes.",
                reason="IMAGES_TOO_LARGE",
                field=f"image {number}",
            )
        self._whitened |= frame.whitened
        self._repetition_time = frame.repetition_time
        if frame.reference is not None:
            self._source = frame.reference_source
            for reference in self._reference_assembly.add(number, frame, frame.reference):
                self._references[reference.number] = reference.pixels
        finished = [
            replace(complete, stack=self._stacks.of(complete.index, complete.geometry, complete.pixels.shape, frame))
            for complete in self._assembly.add(number, frame, image, uncertainty)
        ]
        for complete in finished:
            if self._sent is not None and self._sent.shape[1:] != complete.pixels.shape and not self._request.stack:
                raise _wrong_reference(self._sent.shape[1:], complete.pixels.shape, "(rows, columns)")
            self._images[complete.number] = complete
        return finished

    def finish(self, residuals: Sequence[float | None], model: str, version: str) -> ResultSummary:
        """Put the images in their place and score them.

        Parameters
        ----------
        residuals
            ``||A x - y|| / ||y||`` of each frame, None where the model does not fit the samples.
        model, version
            What made the images.

        Raises
        ------
        InvalidInputError
            If the reference does not fit the images, or there is no stack of the name that was asked for.
        """
        if not self._images:
            raise DefectError("finish was called before an image was added.")
        self._model = (model, version)
        self._series = self._chosen(
            make_series(list(self._images.values()), self._stacks, self._repetition_time, self._findings)
        )
        figures, source = self._figures(self._series, residuals)
        return self._summary(self._series, figures, source)

    @staticmethod
    def _summary(series: Series, figures: Figures, source: str) -> ResultSummary:
        images = series.images
        shape = series.shape or (len(images), 0, 0)
        stacks = tuple(
            StackSummary(stack.name, tuple(image.number for image in stack.images), stack.shape)
            for stack in series.stacks
        )
        return ResultSummary(figures, source, tuple(image.number for image in images), shape, stacks)

    def add_images(self, volume: ImageVolume) -> None:
        """Take images that were reconstructed elsewhere, all of them.

        Parameters
        ----------
        volume
            The images; label maps are written in the order of the voxels that its file has.
        """
        self._given = True
        self._voxel_order = volume.voxel_order
        for image in volume.images:
            stack = self._stacks.of(image.index, image.geometry, image.pixels.shape, None)
            self._images[image.number] = replace(image, stack=stack)

    def finish_images(self) -> ResultSummary:
        """Put images that were reconstructed elsewhere in their place; they get no figures."""
        self._series = make_series(list(self._images.values()), self._stacks, None, self._findings)
        return self._summary(self._series, Figures(), "")

    @property
    def series(self) -> Series:
        """The images in their place, once `finish` was called."""
        return self._finished_series()

    def add_head(self, result: HeadResult, maps: Sequence[NDArray[Any]]) -> None:
        """Take what a head found, to be written beside the images.

        Parameters
        ----------
        result
            What it found.
        maps
            Its label map, uint8 or uint16 (slices, rows, columns), and its confidence, uint8; or its attention maps, float32
            (groups, slices, rows, columns); empty where it has none.
        """
        self._head_maps.add(result, maps)

    def files(self, format: OutputFormat) -> tuple[OutputFile, ...]:  # noqa: A002 - the word of the wire contract
        """Return the files of a format.

        A NIfTI file has one affine and so one stack; the phase of complex images and the uncertainty are files beside it. fastMRI
        files and contact sheets have images of one size; MRD files hold anything.
        """
        series = self._finished_series()
        together = len(series.stacks) == 1 or format is OutputFormat.MRD
        if together or (series.shape is not None and format is not OutputFormat.NIFTI):
            stacks: tuple[str, ...] = ("",)
        else:
            stacks = tuple(stack.name for stack in series.stacks)
        parts = [""] * (not self._given or format is not OutputFormat.NIFTI)  # who sent the images has them
        if format is OutputFormat.NIFTI:
            parts += [PHASE] * all(image.complex_pixels is not None for image in series.images)
            parts += [UNCERTAINTY] * all(image.uncertainty is not None for image in series.images)
            files = tuple(OutputFile(stack, part) for stack in stacks for part in parts)
            return (
                *files,
                *(OutputFile(stack, head) for stack in stacks for head in self._head_maps.on(stack, series)),
                *(OutputFile(stack, part) for stack in stacks for part in self._head_maps.attention_on(stack, series)),
            )
        return tuple(OutputFile(stack, part) for stack in stacks for part in parts)

    def write(self, format: OutputFormat, file: BinaryIO, which: OutputFile | None = None) -> None:  # noqa: A002
        """Write an output file, after `finish`.

        Parameters
        ----------
        format
            Its format.
        file
            Seekable, open for reading and writing, empty.
        which
            One of `files`; None for the only one.
        """
        series = self._finished_series()
        which = which or OutputFile("", "")
        attention = self._head_maps.attention_on(which.stack, series)
        chosen = (series.named(which.stack) if which.stack else series) or series
        match format:
            case OutputFormat.FASTMRI_HDF5:
                write_fastmri(chosen, file, self._head_maps)
            case OutputFormat.MRD:
                write_mrd(chosen, *self._model, file)
            case OutputFormat.NIFTI if which.part in self._head_maps.heads:
                stack, maps = chosen.stacks[0], self._head_maps
                write_label_map(
                    stack,
                    maps.of(which.part, stack),
                    maps.labels(which.part),
                    self._findings,
                    file,
                    voxel_order=self._voxel_order,
                )
            case OutputFormat.NIFTI if which.part in attention:
                stack, found = chosen.stacks[0], attention[which.part]
                write_attention_map(stack, found, self._findings, file, voxel_order=self._voxel_order)
            case OutputFormat.NIFTI:
                write_nifti(chosen.stacks[0], self._findings, file, part=which.part)
            case OutputFormat.PNG:
                write_png(chosen, file, self._head_maps)

    def _finished_series(self) -> Series:
        if self._series is None:
            raise DefectError("write was called before finish.")
        return self._series

    def _chosen(self, series: Series) -> Series:
        """Return the stack that was asked for, or all."""
        if not self._request.stack:
            return series
        chosen = series.named(self._request.stack)
        if chosen is None:
            names = ", ".join(stack.name for stack in series.stacks)
            raise InvalidInputError(
                f"The scan has no stack {self._request.stack[:40]!r}; it has {names}: name one of these, or none for all.",
                reason="NO_SUCH_STACK",
                field="spec.stack",
            )
        return chosen

    def _figures(self, series: Series, residuals: Sequence[float | None]) -> tuple[Figures, str]:
        """Return the figures of the images, and where their reference came from."""
        if series.shape is None:
            self._findings.info(
                "several-sizes",
                "The stacks have several sizes: they get no figures of images; choose one stack for these.",
            )
            return Figures(data_consistency_residual=root_mean_square(residuals)), ""
        volume = np.concatenate([stack.pixels() for stack in series.stacks])
        reference, source = self._reference(series)
        if reference is not None and source == "reference file" and self._whitened:
            volume = self._in_units_of(reference, volume)
        return compute_figures(volume, reference, residuals, self._findings), source if reference is not None else ""

    def _reference(self, series: Series) -> tuple[NDArray[np.float32] | None, str]:
        """Return the reference in the order of the output: the one that was sent along, else those of the frames."""
        images = series.images
        if self._sent is None:
            if len(self._references) != len(self._images):
                return None, ""
            return np.stack([self._references[image.number] for image in images]), self._source
        if self._sent.shape != series.shape:
            raise _wrong_reference(self._sent.shape, series.shape or (), "(images, rows, columns)")
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
