"""Tensors of a KServe v2 inference request: names, types, axes and contents, checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from recond_service.types import InvalidInputError, LimitExceededError, Priority

KSPACE: Final = "KSPACE"
MASK: Final = "MASK"
CALIBRATION: Final = "CALIBRATION"
IMAGE: Final = "IMAGE"
RESIDUAL: Final = "RESIDUAL"

INPUTS: Final[dict[str, tuple[str, tuple[int, ...]]]] = {
    KSPACE: ("FP32", (-1, -1, -1, 2)),
    MASK: ("BOOL", (-1, -1)),
    CALIBRATION: ("FP32", (-1, -1, -1, 2)),
}
"""Data type and axes of each input behind the axis of the batch, which is 1 and may be left out; -1 is any length.

``KSPACE``: (coils, rows, columns, real and imaginary part). ``MASK``: (rows, columns), or (columns,) for whole lines.
``CALIBRATION``: (coils, rows, columns, real and imaginary part).
"""

OPTIONAL_INPUTS: Final = frozenset({MASK, CALIBRATION})

OUTPUTS: Final[dict[str, tuple[str, tuple[int, ...]]]] = {IMAGE: ("FP32", (-1, -1)), RESIDUAL: ("FP64", ())}
"""Data type and axes of each output behind the axis of the batch: ``IMAGE`` (rows, columns), and ``RESIDUAL``."""

_NUMPY: Final = {"FP32": "<f4", "BOOL": "?", "FP64": "<f8"}
_CONTENTS: Final = {"FP32": "fp32_contents", "BOOL": "bool_contents"}
_PARAMETERS: Final = ("priority", "timeout")
_MOST_OUTPUTS: Final = 16
_MOST_AXES: Final = 5


@dataclass(frozen=True, slots=True)
class InferSpec:
    """What a request announces.

    Parameters
    ----------
    shapes
        Axes of each input that is there, without the axis of the batch.
    outputs
        Outputs that are wanted.
    priority
        How urgent it is.
    timeout_seconds
        After which nobody wants the image, or None.
    """

    shapes: Mapping[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    priority: Priority
    timeout_seconds: float | None

    @property
    def size_bytes(self) -> int:
        """Size of all inputs."""
        return sum(math.prod(shape) * _item_bytes(INPUTS[name][0]) for name, shape in self.shapes.items())


def read_spec(request: pb.ModelInferRequest, max_frame_bytes: int) -> InferSpec:
    """Check all of a request but the contents of its tensors, without touching these: reaching for bytes in a message copies them.

    Parameters
    ----------
    request
        The request.
    max_frame_bytes
        Largest tensor.

    Raises
    ------
    InvalidInputError
        If a name, a data type, a shape or a parameter is wrong; `field` names the tensor.
    LimitExceededError
        If a tensor is too large.
    """
    _require_few(request)
    if request.raw_input_contents and len(request.raw_input_contents) != len(request.inputs):
        raise InvalidInputError(
            f"there are {len(request.inputs)} inputs and raw contents of {len(request.raw_input_contents)}: send all raw, or none",
            reason="CONTENTS_MISMATCH",
            field="raw_input_contents",
        )
    shapes: dict[str, tuple[int, ...]] = {}
    for tensor in request.inputs:
        if tensor.name in shapes:
            raise InvalidInputError(f"the input {tensor.name} comes twice", reason="INPUT_TWICE", field=tensor.name)
        shapes[tensor.name] = _check_input(tensor)
        if math.prod(shapes[tensor.name]) * _item_bytes(tensor.datatype) > max_frame_bytes:
            raise LimitExceededError(
                f"{tensor.name} of shape {tuple(tensor.shape)} is larger than {max_frame_bytes} bytes, the most that this service "
                "takes",
                reason="FRAME_TOO_LARGE",
                field=tensor.name,
            )
    if KSPACE not in shapes:
        raise InvalidInputError(f"there is no input {KSPACE}", reason="INPUT_MISSING", field=KSPACE)
    _check_together(shapes)
    return InferSpec(shapes, _outputs(request), _priority(request), _timeout(request))


def _require_few(request: pb.ModelInferRequest) -> None:
    """Refuse a request with long lists, by their lengths alone: nothing else may look at them before."""
    for values, most, field in (
        (request.inputs, len(INPUTS), "inputs"),
        (request.outputs, _MOST_OUTPUTS, "outputs"),
        (request.raw_input_contents, len(INPUTS), "raw_input_contents"),
        (request.parameters, len(_PARAMETERS), "parameters"),
    ):
        if len(values) > most:
            raise InvalidInputError(
                f"{len(values)} {field}; at most {most} make sense", reason="TOO_MANY_ENTRIES", field=field
            )
    for tensor in request.inputs:
        if len(tensor.shape) > _MOST_AXES:
            raise InvalidInputError(
                f"{tensor.name} has {len(tensor.shape)} axes; at most {_MOST_AXES} make sense",
                reason="INPUT_SHAPE",
                field=tensor.name,
            )


def tensors_of(request: pb.ModelInferRequest, spec: InferSpec) -> dict[str, NDArray[Any]]:
    """Return the values of the inputs of a request that `read_spec` accepted: complex64 for FP32. They may be changed.

    Raises
    ------
    InvalidInputError
        If contents do not fit their shape, or a mask holds anything but 0 and 1.
    """
    found: dict[str, NDArray[Any]] = {}
    for number, tensor in enumerate(request.inputs):
        shape = spec.shapes[tensor.name]
        raw = request.raw_input_contents[number] if request.raw_input_contents else None
        values = _values(tensor, shape, raw)
        if tensor.name == MASK:
            found[MASK] = values.reshape(shape)
        else:
            found[tensor.name] = values.view(np.complex64).reshape(shape[:-1])
    return found


def _item_bytes(datatype: str) -> int:
    return np.dtype(_NUMPY[datatype]).itemsize


def _values(tensor: pb.ModelInferRequest.InferInputTensor, shape: tuple[int, ...], raw: bytes | None) -> NDArray[Any]:
    """Return the contents of an input: FP32 as such, BOOL as 0 and 1."""
    typed = getattr(tensor.contents, _CONTENTS[tensor.datatype])
    count = math.prod(shape)
    expected = count * (1 if raw is None else _item_bytes(tensor.datatype))
    size = len(typed if raw is None else raw)
    if size != expected:
        raise InvalidInputError(
            f"{tensor.name} has {size} {'values' if raw is None else 'bytes'}; its shape {tuple(tensor.shape)} needs {expected}",
            reason="SIZE_MISMATCH",
            field=tensor.name,
        )
    dtype = np.uint8 if tensor.datatype == "BOOL" else np.float32
    if raw is None:
        return np.fromiter(typed, dtype, count)
    values = np.frombuffer(raw, "u1" if dtype is np.uint8 else "<f4").astype(dtype)
    if dtype is np.uint8 and values.max() > 1:
        raise InvalidInputError(
            f"{tensor.name} holds {values.max()}: a mask is 1 where k-space was measured, and 0 elsewhere",
            reason="MASK_VALUES",
            field=tensor.name,
        )
    return values


def response_of(
    request: pb.ModelInferRequest, spec: InferSpec, model: str, version: str, outputs: Mapping[str, NDArray[Any]]
) -> pb.ModelInferResponse:
    """Return a response with those outputs that are wanted, in the order in which they are."""
    response = pb.ModelInferResponse(model_name=model, model_version=version, id=request.id)
    for name in spec.outputs:
        values = outputs[name]
        response.outputs.add(name=name, datatype=OUTPUTS[name][0], shape=values.shape)
        response.raw_output_contents.append(values.astype(_NUMPY[OUTPUTS[name][0]], copy=False).tobytes())
    return response


def _check_input(tensor: pb.ModelInferRequest.InferInputTensor) -> tuple[int, ...]:
    """Check name, type and shape of an input; return the shape without the axis of the batch."""
    if tensor.name not in INPUTS:
        raise InvalidInputError(
            f"there is no input {tensor.name!r}: the inputs are {', '.join(INPUTS)}",
            reason="INPUT_UNKNOWN",
            field=tensor.name,
        )
    datatype, axes = INPUTS[tensor.name]
    if tensor.datatype != datatype:
        raise InvalidInputError(
            f"{tensor.name} has the data type {tensor.datatype!r}; it must be {datatype}",
            reason="INPUT_TYPE",
            field=tensor.name,
        )
    if "shared_memory_region" in tensor.parameters:
        raise InvalidInputError(
            f"{tensor.name} refers to shared memory, which this service does not map: send the contents along",
            reason="SHARED_MEMORY",
            field=tensor.name,
        )
    shape = tuple(tensor.shape)
    lengths = {len(axes), len(axes) - 1} if tensor.name == MASK else {len(axes)}
    one = shape[1:] if shape[:1] == (1,) and len(shape) - 1 in lengths else shape
    wrong = len(one) not in lengths or min(one) < 1
    if wrong or (tensor.name != MASK and one[-1] != 2):
        wanted = "(rows, columns) or (columns,)" if tensor.name == MASK else "(coils, rows, columns, 2)"
        raise InvalidInputError(
            f"{tensor.name} has the shape {shape}; it must be {wanted}, with an axis of length 1 in front or not: one frame a "
            "request",
            reason="INPUT_SHAPE",
            field=tensor.name,
        )
    return one


def _check_together(shapes: Mapping[str, tuple[int, ...]]) -> None:
    coils, rows, columns, _ = shapes[KSPACE]
    mask = shapes.get(MASK, (columns,))
    if mask not in {(columns,), (rows, columns)}:
        raise InvalidInputError(
            f"{MASK} has the shape {mask}; k-space of {rows} rows and {columns} columns needs ({columns},) or ({rows}, {columns})",
            reason="MASK_SHAPE",
            field=MASK,
        )
    calibration = shapes.get(CALIBRATION)
    if calibration is not None and calibration[0] != coils:
        raise InvalidInputError(
            f"{CALIBRATION} has {calibration[0]} coils, {KSPACE} has {coils}: they must be the same",
            reason="CALIBRATION_SHAPE",
            field=CALIBRATION,
        )


def _outputs(request: pb.ModelInferRequest) -> tuple[str, ...]:
    for output in request.outputs:
        if output.name not in OUTPUTS:
            raise InvalidInputError(
                f"there is no output {output.name!r}: the outputs are {', '.join(OUTPUTS)}",
                reason="OUTPUT_UNKNOWN",
                field=output.name,
            )
        if "shared_memory_region" in output.parameters or "classification" in output.parameters:
            raise InvalidInputError(
                f"{output.name} is asked for in shared memory or as classes, which this service does not do: ask for it plainly",
                reason="OUTPUT_PARAMETERS",
                field=output.name,
            )
    return tuple(dict.fromkeys(output.name for output in request.outputs)) or tuple(OUTPUTS)


def _integer(request: pb.ModelInferRequest, name: str) -> int:
    """Return a parameter, 0 if it is not there."""
    if name not in request.parameters:
        return 0
    parameter = request.parameters[name]
    kind = parameter.WhichOneof("parameter_choice")
    if kind not in {"int64_param", "uint64_param"}:
        raise InvalidInputError(f"the parameter {name} must be an integer", reason="PARAMETER", field=name)
    return int(getattr(parameter, kind))


def _priority(request: pb.ModelInferRequest) -> Priority:
    for name in request.parameters:
        if name not in _PARAMETERS:
            raise InvalidInputError(
                f"there is no parameter {name!r}: the parameters are {', '.join(_PARAMETERS)}",
                reason="PARAMETER",
                field=name,
            )
    value = _integer(request, "priority")
    if value not in {0, *Priority}:
        raise InvalidInputError(
            f"priority is {value}; it can be 1 (stat), 2 (clinical) or 3 (research)",
            reason="PARAMETER",
            field="priority",
        )
    return Priority(value) if value else Priority.CLINICAL


def _timeout(request: pb.ModelInferRequest) -> float | None:
    microseconds = _integer(request, "timeout")
    if microseconds < 0:
        raise InvalidInputError(
            f"timeout is {microseconds}; it is a number of microseconds", reason="PARAMETER", field="timeout"
        )
    return microseconds / 1e6 if microseconds else None
