"""The pinned copies of ISMRMRD's records and flags are those of its package."""

from __future__ import annotations

import ismrmrd
from ismrmrd import hdf5

from recond_service.conditioning import flags
from recond_service.results.writers.mrd import IMAGE_HEADER
from recond_service.types import ACQUISITION_HEADER


def test_records() -> None:
    assert hdf5.acquisition_header_dtype == ACQUISITION_HEADER
    assert hdf5.image_header_dtype == IMAGE_HEADER


def test_flags() -> None:
    for number, value in (
        (ismrmrd.ACQ_LAST_IN_SLICE, flags.LAST_IN_SLICE),
        (ismrmrd.ACQ_LAST_IN_REPETITION, flags.LAST_IN_REPETITION),
        (ismrmrd.ACQ_LAST_IN_MEASUREMENT, flags.LAST_IN_MEASUREMENT),
        (ismrmrd.ACQ_IS_NOISE_MEASUREMENT, flags.NOISE),
        (ismrmrd.ACQ_IS_PARALLEL_CALIBRATION, flags.CALIBRATION),
        (ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING, flags.CALIBRATION_AND_IMAGING),
        (ismrmrd.ACQ_IS_REVERSE, flags.REVERSE),
    ):
        assert flags.bit_of(number) == value
    apart = ("NAVIGATION_DATA", "PHASECORR_DATA", "HPFEEDBACK_DATA", "DUMMYSCAN_DATA", "RTFEEDBACK_DATA")
    assert sum(flags.bit_of(getattr(ismrmrd, f"ACQ_IS_{name}")) for name in apart) == flags.NOT_IMAGING
    assert set(flags.DOUBTFUL) == {
        ismrmrd.ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA,
        ismrmrd.ACQ_IS_PHASE_STABILIZATION_REFERENCE,
        ismrmrd.ACQ_IS_PHASE_STABILIZATION,
    }
