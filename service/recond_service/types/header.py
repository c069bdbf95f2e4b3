"""The parts of an ISMRMRD header that a reconstruction needs, typed.

Nothing that identifies a person is kept: `subjectInformation`, `studyInformation`, dates, names of institutions, free-text
parameters and measurement identifiers are not represented here, so that no later room can carry or log them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EncodingSpace:
    """A matrix and the field of view it covers.

    Parameters
    ----------
    matrix
        (x, y, z) = (readout, phase encode, partition); 0 where the header does not say.
    field_of_view
        (x, y, z) in mm; 0 where the header does not say.
    """

    matrix: tuple[int, int, int] = (0, 0, 0)
    field_of_view: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Limit:
    """Range of an encoding counter, both ends included, and the counter of the centre of k-space, None where there is none."""

    minimum: int = 0
    maximum: int = 0
    center: int | None = None


@dataclass(frozen=True, slots=True)
class EncodingLimits:
    """Ranges of the encoding counters; None where the header does not say."""

    step_1: Limit | None = None
    step_2: Limit | None = None
    average: Limit | None = None
    slice: Limit | None = None
    contrast: Limit | None = None
    phase: Limit | None = None
    repetition: Limit | None = None
    set: Limit | None = None
    segment: Limit | None = None


@dataclass(frozen=True, slots=True)
class ParallelImaging:
    """Acceleration as the header claims it.

    Parameters
    ----------
    acceleration
        Along kspace_encode_step_1 and kspace_encode_step_2.
    calibration_mode
        ``"embedded"``, ``"interleaved"``, ``"separate"``, ``"external"``, ``"other"``, or empty.
    """

    acceleration: tuple[int, int] = (1, 1)
    calibration_mode: str = ""


@dataclass(frozen=True, slots=True)
class Encoding:
    """One encoding of a scan.

    Parameters
    ----------
    encoded
        What is encoded, readout and phase oversampling included.
    recon
        What is wanted.
    limits
        Ranges of the counters.
    trajectory
        Lower case: ``"cartesian"``, ``"epi"``, ``"radial"``, ``"goldenangle"``, ``"spiral"`` or ``"other"``.
    parallel
        Acceleration, None where the header does not say.
    """

    encoded: EncodingSpace
    recon: EncodingSpace
    limits: EncodingLimits
    trajectory: str
    parallel: ParallelImaging | None = None


@dataclass(frozen=True, slots=True)
class CoilLabel:
    """Name of a receive channel."""

    number: int
    name: str


@dataclass(frozen=True, slots=True)
class AcquisitionSystem:
    """The scanner, without anything that tells which one it was.

    Parameters
    ----------
    vendor, model
        As the header has them, may be empty.
    field_strength
        Tesla, None where the header does not say.
    receiver_channels
        Number of channels, None where the header does not say.
    relative_noise_bandwidth
        ``relativeReceiverNoiseBandwidth``, None where the header does not say.
    coil_labels
        Names of the channels in the order of their numbers.
    """

    vendor: str = ""
    model: str = ""
    field_strength: float | None = None
    receiver_channels: int | None = None
    relative_noise_bandwidth: float | None = None
    coil_labels: tuple[CoilLabel, ...] = ()


@dataclass(frozen=True, slots=True)
class SequenceParameters:
    """Contrast-determining times in ms and flip angles in degrees, one entry for each that the header lists."""

    repetition_times: tuple[float, ...] = ()
    echo_times: tuple[float, ...] = ()
    inversion_times: tuple[float, ...] = ()
    flip_angles: tuple[float, ...] = ()
    sequence_type: str = ""


@dataclass(frozen=True, slots=True)
class MrdHeader:
    """An ISMRMRD header.

    Parameters
    ----------
    encodings
        At least one.
    system
        The scanner.
    sequence
        Sequence parameters.
    dependencies
        Lower-case types of the measurements that this one depends on, such as ``"noise"``.
    """

    encodings: tuple[Encoding, ...]
    system: AcquisitionSystem = AcquisitionSystem()
    sequence: SequenceParameters = SequenceParameters()
    dependencies: tuple[str, ...] = ()
