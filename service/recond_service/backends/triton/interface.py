"""What a packed batch is called on its way to a Triton server and back; known to both sides."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec

from recond_service.types import DefectError, ErrorReport, RecondError

INTERFACE: Final = "3"
"""Changes when the tensors do: both sides must have the same."""

PREFIX: Final = "recond-"
"""Models in a Triton repository are called like the recond model with this in front."""

KSPACE: Final = "KSPACE"
COILS: Final = "COILS"
MASKS: Final = "MASKS"
CALIBRATION: Final = "CALIBRATION"
CALIBRATION_SHAPES: Final = "CALIBRATION_SHAPES"
CROPS: Final = "CROPS"
FINISHING: Final = "FINISHING"
IMAGES: Final = "IMAGES"
RESIDUALS: Final = "RESIDUALS"
NOTES: Final = "NOTES"
SECONDS: Final = "SECONDS"
PEAK_BYTES: Final = "PEAK_BYTES"

INPUTS: Final[dict[str, tuple[str, tuple[int, ...]]]] = {
    KSPACE: ("FP32", (-1, -1, -1, 2)),
    COILS: ("INT32", (-1,)),
    MASKS: ("UINT8", (-1, -1, -1)),
    CALIBRATION: ("FP32", (-1, 2)),
    CALIBRATION_SHAPES: ("INT32", (-1, 3)),
    CROPS: ("INT32", (-1, 2)),
    FINISHING: ("INT32", (-1, 8)),
}
"""Data type and axes of each input; -1 is any length.

``KSPACE``: (coils of all frames, rows, columns, real and imaginary part). ``COILS``: (batch,). ``MASKS``: (batch, rows, columns),
0 or 1. ``CALIBRATION``: (samples, real and imaginary part), the calibration blocks that are not part of the k-space one after
another, each (coils, rows, columns) in C order; left out if there are none. ``CALIBRATION_SHAPES``: (batch, 3), rows and columns of
the calibration block of each frame, 0 if it has none, and 1 if its samples are in ``CALIBRATION``, 0 if it is the centre of the
k-space. ``CROPS``: (batch, 2), rows and columns of the middle of the image that will be shown, 0 for all of it.
``FINISHING``: (batch, 8), what each image is to be: rows and columns; first row, first column, rows and columns of what is cut out
first, zeros for nothing; the exponent of the power of two that the samples were multiplied by; the sum of 1 for
a complex image, 2 for a classical image where the network's is doubtful, 4 for an image with standard deviations.
"""

OPTIONAL_INPUTS: Final = frozenset({CALIBRATION})

OUTPUTS: Final[dict[str, tuple[str, tuple[int, ...]]]] = {
    IMAGES: ("FP32", (-1,)),
    RESIDUALS: ("FP64", (-1,)),
    NOTES: ("UINT8", (-1,)),
    SECONDS: ("FP64", (1,)),
    PEAK_BYTES: ("INT64", (1,)),
}
"""Data type and axes of each output.

``IMAGES``: the finished images one after another, each (rows, columns), or (rows, columns, 2) where complex, and
after it, where they are wanted, the standard deviations (rows, columns). ``RESIDUALS``:
(batch,), NaN where the model does not fit the samples. ``NOTES``: JSON, for each frame a list of `Note` objects. ``SECONDS``:
that the model took. ``PEAK_BYTES``: of the device, 0 if not known.
"""

MODEL: Final = "recond_model"
VERSION: Final = "recond_version"
WEIGHTS: Final = "recond_weights_sha256"
INTERFACE_KEY: Final = "recond_interface"
THREADS: Final = "recond_threads"
ORIGIN: Final = "recond_origin"
"""Parameters in the configuration of a model. `VERSION` and `WEIGHTS` are parameters of a request, too."""

_ERROR_MARK = "recond-error:"
_MOST_MESSAGE = 1000  # it travels in a header of at most 8 KiB, where a letter that is not ASCII takes six bytes


class DeviceMemoryError(Exception):
    """The device of the Triton server has not enough memory for the batch."""


class _Problem(msgspec.Struct, omit_defaults=True):
    """What the text of a Triton error carries behind its mark."""

    error: ErrorReport | None = None
    too_large: str = ""


def write_error(error: RecondError) -> str:
    """Return the text of a Triton error that `read_error` turns back into the error."""
    report = ErrorReport.of(error)
    return _text(_Problem(error=replace(report, message=report.message[:_MOST_MESSAGE])))


def write_too_large(message: str) -> str:
    """Return the text of a Triton error that `read_error` turns into a `DeviceMemoryError`."""
    return _text(_Problem(too_large=message[:_MOST_MESSAGE] or "no memory"))


def _text(problem: _Problem) -> str:
    return _ERROR_MARK + msgspec.json.encode(problem).decode()


def read_error(text: str) -> RecondError | DeviceMemoryError | None:
    """Return the error that a recond model put into a Triton error; None if the text does not come from one."""
    mark = text.find(_ERROR_MARK)
    if mark < 0:
        return None
    try:
        problem = msgspec.json.decode(text[mark + len(_ERROR_MARK) :], type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem()
    if problem.too_large:
        return DeviceMemoryError(problem.too_large)
    if problem.error is not None:
        return problem.error.to_error()
    return DefectError(f"a Triton server sent an error that cannot be read: {text[:200]!r}", reason="TRITON_ERROR")
