"""What is in a file of raw data, what is odd about it, and what the service would do with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from recond_models import registry
from recond_models.sampling import Sampling
from recond_models.selection import choose
from recond_service.conditioning import condition
from recond_service.ingest import read_scan
from recond_service.series import Assembly, StackNumbers, make_series
from recond_service.types import (
    ErrorReport,
    Finding,
    FindingList,
    FinishedImage,
    Frame,
    KspaceScan,
    PartRole,
    RawScan,
    RecondError,
    ScanRequest,
    Severity,
)


@dataclass(frozen=True, slots=True)
class HeaderFacts:
    """What the ISMRMRD header says about the encoding of the images.

    Parameters
    ----------
    vendor
        Scanner vendor, may be empty.
    field_strength
        Tesla, or None.
    trajectory
        As the header has it.
    encoded_matrix, recon_matrix
        (x, y, z) = (readout, phase encode, partition).
    encoded_field_of_view, recon_field_of_view
        mm.
    readout_oversampling, phase_oversampling
        Encoded over wanted field of view.
    acceleration
        What the header claims along both phase encodes.
    calibration_mode
        What the header claims, may be empty.
    noise_scan
        ``"earlier measurement"``, or empty: noise readouts within the measurement show as findings.
    """

    vendor: str
    field_strength: float | None
    trajectory: str
    encoded_matrix: tuple[int, int, int]
    encoded_field_of_view: tuple[float, float, float]
    recon_matrix: tuple[int, int, int]
    recon_field_of_view: tuple[float, float, float]
    readout_oversampling: float
    phase_oversampling: float
    acceleration: tuple[int, int]
    calibration_mode: str
    noise_scan: str


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """What the frames turned out to be.

    Parameters
    ----------
    images
        Number of images.
    stacks
        Names of the stacks of one orientation, slab and size that they make.
    slices, contrasts, phases, repetitions, sets
        How many of each there are.
    coils, rows, columns
        Size of a frame.
    image_shape
        (rows, columns) of the finished images.
    acceleration
        Grid points per measured point.
    pattern
        How the lines lie: full, uniform, irregular or two-dimensional.
    calibration
        (rows, columns) of the calibration block.
    separate_calibration
        It was measured apart from the images.
    whitened
        Coils are noise-whitened.
    reference
        Where a reference comes from, or empty.
    three_dimensional
        Frames are readout positions of a 3-D scan: rows = phase encode, columns = partition. Its images are slices along the
        partition.
    row_coverage, partial_fourier
        Fraction of k-space along rows and along columns that lies between the first and the last measured sample: less than 1 for
        asymmetric echoes and partial Fourier.
    located
        Images have position and orientation.
    """

    images: int
    stacks: tuple[str, ...]
    slices: int
    contrasts: int
    phases: int
    repetitions: int
    sets: int
    coils: int
    rows: int
    columns: int
    image_shape: tuple[int, int]
    acceleration: float
    pattern: str
    calibration: tuple[int, int]
    separate_calibration: bool
    whitened: bool
    reference: str
    three_dimensional: bool
    row_coverage: float
    partial_fourier: float
    located: bool


@dataclass(frozen=True, slots=True)
class Report:
    """All that can be said about a file.

    Parameters
    ----------
    name
        File name.
    size_bytes
        Size of all parts.
    kind
        ``"readouts"`` (ISMRMRD), ``"sorted k-space"``, or empty where it could not be read.
    readouts
        Number of readouts, noise included; 0 for sorted k-space.
    header
        What the header says, None where there is none.
    frames
        What the frames turned out to be, None where there are none.
    model, model_reason
        What ``auto`` would pick for the first frame, and why.
    findings
        What was noticed.
    refused
        Why the service would refuse the file, None if it would not.
    """

    name: str
    size_bytes: int
    kind: str = ""
    readouts: int = 0
    header: HeaderFacts | None = None
    frames: FrameFacts | None = None
    model: str = ""
    model_reason: str = ""
    findings: tuple[Finding, ...] = ()
    refused: ErrorReport | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values; severities become their names in lower case."""
        values = asdict(self)
        for finding in values["findings"]:
            finding["severity"] = Severity(finding["severity"]).name.lower()
        values["findings"] = list(values["findings"])
        return values


def examine(request: ScanRequest) -> Report:
    """Read a scan as the service would, up to its frames, and report.

    Every frame is made, one after another, and thrown away: what is odd about the last line of a file is found too.

    Parameters
    ----------
    request
        Parts and limits; undersampling is left out.

    Returns
    -------
    Report
        Also for a file that the service refuses: `Report.refused` then says why.
    """
    request = replace(request, undersampling=None)
    findings = FindingList()
    name = next((part.name for part in request.parts if part.role == PartRole.KSPACE), "")
    report = Report(name, sum(part.size_bytes for part in request.parts))
    try:
        scan = read_scan(request, findings)
        report = _describe_scan(report, scan)
        report = _describe_frames(report, scan, request, findings)
    except RecondError as error:
        report = replace(report, refused=ErrorReport.of(error))
    return replace(report, findings=tuple(findings))


def _describe_scan(report: Report, scan: RawScan | KspaceScan) -> Report:
    if isinstance(scan, KspaceScan):
        return replace(report, kind="sorted k-space")
    header = scan.source.header
    encoding = header.encodings[0]
    ratios = [
        encoded / wanted if encoded > 0 and wanted > 0 else 1.0
        for encoded, wanted in zip(encoding.encoded.field_of_view, encoding.recon.field_of_view, strict=True)
    ]
    facts = HeaderFacts(
        vendor=header.system.vendor,
        field_strength=header.system.field_strength,
        trajectory=encoding.trajectory,
        encoded_matrix=encoding.encoded.matrix,
        encoded_field_of_view=encoding.encoded.field_of_view,
        recon_matrix=encoding.recon.matrix,
        recon_field_of_view=encoding.recon.field_of_view,
        readout_oversampling=ratios[0],
        phase_oversampling=ratios[1],
        acceleration=encoding.parallel.acceleration if encoding.parallel else (1, 1),
        calibration_mode=encoding.parallel.calibration_mode if encoding.parallel else "",
        noise_scan="earlier measurement" if scan.noise else "",
    )
    return replace(report, kind="readouts", readouts=scan.source.count, header=facts)


def _describe_frames(report: Report, scan: RawScan | KspaceScan, request: ScanRequest, findings: FindingList) -> Report:
    first: Frame | None = None
    series = _SeriesCount()
    for number, frame in enumerate(condition(scan, request, findings)):
        series.add(number, frame)
        first = first or frame
    if first is None:
        return report
    coils, rows, columns = first.kspace.shape
    extent = first.calibration_extent if first.calibration is None else first.calibration.shape[1:]
    sampling = Sampling.of(first.mask, (int(extent[0]), int(extent[1])), coils, whitened=first.whitened)
    choice = choose(sampling, registry.available())
    if choice.passed_over:
        findings.info("network-not-chosen", choice.passed_over)
    if choice.assumed:
        findings.info("anatomy-assumed", choice.assumed)
    images, stacks = series.images, series.stacks(findings)
    facts = FrameFacts(
        images=len(images),
        stacks=stacks,
        slices=len({(image.index.slice, image.index.place) for image in images}),
        contrasts=len({image.index.contrast for image in images}),
        phases=len({image.index.phase for image in images}),
        repetitions=len({image.index.repetition for image in images}),
        sets=len({image.index.set for image in images}),
        coils=coils,
        rows=rows,
        columns=columns,
        image_shape=images[0].pixels.shape,
        acceleration=sampling.acceleration,
        pattern=sampling.pattern,
        calibration=sampling.calibration,
        separate_calibration=first.calibration is not None,
        whitened=first.whitened,
        reference=first.reference_source,
        three_dimensional=first.crossing is not None,
        row_coverage=_coverage(np.asarray(first.mask.any(axis=1))),
        partial_fourier=_coverage(np.asarray(first.mask.any(axis=0))),
        located=first.geometry is not None,
    )
    return replace(report, frames=facts, model=choice.info.name, model_reason=choice.reason)


class _SeriesCount:
    """Images without pixels, to count them and the stacks that they make."""

    def __init__(self) -> None:
        self.images: list[FinishedImage] = []
        self._assembly = Assembly()
        self._numbers = StackNumbers()

    def add(self, number: int, frame: Frame) -> None:
        """Take note of the images that a frame completes."""
        self._assembly.announce(number, frame)
        nothing = np.broadcast_to(np.float32(0), frame.image_shape)
        for image in self._assembly.add(number, frame, nothing):
            self.images.append(
                replace(image, stack=self._numbers.of(image.index, image.geometry, image.pixels.shape, frame))
            )

    def stacks(self, findings: FindingList) -> tuple[str, ...]:
        """Return the names of the stacks."""
        return tuple(stack.name for stack in make_series(self.images, self._numbers, None, findings).stacks)


def _coverage(measured: NDArray[np.bool_]) -> float:
    """Return the part of an axis between the first and the last measured line; what undersampling leaves out at the ends counts."""
    where = np.flatnonzero(measured)
    if not where.size:
        return 0.0
    gap = int(np.diff(where).max(initial=1))
    start, stop = int(where[0]), int(where[-1]) + 1
    start, stop = (0 if start < gap else start), (len(measured) if len(measured) - stop < gap else stop)
    return (stop - start) / len(measured)


def render(report: Report, console: Console) -> None:
    """Print a report for people.

    Parameters
    ----------
    report
        What `examine` found.
    console
        Where to.
    """
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in _lines(report):
        table.add_row(label, value)
    console.print(table)
    for finding in report.findings:
        mark = "[yellow]warning[/]" if finding.severity == Severity.WARNING else "[cyan]note[/]"
        times = f" ({finding.count} times)" if finding.count > 1 else ""
        console.print(f"{mark} {finding.code}: ", end="")
        console.print(f"{finding.message}{times}", markup=False, highlight=False)
    if report.refused is not None:
        console.print("[red]refused[/] ", end="")
        console.print(f"{report.refused.reason}: {report.refused.message}", markup=False, highlight=False)


def _lines(report: Report) -> list[tuple[str, str]]:
    lines = [("file", f"{report.name} ({report.size_bytes / 1e6:.1f} MB)"), ("content", _content(report))]
    if report.header is not None:
        lines += _header_lines(report.header)
    if report.frames is not None:
        lines += _frame_lines(report.frames)
    if report.model:
        lines.append(("model", f"{report.model}: {report.model_reason}"))
    return lines


def _content(report: Report) -> str:
    return f"{report.readouts} readouts" if report.readouts else report.kind or "not readable"


def _header_lines(header: HeaderFacts) -> list[tuple[str, str]]:
    strength = f", {header.field_strength:g} T" if header.field_strength else ""
    accelerated = f"{header.acceleration[0]} x {header.acceleration[1]}"
    return [
        ("scanner", f"{header.vendor or 'unknown'}{strength}"),
        ("trajectory", header.trajectory or "not named"),
        ("encoded", _space(header.encoded_matrix, header.encoded_field_of_view)),
        ("wanted", _space(header.recon_matrix, header.recon_field_of_view)),
        ("oversampling", f"readout {header.readout_oversampling:.3g}, phase encode {header.phase_oversampling:.3g}"),
        (
            "acceleration",
            f"{accelerated} by the header{', calibration ' * bool(header.calibration_mode)}{header.calibration_mode}",
        ),
    ]


def _space(matrix: tuple[int, int, int], view: tuple[float, float, float]) -> str:
    return f"{' x '.join(map(str, matrix))}, {' x '.join(f'{length:g}' for length in view)} mm"


def _frame_lines(frames: FrameFacts) -> list[tuple[str, str]]:
    counts = ", ".join(
        f"{count} {name}"
        for name, count in (
            ("stacks", len(frames.stacks)),
            ("slices", frames.slices),
            ("contrasts", frames.contrasts),
            ("phases", frames.phases),
            ("repetitions", frames.repetitions),
            ("sets", frames.sets),
        )
        if count > 1
    )
    calibration = f"{frames.calibration[0]} x {frames.calibration[1]}{', measured apart' * frames.separate_calibration}"
    return [
        (
            "images",
            f"{frames.images} of {frames.image_shape[0]} x {frames.image_shape[1]}{f' ({counts})' if counts else ''}",
        ),
        ("k-space", f"{frames.coils} coils, {_axes(frames)}"),
        ("sampling", f"{frames.pattern}, acceleration {frames.acceleration:.2f}, calibration {calibration}"),
        ("partial Fourier", _partial_fourier(frames)),
        ("noise", "coils whitened" if frames.whitened else "no noise scan used"),
        ("geometry", "position and orientation known" if frames.located else "none"),
        ("stacks", ", ".join(frames.stacks)),
        ("reference", frames.reference or "none"),
    ]


def _axes(frames: FrameFacts) -> str:
    size = f"{frames.rows} x {frames.columns}"
    return (
        f"{size} (phase encode x partition) at each readout position of a 3-D scan"
        if frames.three_dimensional
        else size
    )


def _partial_fourier(frames: FrameFacts) -> str:
    if frames.three_dimensional:
        return f"{frames.row_coverage:.0%} of the phase encode, {frames.partial_fourier:.0%} of the partitions"
    echo = f", {frames.row_coverage:.0%} of the readout" if frames.row_coverage < 1 else ""
    return f"{frames.partial_fourier:.0%} of the phase encode{echo}"
