"""Frames in shared memory of the service to tensors of a Triton request, and images back. For threads beside the event loop."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from recond_models.note import Note
from recond_service.backends.backend import BatchOutcome, ComputedFrame, FrameInput
from recond_service.backends.triton import interface
from recond_service.backends.triton.regions import Region
from recond_service.processes import FrameLayout, SharedBlock
from recond_service.types import DefectError

_ALIGNMENT = 64
_NOTES: Final = msgspec.json.Decoder(tuple[tuple[Note, ...], ...])
_NUMPY = {"FP32": np.float32, "FP64": np.float64, "INT32": np.int32, "INT64": np.int64, "UINT8": np.uint8}
_LENGTH_DELIMITED = 2  # wire type of bytes in protobuf
_RAW_INPUT_TAG = bytes([pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER << 3 | _LENGTH_DELIMITED])


@dataclass(frozen=True, slots=True)
class Span:
    """Where a tensor lies in a region."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Packing:
    """Sizes of a packed batch.

    Parameters
    ----------
    shapes
        Axes of each input that is sent.
    spans
        Where each of the large tensors lies in a region: ``KSPACE``, ``MASKS``, ``CALIBRATION`` and ``IMAGES``.
    size
        Bytes of such a region.
    """

    shapes: Mapping[str, tuple[int, ...]]
    spans: Mapping[str, Span]
    size: int

    @classmethod
    def of(cls, frames: Sequence[FrameInput]) -> Packing:
        """Return the sizes of a batch of these frames."""
        layouts = [frame.layout for frame in frames]
        batch, rows, columns = len(layouts), layouts[0].rows, layouts[0].columns
        coils = sum(layout.coils for layout in layouts)
        apart = sum(
            layout.coils * layout.calibration_rows * layout.calibration_columns
            for layout in layouts
            if layout.calibration_apart
        )
        shapes: dict[str, tuple[int, ...]] = {
            interface.KSPACE: (coils, rows, columns, 2),
            interface.COILS: (batch,),
            interface.MASKS: (batch, rows, columns),
            interface.CALIBRATION_SHAPES: (batch, 3),
            interface.CROPS: (batch, 2),
            interface.FINISHING: (batch, interface.INPUTS[interface.FINISHING][1][1]),
        }
        if apart:
            shapes[interface.CALIBRATION] = (apart, 2)
        large = {
            name: shapes[name] for name in (interface.KSPACE, interface.MASKS, interface.CALIBRATION) if name in shapes
        }
        spans, offset = {}, 0
        sizes = {name: math.prod(shape) * (1 if name == interface.MASKS else 4) for name, shape in large.items()}
        for name, size in (sizes | {interface.IMAGES: sum(layout.image_bytes for layout in layouts)}).items():
            spans[name] = Span(offset, size)
            offset += -(-size // _ALIGNMENT) * _ALIGNMENT
        return cls(shapes, spans, offset)


def request_for(
    model: str, parameters: Mapping[str, str], frames: Sequence[FrameInput], packing: Packing, region: Region | None
) -> bytes:
    """Return a `ModelInferRequest` as it goes over the wire.

    Parameters
    ----------
    model
        Name of the model on the server.
    parameters
        Of the request.
    frames
        The frames.
    packing
        Their sizes.
    region
        Registered shared memory of at least that size, which the large tensors are copied into; None to send them along.
    """
    message = pb.ModelInferRequest(model_name=model)
    for key, value in parameters.items():
        message.parameters[key].string_param = value
    contents: list[list[NDArray[np.generic]]] = []  # of the tensors that travel along; all of those are raw
    small = _small_tensors(frames)
    for name, shape in packing.shapes.items():
        tensor = message.inputs.add(name=name, datatype=interface.INPUTS[name][0], shape=shape)
        if name in small:
            contents.append([small[name]])
        elif region is None:
            contents.append(_pieces(name, frames))
        else:
            _refer(tensor.parameters, region, packing.spans[name])
    if region is not None:
        _fill(region, frames, packing)
    for name in interface.OUTPUTS:
        output = message.outputs.add(name=name)
        if region is not None and name == interface.IMAGES:
            _refer(output.parameters, region, packing.spans[name])
    return _with_raw_inputs(message, contents)


def _small_tensors(frames: Sequence[FrameInput]) -> dict[str, NDArray[np.int32]]:
    layouts = [frame.layout for frame in frames]
    return {
        interface.COILS: np.array([layout.coils for layout in layouts], np.int32),
        interface.CALIBRATION_SHAPES: np.array(
            [(layout.calibration_rows, layout.calibration_columns, layout.calibration_apart) for layout in layouts],
            np.int32,
        ),
        interface.CROPS: np.array([layout.crop or (0, 0) for layout in layouts], np.int32),
        interface.FINISHING: np.array([_finishing(layout) for layout in layouts], np.int32),
    }


def _finishing(layout: FrameLayout) -> tuple[int, ...]:
    """Return a row of ``FINISHING``."""
    window = layout.window
    cut = (0, 0, 0, 0) if window is None else (window.first_row, window.first_column, window.rows, window.columns)
    wishes = layout.complex_image + 2 * layout.guarded + 4 * layout.uncertainty
    return (*layout.image_shape, *cut, layout.exponent, wishes)


def _pieces(name: str, frames: Sequence[FrameInput]) -> list[NDArray[np.generic]]:
    """Map the arrays that, one after another, are a tensor."""
    pieces: list[NDArray[np.generic]] = []
    for frame in frames:
        kspace, mask, calibration = frame.layout.arrays(frame.block)
        if name == interface.KSPACE:
            pieces.append(kspace)
        elif name == interface.MASKS:
            pieces.append(mask)
        elif frame.layout.calibration_apart and calibration is not None:
            pieces.append(calibration)
    return pieces


def _refer(parameters: Mapping[str, pb.InferParameter], region: Region, span: Span) -> None:
    parameters["shared_memory_region"].string_param = region.name
    parameters["shared_memory_byte_size"].int64_param = span.size
    parameters["shared_memory_offset"].int64_param = span.offset


def _fill(region: Region, frames: Sequence[FrameInput], packing: Packing) -> None:
    """Copy the large inputs into a region."""
    for name, span in packing.spans.items():
        if name == interface.IMAGES:
            continue
        offset = span.offset
        for piece in _pieces(name, frames):
            np.frombuffer(region.memory, piece.dtype, piece.size, offset)[:] = piece.reshape(-1)
            offset += piece.nbytes


def _with_raw_inputs(message: pb.ModelInferRequest, contents: Sequence[Sequence[NDArray[np.generic]]]) -> bytes:
    """Return the serialised message with raw contents, which are appended in the wire format: a single copy of the k-space."""
    pieces: list[bytes | memoryview] = [message.SerializeToString()]
    for arrays in contents:
        pieces += [_RAW_INPUT_TAG, _varint(sum(array.nbytes for array in arrays))]
        pieces += [array.reshape(-1).view(np.uint8).data for array in arrays]
    return b"".join(pieces)


def _varint(value: int) -> bytes:
    """Return a number in the variable-length encoding of protobuf."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def outcome_of(answer: bytes, frames: Sequence[FrameInput], packing: Packing, region: Region | None) -> BatchOutcome:
    """Return what a serialised `ModelInferResponse` says about the frames that were sent.

    Parameters
    ----------
    answer
        The response.
    frames
        The frames.
    packing
        Their sizes.
    region
        Where the images lie; None if they came along.

    Raises
    ------
    DefectError
        The response is not one.
    """
    try:
        elsewhere = {interface.IMAGES} if region is not None else set()
        tensors = _tensors(pb.ModelInferResponse.FromString(answer), elsewhere)
        batch = len(frames)
        if region is not None:
            span = packing.spans[interface.IMAGES]
            images = memoryview(region.memory)[span.offset : span.offset + span.size]
        else:
            images = tensors[interface.IMAGES].reshape(-1).view(np.uint8).data
        if len(images) != packing.spans[interface.IMAGES].size:
            raise ValueError(f"{len(images)} bytes of images")
        residuals = tensors[interface.RESIDUALS].reshape(batch).tolist()
        notes = _notes(tensors[interface.NOTES].tobytes(), batch) or ((),) * batch
        seconds, peak = float(tensors[interface.SECONDS][0]), int(tensors[interface.PEAK_BYTES][0])
    except (KeyError, IndexError, TypeError, ValueError, msgspec.DecodeError) as error:
        raise DefectError(
            f"a Triton server answered with something else than images ({type(error).__name__}: {error}): run recond triton "
            "export again",
            reason="TRITON_ANSWER",
        ) from error
    computed, offset = [], 0
    for frame, residual, noticed in zip(frames, residuals, notes, strict=True):
        block = SharedBlock.holding("recond-image", images[offset : offset + frame.layout.image_bytes])
        offset += frame.layout.image_bytes
        computed.append(ComputedFrame(block, None if math.isnan(residual) else residual, noticed))
    return BatchOutcome(tuple(computed), seconds, peak)


def _tensors(response: pb.ModelInferResponse, elsewhere: Collection[str]) -> dict[str, NDArray[Any]]:
    """Return the outputs that came along; the raw contents of those that lie elsewhere are empty."""
    return {
        output.name: np.frombuffer(raw, _NUMPY[output.datatype]).reshape(tuple(output.shape))
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
        if output.name not in elsewhere
    }


def _notes(text: bytes, batch: int) -> tuple[tuple[Note, ...], ...]:
    notes = _NOTES.decode(text)
    if notes and len(notes) != batch:
        raise ValueError(f"{len(notes)} lists of notes for {batch} frames")
    return notes
