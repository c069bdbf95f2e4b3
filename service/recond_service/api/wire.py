"""Messages of the wire as types of the service, and back."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from recond.v1 import model_pb2
from recond.v1 import reconstruction_pb2 as pb
from recond_models.registry import ModelInfo
from recond_models.store.contract import Contract, Range
from recond_service.types import (
    ConditioningOptions,
    Figures,
    Finding,
    FrameIndex,
    Geometry,
    InvalidInputError,
    LimitExceededError,
    Limits,
    OutputFormat,
    Part,
    PartFormat,
    PartialFourier,
    PartRole,
    Priority,
    ScanRequest,
    Undersampling,
    UndersamplingKind,
)

_ARRAY_ITEM_BYTES = {PartRole.KSPACE: 8, PartRole.MASK: 1, PartRole.REFERENCE: 4}
_MOST_PARTS = 8
_MOST_COILS = 65535  # channels of an acquisition are counted in uint16
_Kind = TypeVar("_Kind", bound=IntEnum)
_PARTIAL_FOURIER: dict[int, PartialFourier] = {
    pb.PARTIAL_FOURIER_UNSPECIFIED: "zero-fill",
    pb.PARTIAL_FOURIER_ZERO_FILL: "zero-fill",
    pb.PARTIAL_FOURIER_POCS: "pocs",
}
_CENTER_TIMES_ACCELERATION = 0.32  # fastMRI's pairs: 0.08 at 4-fold, 0.04 at 8-fold


@dataclass(frozen=True, slots=True)
class Spec:
    """A checked `ReconstructSpec`.

    Parameters
    ----------
    request
        What the scan process has to know.
    streamed
        Acquisitions come as a stream instead of parts.
    size_bytes
        Bytes that are announced; 0 for a stream that does not know.
    model, model_version
        As asked for; empty model for the service's own choice.
    heads
        Heads asked for.
    priority
        How urgent it is.
    omit_images
        Leave images out of the response.
    """

    request: ScanRequest
    streamed: bool
    size_bytes: int
    model: str
    model_version: str
    heads: tuple[str, ...]
    priority: Priority
    omit_images: bool


def _known(kind: type[_Kind], value: int, field: str) -> _Kind:
    """Return the member of a wire enumeration; a client newer than this service may send others."""
    try:
        return kind(value)
    except ValueError:
        names = ", ".join(f"{member.name} ({member.value})" for member in kind)
        raise InvalidInputError(
            f"this service knows no value {value} here; use one of {names}", reason="UNKNOWN_VALUE", field=field
        ) from None


def read_spec(spec: pb.ReconstructSpec, limits: Limits) -> Spec:
    """Check a spec.

    Raises
    ------
    InvalidInputError, LimitExceededError
        With the field that is wrong.
    """
    source = spec.WhichOneof("source")
    if source is None:
        raise InvalidInputError(
            "the spec says nothing about what is to come; set parts or acquisition_stream",
            reason="NO_SOURCE",
            field="spec",
        )
    parts = _read_parts(spec.parts.parts, limits) if source == "parts" else ()
    expected = sum(part.size_bytes for part in parts) if parts else spec.acquisition_stream.expected_bytes
    if expected > limits.max_scan_bytes:
        raise LimitExceededError(
            f"the scan has {expected} bytes; this service takes {limits.max_scan_bytes}: send fewer slices at once, or have "
            "max_scan_bytes raised",
            reason="SCAN_TOO_LARGE",
            field=f"spec.{source}",
        )
    outputs = [_known(OutputFormat, output, f"spec.outputs[{place}]") for place, output in enumerate(spec.outputs)]
    return Spec(
        request=ScanRequest(
            parts=parts,
            outputs=tuple(dict.fromkeys(outputs)),
            undersampling=_read_undersampling(spec.undersampling) if spec.HasField("undersampling") else None,
            limits=limits,
            conditioning=_read_conditioning(spec.conditioning),
            stack=spec.stack,
        ),
        streamed=source == "acquisition_stream",
        size_bytes=expected,
        model="" if spec.model == "auto" else spec.model,
        model_version=spec.model_version,
        heads=tuple(spec.heads),
        priority=_known(Priority, spec.priority or Priority.CLINICAL, "spec.priority"),
        omit_images=spec.omit_images,
    )


def _read_parts(parts: Iterable[pb.Part], limits: Limits) -> tuple[Part, ...]:
    checked = tuple(_read_part(part, f"spec.parts.parts[{place}]", limits) for place, part in enumerate(parts))
    if len(checked) > _MOST_PARTS:
        raise InvalidInputError(
            f"{len(checked)} parts; at most {_MOST_PARTS}", reason="TOO_MANY_PARTS", field="spec.parts.parts"
        )
    for role in PartRole:
        if sum(part.role is role for part in checked) > 1:
            raise InvalidInputError(
                f"more than one part of role {role.name}; send one", reason="DUPLICATE_PART", field="spec.parts.parts"
            )
    if not any(part.role is PartRole.KSPACE for part in checked):
        raise InvalidInputError(
            "no part of role PART_ROLE_KSPACE; there is nothing to reconstruct",
            reason="NO_KSPACE",
            field="spec.parts.parts",
        )
    return checked


def _read_part(part: pb.Part, field: str, limits: Limits) -> Part:
    role = _known(PartRole, part.role, f"{field}.role")
    format_ = _known(PartFormat, part.format, f"{field}.format")
    if part.size_bytes == 0:
        raise InvalidInputError("the part is empty (size_bytes is 0)", reason="EMPTY_PART", field=f"{field}.size_bytes")
    if part.size_bytes > limits.max_scan_bytes:
        raise LimitExceededError(
            f"the part has {part.size_bytes} bytes; this service takes {limits.max_scan_bytes}: send fewer slices at once, or "
            "have max_scan_bytes raised",
            reason="SCAN_TOO_LARGE",
            field=f"{field}.size_bytes",
        )
    if format_ is PartFormat.ARRAY:
        if role not in _ARRAY_ITEM_BYTES:
            raise InvalidInputError(
                f"a part of role {role.name} cannot be an array", reason="PART_FORMAT", field=f"{field}.format"
            )
        expected = math.prod(part.shape) * _ARRAY_ITEM_BYTES[role]
        if not part.shape or expected != part.size_bytes:
            raise InvalidInputError(
                f"an array of shape {tuple(part.shape)} and {_ARRAY_ITEM_BYTES[role]} bytes a value has {expected} bytes, but "
                f"size_bytes is {part.size_bytes}",
                reason="ARRAY_SIZE",
                field=f"{field}.shape",
            )
    name = part.name.replace("\\", "/").rpartition("/")[2]
    return Part(role, format_, name, part.size_bytes, tuple(part.shape))


def _read_undersampling(message: pb.Undersampling) -> Undersampling:
    kind = _known(UndersamplingKind, message.kind, "spec.undersampling.kind")
    if not (math.isfinite(message.acceleration) and message.acceleration > 1):
        raise InvalidInputError(
            f"acceleration {message.acceleration} is not a number above 1",
            reason="UNDERSAMPLING",
            field="spec.undersampling.acceleration",
        )
    if not 0 <= message.center_fraction < 1:
        raise InvalidInputError(
            f"center_fraction {message.center_fraction} is not between 0 and 1",
            reason="UNDERSAMPLING",
            field="spec.undersampling.center_fraction",
        )
    center = message.center_fraction or _CENTER_TIMES_ACCELERATION / message.acceleration
    return Undersampling(kind, message.acceleration, center)


def _read_conditioning(message: pb.Conditioning) -> ConditioningOptions:
    field = "spec.conditioning"
    partial_fourier = _PARTIAL_FOURIER.get(message.partial_fourier)
    if partial_fourier is None:
        names = ", ".join(f"{pb.PartialFourier.Name(number)} ({number})" for number in _PARTIAL_FOURIER)
        raise InvalidInputError(
            f"this service knows no value {message.partial_fourier} here; use one of {names}",
            reason="UNKNOWN_VALUE",
            field=f"{field}.partial_fourier",
        )
    if message.virtual_coils > _MOST_COILS:
        raise InvalidInputError(
            f"{message.virtual_coils} virtual coils; ask for at most {_MOST_COILS}, or 0 for no limit",
            reason="VIRTUAL_COILS",
            field=f"{field}.virtual_coils",
        )
    if not 0 <= message.coil_energy <= 1:  # also what is not a number
        raise InvalidInputError(
            f"coil_energy {message.coil_energy} is no part of the signal energy: give more than 0 and at most 1, or 0 for no aim",
            reason="COIL_ENERGY",
            field=f"{field}.coil_energy",
        )
    return ConditioningOptions(partial_fourier, message.virtual_coils, message.coil_energy)


def geometry_message(geometry: Geometry) -> pb.Geometry:
    """Return the message of a geometry."""
    return pb.Geometry(
        position=geometry.position,
        row_direction=geometry.row_direction,
        column_direction=geometry.column_direction,
        slice_direction=geometry.slice_direction,
        spacing=geometry.spacing,
    )


def index_message(number: int, index: FrameIndex, stack: int) -> pb.ImageIndex:
    """Return the message of an image's place in the scan and in a stack."""
    return pb.ImageIndex(
        image=number,
        slice=index.slice,
        contrast=index.contrast,
        phase=index.phase,
        repetition=index.repetition,
        set=index.set,
        stack=stack,
    )


def figures_message(figures: Figures) -> pb.Figures:
    """Return the message of figures; those that do not apply stay unset."""
    return pb.Figures(
        ssim=figures.ssim,
        psnr=figures.psnr,
        nmse=figures.nmse,
        data_consistency_residual=figures.data_consistency_residual,
        noise_level=figures.noise_level,
    )


def finding_message(finding: Finding) -> pb.Finding:
    """Return the message of a finding."""
    return pb.Finding(
        code=finding.code, severity=pb.Severity.Name(finding.severity), message=finding.message, count=finding.count
    )


def model_message(info: ModelInfo, *, ready: bool) -> model_pb2.Model:
    """Return the message of a model."""
    return model_pb2.Model(
        name=info.name,
        version=info.version,
        description=info.description,
        kind=info.kind,
        weights_sha256=info.weights_sha256,
        needs_calibration=info.needs_calibration,
        reference=info.reference,
        ready=ready,
        origin=info.origin,
        family=info.family,
        precision=info.precision,
        licence=info.licence,
        source=info.source,
        contract=None if info.contract is None else _contract_message(info.contract),
    )


def _contract_message(contract: Contract) -> model_pb2.ModelContract:
    return model_pb2.ModelContract(
        patterns=contract.patterns,
        acceleration=_range_message(contract.acceleration),
        coils=_range_message(contract.coils),
        rows=_range_message(contract.rows),
        columns=_range_message(contract.columns),
        calibration_rows=contract.calibration[0],
        calibration_columns=contract.calibration[1],
        requires_calibration=contract.requires_calibration,
        anatomy=contract.anatomy,
        contrast=contract.contrast,
    )


def _range_message(limits: Range | None) -> model_pb2.Range | None:
    return None if limits is None else model_pb2.Range(least=limits[0], most=limits[1])
