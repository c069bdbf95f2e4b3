"""The header of MRD version 2, as the parts of it that a reconstruction needs."""

from __future__ import annotations

import math
from typing import Any

from recond_service.types import (
    AcquisitionSystem,
    CoilLabel,
    Encoding,
    EncodingLimits,
    EncodingSpace,
    FindingList,
    InvalidInputError,
    Limit,
    MrdHeader,
    ParallelImaging,
    SequenceParameters,
)

_PLACE = "header"
_LARGEST_COUNTER = 65535
_MOST_ENCODINGS = 256
_LIMITS = {
    "step_1": "kspaceEncodingStep1",
    "step_2": "kspaceEncodingStep2",
    "average": "average",
    "slice": "slice",
    "contrast": "contrast",
    "phase": "phase",
    "repetition": "repetition",
    "set": "set",
    "segment": "segment",
}

WANTED: dict[str, Any] = {
    "measurementInformation": {"measurementDependency": {"dependencyType": None}},
    "acquisitionSystemInformation": {
        "systemVendor": None,
        "systemModel": None,
        "systemFieldStrengthT": None,
        "relativeReceiverNoiseBandwidth": None,
        "receiverChannels": None,
        "coilLabel": None,
    },
    "encoding": {
        "encodedSpace": None,
        "reconSpace": None,
        "encodingLimits": dict.fromkeys(_LIMITS.values()),
        "trajectory": None,
        "parallelImaging": {"accelerationFactor": None, "calibrationMode": None},
    },
    "sequenceParameters": dict.fromkeys(("tR", "tE", "tI", "flipAngleDeg", "sequenceType")),
}
"""The fields that are decoded: none of them tells about a person, a place or a date."""


def header_of(values: dict[str, Any], findings: FindingList) -> MrdHeader:
    """Return the header of decoded values.

    Parameters
    ----------
    values
        The fields in `WANTED`.
    findings
        Gets what is odd about the header.

    Raises
    ------
    InvalidInputError
        If there is no encoding, or a value cannot be.
    """
    encodings = values["encoding"]
    if not 0 < len(encodings) <= _MOST_ENCODINGS:
        raise InvalidInputError(
            f"The header has {len(encodings)} encodings; it must have between 1 and {_MOST_ENCODINGS}: correct the header.",
            reason="HEADER_ENCODINGS",
            field=f"{_PLACE}.encoding",
        )
    measurement = values["measurementInformation"]
    dependencies = measurement["measurementDependency"] if measurement else []
    header = MrdHeader(
        encodings=tuple(
            _encoding(encoding, f"{_PLACE}.encoding[{number}]", findings) for number, encoding in enumerate(encodings)
        ),
        system=_system(values["acquisitionSystemInformation"]),
        sequence=_sequence(values["sequenceParameters"]),
        dependencies=tuple(dependency["dependencyType"].lower()[:40] for dependency in dependencies),
    )
    if any(encoding.limits.step_1 is None for encoding in header.encodings):
        findings.warn(
            "limits-missing",
            "The header has no limits for kspace_encode_step_1: every line of the matrix is expected, its centre in the middle.",
        )
    return header


def _wrong(field: str, value: object, expected: str) -> InvalidInputError:
    return InvalidInputError(
        f"{field} is {value}; it must be {expected}: correct the header.", reason="HEADER_VALUE", field=field
    )


def _encoding(values: dict[str, Any], place: str, findings: FindingList) -> Encoding:
    parallel = values["parallelImaging"]
    return Encoding(
        encoded=_space(values["encodedSpace"], f"{place}.encodedSpace"),
        recon=_space(values["reconSpace"], f"{place}.reconSpace"),
        limits=EncodingLimits(
            **{
                name: _limit(values["encodingLimits"][stored], f"{place}.encodingLimits.{stored}", findings)
                for name, stored in _LIMITS.items()
            }
        ),
        trajectory=values["trajectory"].lower(),
        parallel=None if parallel is None else _parallel(parallel, f"{place}.parallelImaging"),
    )


def _whole(value: int, field: str) -> int:
    if value > _LARGEST_COUNTER:
        raise _wrong(field, value, f"a whole number from 0 to {_LARGEST_COUNTER}")
    return value


def _space(values: dict[str, Any], place: str) -> EncodingSpace:
    x, y, z = (_whole(values["matrixSize"][axis], f"{place}.matrixSize.{axis}") for axis in "xyz")
    fx, fy, fz = (float(values["fieldOfViewMm"][axis]) for axis in "xyz")
    if not (math.isfinite(fx + fy + fz) and min(fx, fy, fz) >= 0):
        raise _wrong(f"{place}.fieldOfViewMm", f"{fx} x {fy} x {fz}", "positive, in mm")
    return EncodingSpace((x, y, z), (fx, fy, fz))


def _limit(values: dict[str, int] | None, place: str, findings: FindingList) -> Limit | None:
    if values is None:
        return None
    limit = Limit(*(_whole(values[name], f"{place}.{name}") for name in ("minimum", "maximum", "center")))
    if limit.maximum < limit.minimum:
        findings.warn(
            "limits-impossible",
            f"{place} is {limit.minimum}..{limit.maximum}, which is no range: the counters of the readouts count.",
        )
        return None
    return limit


def _parallel(values: dict[str, Any], place: str) -> ParallelImaging:
    factor = values["accelerationFactor"]
    along = (_whole(factor[f"kspaceEncodingStep{axis}"], f"{place}.accelerationFactor") or 1 for axis in (1, 2))
    mode = values["calibrationMode"] or ""
    return ParallelImaging((next(along), next(along)), "" if mode == "noacceleration" else mode.lower())


def _system(values: dict[str, Any] | None) -> AcquisitionSystem:
    if values is None:
        return AcquisitionSystem()
    place = f"{_PLACE}.acquisitionSystemInformation"
    bandwidth, strength = values["relativeReceiverNoiseBandwidth"], values["systemFieldStrengthT"]
    if bandwidth is not None and not (math.isfinite(bandwidth) and bandwidth > 0):
        raise _wrong(f"{place}.relativeReceiverNoiseBandwidth", f"{bandwidth:g}", "more than 0")
    channels = values["receiverChannels"]
    labels = [
        CoilLabel(_whole(label["coilNumber"], f"{place}.coilLabel.coilNumber"), label["coilName"][:64])
        for label in values["coilLabel"]
    ]
    return AcquisitionSystem(
        vendor=(values["systemVendor"] or "")[:64],
        model=(values["systemModel"] or "")[:64],
        field_strength=strength if strength is not None and math.isfinite(strength) else None,
        receiver_channels=None if channels is None else _whole(channels, f"{place}.receiverChannels"),
        relative_noise_bandwidth=bandwidth,
        coil_labels=tuple(sorted(labels, key=lambda label: label.number)),
    )


def _sequence(values: dict[str, Any] | None) -> SequenceParameters:
    if values is None:
        return SequenceParameters()
    return SequenceParameters(
        repetition_times=tuple(filter(math.isfinite, values["tR"])),
        echo_times=tuple(filter(math.isfinite, values["tE"])),
        inversion_times=tuple(filter(math.isfinite, values["tI"])),
        flip_angles=tuple(filter(math.isfinite, values["flipAngleDeg"])),
        sequence_type=(values["sequenceType"] or "")[:64],
    )
