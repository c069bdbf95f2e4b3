"""Messages of the wire as types of the service, and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from recond.v1 import analysis_pb2
from recond.v1 import reconstruction_pb2 as pb
from recond_models.note import Note
from recond_service.pipeline import Analysed, Evidence, Finished, Planned, ReconstructionRequest
from recond_service.types import (
    ConditioningOptions,
    Figures,
    Finding,
    Geometry,
    ImagePlace,
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
    StackSummary,
    Undersampling,
    UndersamplingKind,
)

_ARRAY_ITEM_BYTES = {PartRole.KSPACE: 8, PartRole.MASK: 1, PartRole.REFERENCE: 4}
_MOST_PARTS = 8
_MOST_OUTPUTS = 16
_MOST_HEADS = 64
_MOST_AXES = 8
_MOST_COILS = 65535  # channels of an acquisition are counted in uint16
_Kind = TypeVar("_Kind", bound=IntEnum)
_PARTIAL_FOURIER: dict[int, PartialFourier] = {
    pb.PARTIAL_FOURIER_UNSPECIFIED: "zero-fill",
    pb.PARTIAL_FOURIER_ZERO_FILL: "zero-fill",
    pb.PARTIAL_FOURIER_POCS: "pocs",
}
_TIMINGS = frozenset(field.name for field in pb.Timings.DESCRIPTOR.fields)
_CENTER_TIMES_ACCELERATION = 0.32  # fastMRI's pairs: 0.08 at 4-fold, 0.04 at 8-fold


@dataclass(frozen=True, slots=True)
class Spec:
    """A checked `ReconstructSpec`.

    Parameters
    ----------
    request
        What is asked for.
    streamed
        Acquisitions come as a stream instead of parts.
    heads
        Heads asked for.
    omit_images
        Leave images out of the response.
    """

    request: ReconstructionRequest
    streamed: bool
    heads: tuple[str, ...]
    omit_images: bool


def known(kind: type[_Kind], value: int, field: str) -> _Kind:
    """Return the member of a wire enumeration.

    Raises
    ------
    InvalidInputError
        There is none of that value: a client newer than this service may send others.
    """
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
    _require_few(spec)
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
    outputs = [known(OutputFormat, output, f"spec.outputs[{place}]") for place, output in enumerate(spec.outputs)]
    scan = ScanRequest(
        parts=parts,
        outputs=tuple(dict.fromkeys(outputs)),
        undersampling=_read_undersampling(spec.undersampling) if spec.HasField("undersampling") else None,
        limits=limits,
        conditioning=_read_conditioning(spec.conditioning),
        stack=spec.stack,
        complex_images=spec.complex_images,
        uncertainty=spec.uncertainty,
        attention=spec.attention,
    )
    request = ReconstructionRequest(
        scan=scan,
        size_bytes=expected,
        model="" if spec.model == "auto" else spec.model,
        model_version=spec.model_version,
        priority=known(Priority, spec.priority or Priority.CLINICAL, "spec.priority"),
    )
    return Spec(request, source == "acquisition_stream", tuple(spec.heads), spec.omit_images)


def _require_few(spec: pb.ReconstructSpec) -> None:
    """Refuse a spec with long lists, by their lengths alone: nothing else may look at them before."""
    for values, most, field in (
        (spec.parts.parts, _MOST_PARTS, "spec.parts.parts"),
        (spec.outputs, _MOST_OUTPUTS, "spec.outputs"),
        (spec.heads, _MOST_HEADS, "spec.heads"),
    ):
        if len(values) > most:
            raise InvalidInputError(
                f"{len(values)} entries; at most {most}",
                reason="TOO_MANY_" + field.rpartition(".")[2].upper(),
                field=field,
            )
    for place, part in enumerate(spec.parts.parts):
        if len(part.shape) > _MOST_AXES:
            raise InvalidInputError(
                f"an array of {len(part.shape)} axes; at most {_MOST_AXES}",
                reason="ARRAY_SIZE",
                field=f"spec.parts.parts[{place}].shape",
            )


def _read_parts(parts: Iterable[pb.Part], limits: Limits) -> tuple[Part, ...]:
    checked = tuple(_read_part(part, f"spec.parts.parts[{place}]", limits) for place, part in enumerate(parts))
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
    role = known(PartRole, part.role, f"{field}.role")
    format_ = known(PartFormat, part.format, f"{field}.format")
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
    kind = known(UndersamplingKind, message.kind, "spec.undersampling.kind")
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


def plan_message(planned: Planned) -> pb.Plan:
    """Return the message that tells which model runs."""
    model = planned.model
    return pb.Plan(model=model.name, version=model.version, reason=planned.reason, images=planned.images)


def summary_message(finished: Finished) -> pb.Summary:
    """Return the last message of a call."""
    model = finished.model
    return pb.Summary(
        model=model.name,
        version=model.version,
        weights_sha256=model.weights_sha256,
        images=finished.images,
        shape=finished.shape,
        figures=figures_message(finished.figures),
        seconds=timings_message(finished.seconds),
        findings=[finding_message(finding) for finding in finished.findings],
        reference=finished.reference,
        order=finished.order,
        stacks=[stack_message(stack) for stack in finished.stacks],
        evidence=None if finished.evidence is None else evidence_message(finished.evidence),
    )


def timings_message(seconds: Mapping[str, float]) -> pb.Timings:
    """Return the message of the time by stage; stages that the wire does not know are left out."""
    return pb.Timings(**{name: spent for name, spent in seconds.items() if name in _TIMINGS})


def analysis_message(event: Analysed) -> analysis_pb2.AnalyzeSummary:
    """Return the last message of an analysis."""
    return analysis_pb2.AnalyzeSummary(
        shape=event.shape,
        stacks=[stack_message(stack) for stack in event.stacks],
        seconds=timings_message(event.seconds),
        findings=[finding_message(finding) for finding in event.findings],
    )


def stack_message(stack: StackSummary) -> pb.Stack:
    """Return the message of a stack."""
    return pb.Stack(name=stack.name, images=stack.images, shape=stack.shape)


def evidence_message(evidence: Evidence) -> pb.Evidence:
    """Return the message that tells what the model was chosen by."""
    return pb.Evidence(
        model=evidence.model,
        preferred=evidence.preferred,
        candidates=[
            pb.Evidence.Candidate(
                model=each.model, held_out_error=each.held_out_error, expected_ssim=each.expected_ssim
            )
            for each in evidence.candidates
        ],
        slices=evidence.slices,
        seconds=evidence.seconds,
        not_tried=evidence.not_tried,
    )


def geometry_message(geometry: Geometry) -> pb.Geometry:
    """Return the message of a geometry."""
    return pb.Geometry(
        position=geometry.position,
        row_direction=geometry.row_direction,
        column_direction=geometry.column_direction,
        slice_direction=geometry.slice_direction,
        spacing=geometry.spacing,
    )


def index_message(place: ImagePlace) -> pb.ImageIndex:
    """Return the message of an image's place in the scan and in a stack."""
    return pb.ImageIndex(
        image=place.number,
        slice=place.index.slice,
        contrast=place.index.contrast,
        phase=place.index.phase,
        repetition=place.index.repetition,
        set=place.index.set,
        stack=place.stack,
    )


def figures_message(figures: Figures) -> pb.Figures:
    """Return the message of figures; those that do not apply stay unset."""
    return pb.Figures(
        ssim=figures.ssim,
        psnr=figures.psnr,
        nmse=figures.nmse,
        data_consistency_residual=figures.data_consistency_residual,
        noise_level=figures.noise_level,
        ssim_object=figures.ssim_object,
        psnr_object=figures.psnr_object,
        nmse_object=figures.nmse_object,
    )


def note_message(note: Note) -> pb.Finding:
    """Return the message of what a model noticed on an image."""
    return pb.Finding(code=note.code, severity=pb.SEVERITY_WARNING, message=note.message, count=1)


def finding_message(finding: Finding) -> pb.Finding:
    """Return the message of a finding."""
    return pb.Finding(
        code=finding.code, severity=pb.Severity.Name(finding.severity), message=finding.message, count=finding.count
    )
