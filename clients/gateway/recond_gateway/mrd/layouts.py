"""Headers of MRD version 1 as they lie in the stream: little-endian, field names as in the ISMRMRD specification."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np

_VECTORS: Final = ("position", "read_dir", "phase_dir", "slice_dir", "patient_table_position")

ENCODING_COUNTERS: Final = np.dtype(
    [
        ("kspace_encode_step_1", "<u2"),
        ("kspace_encode_step_2", "<u2"),
        ("average", "<u2"),
        ("slice", "<u2"),
        ("contrast", "<u2"),
        ("phase", "<u2"),
        ("repetition", "<u2"),
        ("set", "<u2"),
        ("segment", "<u2"),
        ("user", "<u2", (8,)),
    ]
)

ACQUISITION_HEADER: Final = np.dtype(
    [
        ("version", "<u2"),
        ("flags", "<u8"),
        ("measurement_uid", "<u4"),
        ("scan_counter", "<u4"),
        ("acquisition_time_stamp", "<u4"),
        ("physiology_time_stamp", "<u4", (3,)),
        ("number_of_samples", "<u2"),
        ("available_channels", "<u2"),
        ("active_channels", "<u2"),
        ("channel_mask", "<u8", (16,)),
        ("discard_pre", "<u2"),
        ("discard_post", "<u2"),
        ("center_sample", "<u2"),
        ("encoding_space_ref", "<u2"),
        ("trajectory_dimensions", "<u2"),
        ("sample_time_us", "<f4"),
        *((name, "<f4", (3,)) for name in _VECTORS),
        ("idx", ENCODING_COUNTERS),
        ("user_int", "<i4", (8,)),
        ("user_float", "<f4", (8,)),
    ]
)
"""340 bytes, packed."""

IMAGE_HEADER: Final = np.dtype(
    [
        ("version", "<u2"),
        ("data_type", "<u2"),
        ("flags", "<u8"),
        ("measurement_uid", "<u4"),
        ("matrix_size", "<u2", (3,)),
        ("field_of_view", "<f4", (3,)),
        ("channels", "<u2"),
        *((name, "<f4", (3,)) for name in _VECTORS),
        ("average", "<u2"),
        ("slice", "<u2"),
        ("contrast", "<u2"),
        ("phase", "<u2"),
        ("repetition", "<u2"),
        ("set", "<u2"),
        ("acquisition_time_stamp", "<u4"),
        ("physiology_time_stamp", "<u4", (3,)),
        ("image_type", "<u2"),
        ("image_index", "<u2"),
        ("image_series_index", "<u2"),
        ("user_int", "<i4", (8,)),
        ("user_float", "<f4", (8,)),
        ("attribute_string_len", "<u4"),
    ]
)
"""198 bytes, packed."""

WAVEFORM_HEADER: Final = np.dtype(
    {
        "names": [
            "version",
            "flags",
            "measurement_uid",
            "scan_counter",
            "time_stamp",
            "number_of_samples",
            "channels",
            "sample_time_us",
            "waveform_id",
        ],
        "formats": ["<u2", "<u8", "<u4", "<u4", "<u4", "<u2", "<u2", "<f4", "<u2"],
        "offsets": [0, 8, 16, 20, 24, 28, 30, 32, 36],
        "itemsize": 40,
    }
)
"""40 bytes: a structure of C with its padding, 6 bytes behind the version and 2 at the end."""

HEADER_VERSION: Final = 1
"""What scanners write; libraries leave 0 in headers that they do not fill in."""

TICK_SECONDS: Final = 2.5e-3
"""The unit of time stamps at Siemens, which other vendors' converters keep to."""


class AcquisitionFlag:
    """Flags of acquisitions: number n of the specification is bit n - 1.

    Plain integers, so that they combine with arrays of flags: numpy takes no members of an enumeration beside uint64.
    """

    FIRST_IN_ENCODE_STEP1: Final = 1 << 0
    LAST_IN_ENCODE_STEP1: Final = 1 << 1
    FIRST_IN_ENCODE_STEP2: Final = 1 << 2
    LAST_IN_ENCODE_STEP2: Final = 1 << 3
    FIRST_IN_AVERAGE: Final = 1 << 4
    LAST_IN_AVERAGE: Final = 1 << 5
    FIRST_IN_SLICE: Final = 1 << 6
    LAST_IN_SLICE: Final = 1 << 7
    FIRST_IN_CONTRAST: Final = 1 << 8
    LAST_IN_CONTRAST: Final = 1 << 9
    FIRST_IN_PHASE: Final = 1 << 10
    LAST_IN_PHASE: Final = 1 << 11
    FIRST_IN_REPETITION: Final = 1 << 12
    LAST_IN_REPETITION: Final = 1 << 13
    FIRST_IN_SET: Final = 1 << 14
    LAST_IN_SET: Final = 1 << 15
    FIRST_IN_SEGMENT: Final = 1 << 16
    LAST_IN_SEGMENT: Final = 1 << 17
    NOISE_MEASUREMENT: Final = 1 << 18
    PARALLEL_CALIBRATION: Final = 1 << 19
    PARALLEL_CALIBRATION_AND_IMAGING: Final = 1 << 20
    REVERSE: Final = 1 << 21
    NAVIGATION: Final = 1 << 22
    PHASE_CORRECTION: Final = 1 << 23
    LAST_IN_MEASUREMENT: Final = 1 << 24
    HP_FEEDBACK: Final = 1 << 25
    DUMMY: Final = 1 << 26
    RT_FEEDBACK: Final = 1 << 27
    SURFACE_COIL_CORRECTION: Final = 1 << 28
    PHASE_STABILIZATION_REFERENCE: Final = 1 << 29
    PHASE_STABILIZATION: Final = 1 << 30
    COMPRESSION1: Final = 1 << 52
    COMPRESSION2: Final = 1 << 53
    COMPRESSION3: Final = 1 << 54
    COMPRESSION4: Final = 1 << 55
    USER1: Final = 1 << 56
    USER2: Final = 1 << 57
    USER3: Final = 1 << 58
    USER4: Final = 1 << 59
    USER5: Final = 1 << 60
    USER6: Final = 1 << 61
    USER7: Final = 1 << 62
    USER8: Final = 1 << 63


class DataType(IntEnum):
    """What the pixels of images and the items of arrays are."""

    UINT16 = 1
    INT16 = 2
    UINT32 = 3
    INT32 = 4
    FLOAT32 = 5
    FLOAT64 = 6
    COMPLEX64 = 7
    COMPLEX128 = 8

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The type of numpy, little-endian."""
        return _DTYPES[self]

    @classmethod
    def of(cls, dtype: np.dtype[np.generic]) -> DataType:
        """Return the code of a type of numpy, whatever its byte order.

        Raises
        ------
        ValueError
            MRD has no such type.
        """
        for code, known in _DTYPES.items():
            if (known.kind, known.itemsize) == (dtype.kind, dtype.itemsize):
                return code
        msg = f"MRD has no data type for {dtype}; it has {', '.join(known.name for known in _DTYPES.values())}"
        raise ValueError(msg)


_DTYPES: Final[dict[DataType, np.dtype[np.generic]]] = {
    DataType.UINT16: np.dtype("<u2"),
    DataType.INT16: np.dtype("<i2"),
    DataType.UINT32: np.dtype("<u4"),
    DataType.INT32: np.dtype("<i4"),
    DataType.FLOAT32: np.dtype("<f4"),
    DataType.FLOAT64: np.dtype("<f8"),
    DataType.COMPLEX64: np.dtype("<c8"),
    DataType.COMPLEX128: np.dtype("<c16"),
}


class ImageType(IntEnum):
    """What the pixels of images mean."""

    MAGNITUDE = 1
    PHASE = 2
    REAL = 3
    IMAG = 4
    COMPLEX = 5
    RGB = 6
