"""Puts the responses of a call together, and holds them to the wire contract. No network here."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from recond.v1 import reconstruction_pb2 as pb
from recond_client.errors import ServiceError
from recond_client.heads import HeadReceiver, HeadResult, results_by_name
from recond_client.result import (
    Candidate,
    Evidence,
    Figures,
    Finding,
    Geometry,
    Image,
    ImageIndex,
    Result,
    Seconds,
    Stack,
    Vector,
)
from recond_client.spec import ENDING_OF_FORMAT

_NAME = re.compile(r"[a-z0-9]{0,32}")  # of a stack, which becomes part of a file name
_PART = re.compile(r"([a-z0-9][a-z0-9._-]{0,127})?")  # of a part, of a head, or of an attention map of a head
_SEVERITIES = {int(pb.SEVERITY_INFO): "info", int(pb.SEVERITY_WARNING): "warning"}


class _Stage(enum.IntEnum):
    """How far the responses have come."""

    OPENED = 0
    ACCEPTED = 1
    PLANNED = 2
    ENDED = 3


@dataclass(slots=True)
class _PartialImage:
    """The rows of an image that have arrived."""

    first: pb.Image
    rows: int = 0
    pieces: list[bytes] = field(default_factory=list)
    uncertainty: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class _PartialFile:
    """The bytes of an output file that have arrived."""

    size: int
    data: bytearray = field(default_factory=bytearray)


class FileReceiver:
    """Puts output files together."""

    def __init__(self) -> None:
        self._files: dict[tuple[int, str, str], _PartialFile] = {}

    @property
    def empty(self) -> bool:
        """Nothing has come."""
        return not self._files

    @property
    def whole(self) -> bool:
        """No file is on its way."""
        return all(len(file.data) == file.size for file in self._files.values())

    def take(self, chunk: pb.FileChunk) -> None:
        """Take the next piece.

        Raises
        ------
        ValueError
            It is not the next piece of a file, or that has an impossible name.
        """
        file = self._files.setdefault((chunk.format, chunk.stack, chunk.part), _PartialFile(chunk.size_bytes))
        data = chunk.data  # once: protobuf makes a copy of bytes whenever they are asked for
        if (
            chunk.format not in ENDING_OF_FORMAT
            or not _NAME.fullmatch(chunk.stack)
            or not _PART.fullmatch(chunk.part)
            or chunk.size_bytes != file.size
            or chunk.offset != len(file.data)
            or len(file.data) + len(data) > file.size
        ):
            raise ValueError(
                f"file {chunk.format}: {len(data)} bytes at {chunk.offset} of {chunk.size_bytes} "
                f"after {len(file.data)} of {file.size}"
            )
        file.data += data

    def files(self) -> dict[str, bytes]:
        """Return the files by what stands behind the stem of their names."""
        return {
            _file_name(stack, part) + ENDING_OF_FORMAT[number]: bytes(file.data)
            for (number, stack, part), file in self._files.items()
        }


class ResponseAssembler:
    """State machine over the responses of one call: accepted, plan, images and files, summary.

    Parameters
    ----------
    images
        Whether the images were asked for; if not, the result has none.
    one_stack
        One stack was asked for: the images of others come, but are not part of the result.
    keep_images
        Whether the result is to hold the images.
    """

    def __init__(self, *, images: bool = True, one_stack: bool = False, keep_images: bool = True) -> None:
        self._expects_images = images and keep_images
        self._keeps_images = keep_images
        self._one_stack = one_stack
        self._stage = _Stage.OPENED
        self._partial: dict[int, _PartialImage] = {}
        self._images: dict[int, Image] = {}
        self._files = FileReceiver()
        self._plan = pb.Plan()
        self._result: Result | None = None
        self._heads = HeadReceiver()
        self.request_id = ""

    @property
    def accepted(self) -> bool:
        """Whether the service has admitted the request."""
        return self._stage >= _Stage.ACCEPTED

    @property
    def delivered(self) -> bool:
        """Whether any image or file has arrived, so that trying again would deliver it twice."""
        return bool(self._images or self._partial or not self._files.empty or self._heads.results)

    @property
    def head_results(self) -> tuple[HeadResult, ...]:
        """Results of heads that have arrived."""
        return tuple(self._heads.results)

    @property
    def model(self) -> str:
        """Name of the model that runs, empty while it is not known."""
        return self._plan.model

    @property
    def version(self) -> str:
        """Version of the model that runs, empty while it is not known."""
        return self._plan.version

    @property
    def images_done(self) -> int:
        """Number of images that have arrived."""
        return len(self._images)

    @property
    def images_total(self) -> int:
        """Number of images that are going to come, 0 while it is not known."""
        return self._plan.images

    def feed(self, response: pb.ReconstructResponse) -> Image | None:
        """Take the next response.

        Parameters
        ----------
        response
            Message of the service, in the order of the wire.

        Returns
        -------
        The image that this response completes, if it does.

        Raises
        ------
        ServiceError
            If it breaks the contract.
        """
        kind = response.WhichOneof("message")
        if self._stage is _Stage.ENDED:
            raise self._violation(f"{kind or 'an empty message'} after the summary")
        if kind == "accepted":
            self._enter(_Stage.ACCEPTED, kind)
            self.request_id = response.accepted.request_id
        elif kind == "plan":
            self._enter(_Stage.PLANNED, kind)
            self._plan = response.plan
        elif kind == "image":
            self._require(_Stage.PLANNED, kind)
            return self._take_image(response.image)
        elif kind in {"head", "head_map"}:
            self._require(_Stage.PLANNED, kind)
            self._take_head(response)
        elif kind == "file_chunk":
            self._require(_Stage.PLANNED, kind)
            self._take_file(response.file_chunk)
        elif kind == "summary":
            self._enter(_Stage.ENDED, kind)
            self._result = self._finish(response.summary)
        elif not self.accepted:
            raise self._violation("a message of an unknown kind before accepted")
        return None

    def result(self) -> Result:
        """Return the result.

        Raises
        ------
        ServiceError
            If the responses ended without a summary.
        """
        if self._result is None:
            raise self._violation("the responses ended without a summary")
        return self._result

    def _enter(self, stage: _Stage, kind: str) -> None:
        if self._stage != stage - 1:
            raise self._violation(f"{kind} while {self._stage.name.lower()}")
        self._stage = stage

    def _require(self, stage: _Stage, kind: str) -> None:
        if self._stage is not stage:
            raise self._violation(f"{kind} while {self._stage.name.lower()}")

    def _take_image(self, message: pb.Image) -> Image | None:
        number = message.index.image
        if number in self._images:
            raise self._violation(f"image {number} came twice")
        partial = self._partial.setdefault(number, _PartialImage(message))
        first = partial.first
        pixels = message.pixels  # once: protobuf makes a copy of bytes whenever they are asked for
        is_complex = message.pixel_type == pb.PIXEL_TYPE_COMPLEX64
        row_bytes = (8 if is_complex else 4) * message.columns
        rows, rest = divmod(len(pixels), row_bytes) if row_bytes else (0, 0)
        if (
            (message.rows, message.columns, message.pixel_type) != (first.rows, first.columns, first.pixel_type)
            or message.first_row != partial.rows
            or not rows
            or rest
            or partial.rows + rows > message.rows
        ):
            raise self._violation(
                f"image {number}: {len(pixels)} bytes at row {message.first_row} of "
                f"({message.rows}, {message.columns}) after {partial.rows} rows of ({first.rows}, {first.columns})"
            )
        uncertainty = message.uncertainty
        if len(uncertainty) not in {0, rows * message.columns * 4} or bool(uncertainty) != bool(first.uncertainty):
            raise self._violation(f"image {number}: {len(uncertainty)} bytes of uncertainty with {rows} rows")
        partial.pieces.append(pixels)
        partial.uncertainty.append(uncertainty)
        partial.rows += rows
        if partial.rows < message.rows:
            return None
        del self._partial[number]
        received = np.frombuffer(b"".join(partial.pieces), dtype="<c8" if is_complex else "<f4")
        received = received.reshape(first.rows, first.columns)
        image = Image(
            _index_of(first.index),
            np.abs(received) if is_complex else received,
            self._geometry_of(first),
            received if is_complex else None,
            _uncertainty_of(partial),
            first.data_consistency_residual if first.HasField("data_consistency_residual") else None,
            findings_of(first.findings),
        )
        self._images[number] = image if self._keeps_images else _PASSED_ON
        return image

    def _take_head(self, response: pb.ReconstructResponse) -> None:
        try:
            if response.HasField("head"):
                self._heads.take_result(response.head)
            else:
                self._heads.take_map(response.head_map)
        except ValueError as error:
            raise self._violation(str(error)) from error

    def _take_file(self, chunk: pb.FileChunk) -> None:
        try:
            self._files.take(chunk)
        except ValueError as error:
            raise self._violation(str(error)) from error

    def _finish(self, summary: pb.Summary) -> Result:
        order = list(summary.order)
        if self._partial:
            raise self._violation(f"images {sorted(self._partial)} are not whole at the end")
        if not self._files.whole:
            raise self._violation("an output file is not whole at the end")
        if not self._heads.whole:
            raise self._violation("a map of a head is not whole at the end")
        wanted = set(order)
        if self._expects_images and (len(wanted) != len(order) or not wanted <= set(self._images)):
            raise self._violation(f"the order names {len(order)} images, {len(self._images)} came")
        if self._expects_images and not self._one_stack and len(wanted) != len(self._images):
            raise self._violation(f"the order names {len(order)} images, {len(self._images)} came")
        shape = tuple(summary.shape)
        stacks = self._stacks_of(summary, order)
        images = [image for stack in stacks for image in stack]
        one_size = len({image.pixels.shape for image in images}) == 1
        if one_size and (len(shape) != 3 or images[0].pixels.shape != shape[1:]):
            raise self._violation(f"images do not have the shape {shape} that the summary gives")
        return Result(
            images=_pixels(images) if one_size else _pixels([]),
            complex_images=_complex_pixels(images) if one_size else None,
            uncertainty=_uncertainties(images) if one_size else None,
            index=tuple(image.index for image in images),
            geometry=tuple(image.geometry for image in images),
            figures=_figures_of(summary.figures),
            seconds=seconds_of(summary.seconds),
            findings=findings_of(summary.findings),
            model=summary.model,
            version=summary.version,
            reason=self._plan.reason,
            request_id=self.request_id,
            weights_sha256=summary.weights_sha256,
            reference=summary.reference,
            shape=shape,
            stacks=tuple(
                Stack(
                    message.name,
                    _pixels(stack),
                    tuple(image.index for image in stack),
                    tuple(image.geometry for image in stack),
                    tuple(message.shape),
                    _complex_pixels(stack),
                    _uncertainties(stack),
                )
                for message, stack in zip(summary.stacks, stacks, strict=False)
            ),
            files=self._files.files(),
            evidence=_evidence_of(summary.evidence) if summary.HasField("evidence") else None,
            heads=results_by_name(self._heads.results),
            head_results=tuple(self._heads.results),
        )

    def _stacks_of(self, summary: pb.Summary, order: list[int]) -> list[list[Image]]:
        """Return the images of each stack, with its number; a service that tells no stacks has one."""
        if not self._expects_images:
            return [[] for _ in summary.stacks]
        if not summary.stacks:
            return [[self._images[number] for number in order]]
        if [number for stack in summary.stacks for number in stack.images] != order:
            raise self._violation("the stacks do not hold the images of the order")
        stacks = []
        for place, stack in enumerate(summary.stacks):
            images = [self._images[number] for number in stack.images]
            if any(image.pixels.shape != tuple(stack.shape)[1:] for image in images):
                raise self._violation(f"the images of stack {stack.name!r} do not have the shape {tuple(stack.shape)}")
            stacks.append([replace(image, index=replace(image.index, stack=place)) for image in images])
        return stacks

    def _geometry_of(self, message: pb.Image) -> Geometry | None:
        if not message.HasField("geometry"):
            return None
        vectors: list[Vector] = []
        geometry = message.geometry
        for values in (
            geometry.position,
            geometry.row_direction,
            geometry.column_direction,
            geometry.slice_direction,
            geometry.spacing,
        ):
            if len(values) != 3:
                raise self._violation(
                    f"image {message.index.image}: a vector of its geometry has {len(values)} components"
                )
            vectors.append((values[0], values[1], values[2]))
        return Geometry(*vectors)

    def _violation(self, what: str) -> ServiceError:
        msg = f"the service broke the wire contract: {what}; client and service may be of different versions"
        return ServiceError(msg, status="INTERNAL", reason="PROTOCOL_VIOLATION", request_id=self.request_id)


_PASSED_ON = Image(ImageIndex(0), np.zeros((0, 0), np.float32))
"""Stands for images that the result does not hold."""


def _index_of(index: pb.ImageIndex) -> ImageIndex:
    return ImageIndex(index.image, index.slice, index.contrast, index.phase, index.repetition, index.set, index.stack)


def _file_name(stack: str, part: str) -> str:
    """Return what stands between the stem of a file and its ending."""
    # BIDS has a name for the phase.
    named = f"part-{part}" if part == "phase" else part.replace(".", "-")
    return (f"_{stack}" if stack else "") + (f"_{named}" if part else "")


def _complex_pixels(images: list[Image]) -> NDArray[np.complex64] | None:
    """Return the complex pixels of images of one size, complex64 (images, rows, columns); None where there are none."""
    found = [image.complex_pixels for image in images if image.complex_pixels is not None]
    return np.stack(found) if found and len(found) == len(images) else None


def _uncertainty_of(partial: _PartialImage) -> NDArray[np.float32] | None:
    """Return float32 (rows, columns), None where there is none."""
    received = np.frombuffer(b"".join(partial.uncertainty), dtype="<f4")
    return received.reshape(partial.first.rows, partial.first.columns) if received.size else None


def _uncertainties(images: list[Image]) -> NDArray[np.float32] | None:
    """Return the uncertainty of images of one size, float32 (images, rows, columns); None where there is none."""
    found = [image.uncertainty for image in images if image.uncertainty is not None]
    return np.stack(found) if found and len(found) == len(images) else None


def _pixels(images: list[Image]) -> NDArray[np.float32]:
    """Return the pixels of images of one size, float32 (images, rows, columns); (0, 0, 0) of none."""
    return np.stack([image.pixels for image in images]) if images else np.zeros((0, 0, 0), np.float32)


def _evidence_of(message: pb.Evidence) -> Evidence:
    return Evidence(
        message.model,
        message.preferred,
        tuple(Candidate(each.model, each.held_out_error, each.expected_ssim) for each in message.candidates),
        message.slices,
        message.seconds,
        message.not_tried,
    )


def findings_of(findings: Iterable[pb.Finding]) -> tuple[Finding, ...]:
    """Return what was noticed."""
    return tuple(
        Finding(finding.code, _SEVERITIES.get(finding.severity, "info"), finding.message, finding.count)
        for finding in findings
    )


def _figures_of(figures: pb.Figures) -> Figures:
    return Figures(**{name.name: value for name, value in figures.ListFields()})


def seconds_of(timings: pb.Timings) -> Seconds:
    """Return the time by stage."""
    return Seconds(**{name: getattr(timings, name) for name in Seconds.__dataclass_fields__})
