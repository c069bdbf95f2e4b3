"""Headers and flags against those of the PyPI package."""

from __future__ import annotations

import ctypes

import ismrmrd
import numpy as np
import pytest
from ismrmrd.waveform import WaveformHeader

from recond_gateway.mrd.layouts import (
    ACQUISITION_HEADER,
    IMAGE_HEADER,
    WAVEFORM_HEADER,
    AcquisitionFlag,
    DataType,
    ImageType,
)


@pytest.mark.parametrize(
    ("layout", "structure", "size"),
    [
        (ACQUISITION_HEADER, ismrmrd.AcquisitionHeader, 340),
        (IMAGE_HEADER, ismrmrd.ImageHeader, 198),
        (WAVEFORM_HEADER, WaveformHeader, 40),
    ],
)
def test_headers_lie_as_the_structures_of_c(
    layout: np.dtype[np.void], structure: type[ctypes.Structure], size: int
) -> None:
    assert layout.itemsize == ctypes.sizeof(structure) == size
    assert layout.names == tuple(name for name, *_ in structure._fields_)
    for name in layout.names:
        field = getattr(structure, name)
        assert (layout.fields[name][1], layout.fields[name][0].itemsize) == (field.offset, field.size), name


def test_counters_lie_as_the_structure_of_c() -> None:
    counters = ACQUISITION_HEADER.fields["idx"][0]
    structure = ismrmrd.acquisition.EncodingCounters
    assert counters.names == tuple(name for name, *_ in structure._fields_)
    assert [counters.fields[name][1] for name in counters.names] == [
        getattr(structure, name).offset for name in counters.names
    ]


def test_offsets_are_those_of_the_specification() -> None:
    offsets = {name: ACQUISITION_HEADER.fields[name][1] for name in ACQUISITION_HEADER.names}
    assert [offsets[name] for name in ("number_of_samples", "active_channels", "trajectory_dimensions", "idx")] == [
        34,
        38,
        176,
        242,
    ]
    assert IMAGE_HEADER.fields["attribute_string_len"][1] == 194


def test_flags_have_the_numbers_of_the_specification() -> None:
    ours = {name: flag for name, flag in vars(AcquisitionFlag).items() if name.isupper()}
    shorter = {
        "NAVIGATION_DATA": "NAVIGATION",
        "PHASECORR_DATA": "PHASE_CORRECTION",
        "HPFEEDBACK_DATA": "HP_FEEDBACK",
        "DUMMYSCAN_DATA": "DUMMY",
        "RTFEEDBACK_DATA": "RT_FEEDBACK",
        "SURFACECOILCORRECTIONSCAN_DATA": "SURFACE_COIL_CORRECTION",
    }
    theirs = {
        name.removeprefix("ACQ_").removeprefix("IS_"): 1 << (number - 1)
        for name, number in vars(ismrmrd).items()
        if name.startswith("ACQ_")
    }
    assert ours == {shorter.get(name, name): flag for name, flag in theirs.items()}


def test_flags_combine_with_arrays() -> None:
    headers = np.zeros(2, ACQUISITION_HEADER)
    headers["flags"] = [AcquisitionFlag.USER8 | AcquisitionFlag.REVERSE, AcquisitionFlag.NAVIGATION]
    assert (headers["flags"] & AcquisitionFlag.USER8 != 0).tolist() == [True, False]
    assert (headers["flags"] & (AcquisitionFlag.REVERSE | AcquisitionFlag.NAVIGATION) != 0).all()


def test_types_have_the_codes_of_the_specification() -> None:
    for name, code in (
        ("USHORT", 1),
        ("SHORT", 2),
        ("UINT", 3),
        ("INT", 4),
        ("FLOAT", 5),
        ("DOUBLE", 6),
        ("CXFLOAT", 7),
    ):
        assert getattr(ismrmrd, f"DATATYPE_{name}") == code
    assert [code.dtype.str for code in DataType] == ["<u2", "<i2", "<u4", "<i4", "<f4", "<f8", "<c8", "<c16"]
    assert [ismrmrd.IMTYPE_MAGNITUDE, ismrmrd.IMTYPE_COMPLEX] == [ImageType.MAGNITUDE, ImageType.COMPLEX]


def test_codes_are_found_whatever_the_byte_order() -> None:
    assert DataType.of(np.dtype(">f4")) is DataType.FLOAT32
    with pytest.raises(ValueError, match="no data type for int64"):
        DataType.of(np.dtype(np.int64))
