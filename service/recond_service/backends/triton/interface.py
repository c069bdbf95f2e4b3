"""What a packed batch is called on its way to a Triton server and back; known to both sides."""

from __future__ import annotations

import json
from typing import Any, Final

from recond_service.types import DefectError, RecondError

INTERFACE: Final = "1"
"""Changes when the tensors do: both sides must have the same."""

PREFIX: Final = "recond-"
"""Models in a Triton repository are called like the recond model with this in front."""

KSPACE: Final = "KSPACE"
COILS: Final = "COILS"
MASKS: Final = "MASKS"
CALIBRATION: Final = "CALIBRATION"
CALIBRATION_SHAPES: Final = "CALIBRATION_SHAPES"
CROPS: Final = "CROPS"
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
}
"""Data type and axes of each input; -1 is any length.

``KSPACE``: (coils of all frames, rows, columns, real and imaginary part). ``COILS``: (batch,). ``MASKS``: (batch, rows, columns),
0 or 1. ``CALIBRATION``: (samples, real and imaginary part), the calibration blocks that are not part of the k-space one after
another, each (coils, rows, columns) in C order; left out if there are none. ``CALIBRATION_SHAPES``: (batch, 3), rows and columns of
the calibration block of each frame, 0 if it has none, and 1 if its samples are in ``CALIBRATION``, 0 if it is the centre of the
k-space. ``CROPS``: (batch, 2), rows and columns of the middle of the image that will be shown, 0 for all of it.
"""

OPTIONAL_INPUTS: Final = frozenset({CALIBRATION})

OUTPUTS: Final[dict[str, tuple[str, tuple[int, ...]]]] = {
    IMAGES: ("FP32", (-1, -1, -1)),
    RESIDUALS: ("FP64", (-1,)),
    NOTES: ("UINT8", (-1,)),
    SECONDS: ("FP64", (1,)),
    PEAK_BYTES: ("INT64", (1,)),
}
"""Data type and axes of each output.

``IMAGES``: (batch, rows, columns). ``RESIDUALS``: (batch,), NaN where the model does not fit the samples. ``NOTES``: JSON, for each
frame a list of [code, message]. ``SECONDS``: that the model took. ``PEAK_BYTES``: of the device, 0 if not known.
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
_TOO_LARGE = "too_large"


class DeviceMemoryError(Exception):
    """The device of the Triton server has not enough memory for the batch."""


def write_error(error: RecondError) -> str:
    """Return the text of a Triton error that `read_error` turns back into the error."""
    data = error.to_json()
    data["message"] = data["message"][:_MOST_MESSAGE]
    return _ERROR_MARK + json.dumps(data)


def write_too_large(message: str) -> str:
    """Return the text of a Triton error that `read_error` turns into a `DeviceMemoryError`."""
    return _ERROR_MARK + json.dumps({_TOO_LARGE: message[:_MOST_MESSAGE]})


def read_error(text: str) -> RecondError | DeviceMemoryError | None:
    """Return the error that a recond model put into a Triton error; None if the text does not come from one."""
    mark = text.find(_ERROR_MARK)
    if mark < 0:
        return None
    try:
        data: Any = json.loads(text[mark + len(_ERROR_MARK) :])
        if _TOO_LARGE in data:
            return DeviceMemoryError(str(data[_TOO_LARGE]))
        return RecondError.from_json(data)
    except (ValueError, TypeError, AttributeError):
        return DefectError(f"a Triton server sent an error that cannot be read: {text[:200]!r}", reason="TRITON_ERROR")
