"""Scans as people meet them: an object of bars and discs on a pixel grid, its k-space by NumPy, headers that may say anything.

The object is sampled on the pixels, so that a correct reader gets it back to rounding, whatever of the header is wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from raw_builders import LAST_IN_SLICE, Readout, acquisition_block, centred_ifft, file_request, write_mrd

from recond_service.conditioning import AcquisitionConditioner, condition
from recond_service.conditioning.reference_image import reference_image
from recond_service.ingest import read_header, read_scan
from recond_service.results import ResultSummary, ResultWriter
from recond_service.types import (
    ConditioningOptions,
    FindingList,
    FinishedImage,
    Frame,
    Geometry,
    Limits,
    OutputFormat,
    ScanRequest,
)

ROWS, COLUMNS, COILS = 40, 36, 3
PLANES = {
    "axial": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "sagittal": ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
    "coronal": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
}


def picture(
    rows: int = ROWS,
    columns: int = COLUMNS,
    view: tuple[float, float] = (1.0, 1.0),
    gain: float = 1.0,
    tilt: float = 0.0,
) -> np.ndarray:
    """A disc with a hole, a bar and a spot, in no way symmetric; `view` is the field of view in units of the usual one."""
    x = ((np.arange(rows) - rows // 2) / rows * view[0])[:, None]
    y = ((np.arange(columns) - columns // 2) / columns * view[1])[None, :] - 0.1 * tilt
    image = 1.0 * (((x - 0.03) / 0.36) ** 2 + ((y + 0.02) / 0.31) ** 2 <= 1)
    image -= 0.7 * (((x + 0.11) / 0.09) ** 2 + ((y - 0.1) / 0.12) ** 2 <= 1)
    image += 0.8 * ((np.abs(x - 0.16) <= 0.05) & (np.abs(y + 0.08) <= 0.14))
    image += 1.3 * ((x - 0.2) ** 2 + (y - 0.14) ** 2 <= 0.03**2)
    return gain * image


def coil_maps(rows: int, columns: int, coils: int = COILS, view: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Smooth complex sensitivities (coils, rows, columns) whose root sum of squares is 1."""
    x = ((np.arange(rows) - rows // 2) / rows * view[0])[:, None]
    y = ((np.arange(columns) - columns // 2) / columns * view[1])[None, :]
    maps = np.array(
        [
            (1.2 + np.cos(2.1 * x + c) * np.cos(1.7 * y - 2 * c)) * np.exp(1j * (0.9 * c + 0.8 * x * (c - 1) + 0.6 * y))
            for c in range(coils)
        ]
    )
    return maps / np.sqrt((np.abs(maps) ** 2).sum(0))


def transform(image: np.ndarray, axes: tuple[int, ...] = (-2, -1)) -> np.ndarray:
    shifted = np.fft.ifftshift(image, axes=axes)
    return np.fft.fftshift(np.fft.fftn(shifted, axes=axes, norm="ortho"), axes=axes).astype(np.complex64)


def kspace_of(image: np.ndarray, coils: int = COILS, view: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """k-space (coils, rows, columns) of an image."""
    return transform(image * coil_maps(*image.shape, coils, view))


def volume_kspace(volume: np.ndarray, coils: int = COILS) -> np.ndarray:
    """k-space (coils, rows, columns, partitions) of a volume (rows, columns, partitions)."""
    return transform(volume * coil_maps(*volume.shape[:2], coils)[..., None], axes=(1, 2, 3))


def limit(name: str, low: int, high: int, centre: int | str | None = None) -> str:
    middle = "" if centre is None else f"<center>{centre}</center>"
    return f"<{name}><minimum>{low}</minimum><maximum>{high}</maximum>{middle}</{name}>"


def step_limit(high: int, centre: int | str | None, axis: int = 1, low: int = 0) -> str:
    return limit(f"kspace_encoding_step_{axis}", low, high, centre)


USUAL = step_limit(COLUMNS - 1, COLUMNS // 2)


def xml(
    encoded: Sequence[int] = (ROWS, COLUMNS, 1),
    recon: Sequence[int] | None = None,
    view: Sequence[float] = (200.0, 180.0, 5.0),
    recon_view: Sequence[float] | None = None,
    limits: str = USUAL,
    channels: int | None = COILS,
    inside: str = "",
    after: str = "",
) -> str:
    def space(name: str, matrix: Sequence[int], size: Sequence[float]) -> str:
        matrices, views = (
            "".join(f"<{axis}>{value}</{axis}>" for axis, value in zip("xyz", values, strict=True))
            for values in (matrix, size)
        )
        return f"<{name}><matrixSize>{matrices}</matrixSize><fieldOfView_mm>{views}</fieldOfView_mm></{name}>"

    received = "" if channels is None else f"<receiverChannels>{channels}</receiverChannels>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><version>1</version>'
        f"<acquisitionSystemInformation>{inside}{received}</acquisitionSystemInformation>"
        "<experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>"
        f"<encoding>{space('encodedSpace', encoded, view)}{space('reconSpace', recon or encoded, recon_view or view)}"
        f"<encodingLimits>{limits}</encodingLimits><trajectory>cartesian</trajectory></encoding>{after}</ismrmrdHeader>"
    )


def times(**values: Sequence[float | str]) -> str:
    entries = "".join(f"<{name}>{value}</{name}>" for name, many in values.items() for value in many)
    return f"<sequenceParameters>{entries}</sequenceParameters>"


def lines(kspace: np.ndarray, columns: Sequence[int] | None = None, first: int = 0, **fields: object) -> list[Readout]:
    """Readouts of the columns of k-space (coils, rows, columns), numbered from `first`; the last one ends the slice."""
    counters = dict(fields.pop("counters", {}))
    chosen = range(kspace.shape[2]) if columns is None else columns
    readouts = [Readout(kspace[:, :, c], first + c, counters=counters, **fields) for c in chosen]
    readouts[-1] = replace(readouts[-1], flags=readouts[-1].flags | LAST_IN_SLICE)
    return readouts


def volume_lines(kspace: np.ndarray, **fields: object) -> list[Readout]:
    """Readouts of k-space (coils, rows, columns, partitions)."""
    counters = dict(fields.pop("counters", {}))
    return [
        Readout(kspace[:, :, c, p], c, counters={**counters, "kspace_encode_step_2": p}, **fields)
        for p in range(kspace.shape[3])
        for c in range(kspace.shape[2])
    ]


def rss(kspace: np.ndarray) -> np.ndarray:
    return np.sqrt((np.abs(centred_ifft(kspace)) ** 2).sum(0))


def error(found: np.ndarray, truth: np.ndarray) -> float:
    """Relative norm of the difference; infinite where shapes differ."""
    if found.shape != truth.shape:
        return float("inf")
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


def crop(image: np.ndarray, length: int, axis: int) -> np.ndarray:
    start = image.shape[axis] // 2 - length // 2
    return np.take(image, range(start, start + length), axis)


@dataclass
class Outcome:
    """What came of a scan: images in the order of the output, findings, and the room that writes files."""

    images: np.ndarray
    geometry: list[Geometry | None]
    finished: list[FinishedImage]
    findings: FindingList
    summary: ResultSummary
    results: ResultWriter

    @property
    def warnings(self) -> set[str]:
        return {finding.code for finding in self.findings if finding.severity.name == "WARNING"}

    @property
    def stacks(self) -> list[str]:
        return [stack.name for stack in self.summary.stacks]


def outcome_of(frames: Iterator[Frame], request: ScanRequest, findings: FindingList) -> Outcome:
    """Reconstruct frames by the root of the sum of squares of their coils, and put them in order as the service does."""
    results = ResultWriter(request, findings)
    finished: dict[int, FinishedImage] = {}
    count = 0
    for count, frame in enumerate(frames, start=1):
        results.announce(count - 1, frame)
        for image in results.add(count - 1, frame, reference_image(frame)):
            finished[image.number] = image
    summary = results.finish([None] * count, "rss", "1")
    ordered = [finished[number] for number in summary.order]
    sizes = {image.pixels.shape for image in ordered}
    images = np.stack([image.pixels for image in ordered]) if len(sizes) == 1 else np.empty(0)
    return Outcome(images, [image.geometry for image in ordered], ordered, findings, summary, results)


def request_of(path: Path | None = None, *, pocs: bool = False, outputs: tuple[OutputFormat, ...] = ()) -> ScanRequest:
    options = ConditioningOptions("pocs" if pocs else "zero-fill")
    if path is None:
        return ScanRequest(conditioning=options, outputs=outputs)
    return replace(file_request(path), conditioning=options, outputs=outputs)


def read_file(path: Path, *, pocs: bool = False) -> Outcome:
    """Reconstruct a file."""
    request, findings = request_of(path, pocs=pocs), FindingList()
    return outcome_of(condition(read_scan(request, findings), request, findings), request, findings)


def read_stream(header: str, readouts: Sequence[Readout], *, pocs: bool = False) -> Outcome:
    """Reconstruct readouts that come one by one."""
    request, findings = request_of(pocs=pocs), FindingList()
    conditioner = AcquisitionConditioner(read_header(header.encode(), Limits(), findings), request, findings)

    def frames() -> Iterator[Frame]:
        for readout in readouts:
            yield from conditioner.push(acquisition_block([readout]))
        yield from conditioner.finish()

    return outcome_of(frames(), request, findings)


RIGHT = 1e-3
FULL = kspace_of(picture())


def joined(parts: Iterable[Iterable[Readout]]) -> list[Readout]:
    return list(itertools.chain.from_iterable(parts))


def flag(number: int) -> int:
    return 1 << (number - 1)


def from_file(folder: Path, header: str | bytes, readouts: Sequence[Readout], *, pocs: bool = False) -> Outcome:
    return read_file(write_mrd(folder / "scan.h5", header, readouts), pocs=pocs)
