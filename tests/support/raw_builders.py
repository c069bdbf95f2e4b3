"""Small raw-data files whose image is known in closed form, and small files that lie.

The phantom is a sum of Gaussians: well inside the field of view and smooth at the scale of a pixel, its discrete Fourier transform
equals its continuous one to rounding, for any field of view, matrix and centre.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import numpy as np

from recond_service.results import ResultWriter
from recond_service.types import (
    ACQUISITION_HEADER,
    AcquisitionBlock,
    FindingList,
    FinishedImage,
    Frame,
    Part,
    PartFormat,
    PartRole,
    ScanRequest,
)

FIRST_IN_SLICE, LAST_IN_SLICE, NOISE, CALIBRATION, BOTH, REVERSE = (1 << (flag - 1) for flag in (7, 8, 19, 20, 21, 22))
LAST_IN_REPETITION, LAST_IN_MEASUREMENT = 1 << 13, 1 << 24

RECORD = np.dtype(
    [
        ("head", ACQUISITION_HEADER),
        ("traj", h5py.vlen_dtype(np.dtype("<f4"))),
        ("data", h5py.vlen_dtype(np.dtype("<f4"))),
    ]
)


@dataclass(frozen=True)
class Phantom:
    """Gaussians at (x, y) mm of standard deviation sigma mm; `weights` complex (coils, blobs)."""

    places: tuple[tuple[float, float], ...] = ((-20.0, 12.0), (18.0, -25.0), (8.0, 30.0))
    sigma: float = 12.0
    weights: np.ndarray = field(
        default_factory=lambda: np.array([[1.0, 0.6j, 0.8], [0.7j, 1.1, -0.5], [-0.4, 0.9, 1.2j]], np.complex128)
    )

    @property
    def coils(self) -> int:
        return len(self.weights)

    def kspace(self, kx: np.ndarray, ky: np.ndarray) -> np.ndarray:
        """Continuous Fourier transform at kx (samples,), ky (lines,) in 1/mm: (coils, samples, lines)."""
        out = np.zeros((self.coils, len(kx), len(ky)), np.complex128)
        for blob, (x, y) in enumerate(self.places):
            along_x = np.exp(-2 * (math.pi * self.sigma * kx) ** 2 - 2j * math.pi * kx * x)
            along_y = np.exp(-2 * (math.pi * self.sigma * ky) ** 2 - 2j * math.pi * ky * y)
            out += 2 * math.pi * self.sigma**2 * self.weights[:, blob, None, None] * np.outer(along_x, along_y)
        return out

    def coil_images(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        out = np.zeros((self.coils, len(x), len(y)), np.complex128)
        for blob, (cx, cy) in enumerate(self.places):
            g = np.outer(np.exp(-((x - cx) ** 2) / (2 * self.sigma**2)), np.exp(-((y - cy) ** 2) / (2 * self.sigma**2)))
            out += self.weights[:, blob, None, None] * g
        return out

    def rss(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.sqrt((np.abs(self.coil_images(x, y)) ** 2).sum(0))


def pixel_positions(pixels: int, size: float) -> np.ndarray:
    """Positions in mm of pixels whose centre pixel ``pixels // 2`` lies at 0."""
    return (np.arange(pixels) - pixels // 2) * size


@dataclass(frozen=True)
class Encoding:
    """A 2-D encoding; matrices and fields of view are (x, y)."""

    matrix: tuple[int, int] = (64, 48)
    view: tuple[float, float] = (400.0, 200.0)
    recon_matrix: tuple[int, int] = (32, 48)
    recon_view: tuple[float, float] = (200.0, 200.0)
    limits: tuple[int, int, int] | None = None
    z: int = 1
    trajectory: str = "cartesian"
    averages: int | None = None
    extra: str = ""

    @property
    def bounds(self) -> tuple[int, int, int]:
        return self.limits or (0, self.matrix[1] - 1, self.matrix[1] // 2)

    def kspace(self, phantom: Phantom) -> np.ndarray:
        """Orthonormal k-space of the whole encoded grid, complex64 (coils, x, y)."""
        (nx, ny), (fx, fy) = self.matrix, self.view
        kx, ky = (np.arange(nx) - nx // 2) / fx, (np.arange(ny) - ny // 2) / fy
        unit = (fx / nx) * (fy / ny) * math.sqrt(nx * ny)
        return (phantom.kspace(kx, ky) / unit).astype(np.complex64)

    def xml(self) -> str:
        low, high, center = self.bounds
        average = (
            f"<average><minimum>0</minimum><maximum>{self.averages - 1}</maximum><center>0</center></average>"
            if self.averages
            else ""
        )
        return (
            f"<encoding><encodedSpace>{_space((*self.matrix, self.z), (*self.view, 5.0))}</encodedSpace>"
            f"<reconSpace>{_space((*self.recon_matrix, 1), (*self.recon_view, 5.0))}</reconSpace>"
            f"<encodingLimits><kspace_encoding_step_1><minimum>{low}</minimum><maximum>{high}</maximum><center>{center}</center>"
            f"</kspace_encoding_step_1>{average}</encodingLimits><trajectory>{self.trajectory}</trajectory>{self.extra}</encoding>"
        )


def _space(matrix: Sequence[int], view: Sequence[float]) -> str:
    x, y, z = matrix
    a, b, c = view
    return f"<matrixSize><x>{x}</x><y>{y}</y><z>{z}</z></matrixSize><fieldOfView_mm><x>{a}</x><y>{b}</y><z>{c}</z></fieldOfView_mm>"


def header_xml(*encodings: Encoding, system: str = "", before: str = "", after: str = "") -> str:
    """An ISMRMRD header."""
    inside = "".join(encoding.xml() for encoding in encodings)
    return (
        '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
        f"{before}<acquisitionSystemInformation>{system}</acquisitionSystemInformation>"
        "<experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>"
        f"{inside}{after}</ismrmrdHeader>"
    )


@dataclass(frozen=True)
class Readout:
    """One readout; `data` complex (coils, samples)."""

    data: np.ndarray
    step: int = 0
    flags: int = 0
    center: int | None = None
    discard: tuple[int, int] = (0, 0)
    dwell: float = 5.0
    encoding: int = 0
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    directions: tuple[Sequence[float], Sequence[float], Sequence[float]] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    counters: dict[str, int] = field(default_factory=dict)
    trajectory_dimensions: int = 0

    def header(self) -> np.ndarray:
        head = np.zeros((), ACQUISITION_HEADER)
        coils, samples = self.data.shape
        head["version"] = 1
        head["flags"] = self.flags
        head["number_of_samples"] = samples
        head["available_channels"] = head["active_channels"] = coils
        head["discard_pre"], head["discard_post"] = self.discard
        head["center_sample"] = samples // 2 if self.center is None else self.center
        head["encoding_space_ref"] = self.encoding
        head["sample_time_us"] = self.dwell
        head["position"] = self.position
        head["read_dir"], head["phase_dir"], head["slice_dir"] = self.directions
        head["trajectory_dimensions"] = self.trajectory_dimensions
        head["idx"]["kspace_encode_step_1"] = self.step
        for name, value in self.counters.items():
            head["idx"][name] = value
        return head


def cartesian(
    kspace: np.ndarray, encoding: Encoding, columns: Sequence[int] | None = None, **changes: object
) -> list[Readout]:
    """Readouts of the columns of a grid (coils, x, y) in order; the last one carries LAST_IN_SLICE."""
    low, high, center = encoding.bounds
    columns = range(kspace.shape[2]) if columns is None else columns
    steps = [(column, column - encoding.matrix[1] // 2 + center) for column in columns]
    readouts = [Readout(kspace[:, :, column], step) for column, step in steps if low <= step <= high]
    readouts = [replace(readout, **changes) for readout in readouts]
    readouts[-1] = replace(readouts[-1], flags=readouts[-1].flags | LAST_IN_SLICE)
    return readouts


def noise_readouts(
    coils: int,
    count: int = 8,
    samples: int = 256,
    *,
    mixing: np.ndarray | None = None,
    seed: int = 1,
    **changes: object,
) -> list[Readout]:
    rng = np.random.default_rng(seed)
    mixing = np.eye(coils) if mixing is None else mixing
    values = rng.standard_normal((count, coils, samples)) + 1j * rng.standard_normal((count, coils, samples))
    readouts = [Readout((mixing @ block).astype(np.complex64), flags=NOISE, center=0) for block in values]
    return [replace(readout, **changes) for readout in readouts]


def write_mrd(path: Path, xml: str | bytes, readouts: Sequence[Readout], group: str = "dataset") -> Path:
    """Add a measurement to an ISMRMRD file."""
    table = np.zeros(len(readouts), RECORD)
    for number, readout in enumerate(readouts):
        table["head"][number] = readout.header()
        table["data"][number] = np.ascontiguousarray(readout.data, np.complex64).reshape(-1).view(np.float32)
        table["traj"][number] = np.zeros(readout.data.shape[1] * readout.trajectory_dimensions, np.float32)
    with h5py.File(path, "a") as file:
        made = file.create_group(group)
        text = made.create_dataset("xml", (1,), h5py.string_dtype())
        text[0] = xml
        made.create_dataset("data", data=table, chunks=(1,), maxshape=(None,))
    return path


def block_of(readouts: Sequence[Readout]) -> tuple[int, bytes, bytes, bytes]:
    """One wire batch: count, headers, trajectories, samples."""
    return (
        len(readouts),
        b"".join(readout.header().tobytes() for readout in readouts),
        b"".join(bytes(4 * readout.data.shape[1] * readout.trajectory_dimensions) for readout in readouts),
        b"".join(np.ascontiguousarray(readout.data, np.complex64).tobytes() for readout in readouts),
    )


def acquisition_block(readouts: Sequence[Readout]) -> AcquisitionBlock:
    lengths = [readout.data.size for readout in readouts]
    return AcquisitionBlock(
        np.array([readout.header() for readout in readouts]),
        np.concatenate([np.asarray(readout.data, np.complex64).reshape(-1) for readout in readouts]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


def file_request(path: Path, *others: Part, kind: PartFormat = PartFormat.UNSPECIFIED, **fields: object) -> ScanRequest:
    """A request for one file of k-space, and other parts."""
    return ScanRequest(parts=(file_part(path, PartRole.KSPACE, kind), *others), **fields)


def file_part(
    path: Path, role: PartRole, kind: PartFormat = PartFormat.UNSPECIFIED, shape: tuple[int, ...] = ()
) -> Part:
    return Part(role, kind, path.name, path.stat().st_size, shape, str(path))


def codes(findings: FindingList) -> set[str]:
    return {finding.code for finding in findings}


def centred_ifft(kspace: np.ndarray, axes: tuple[int, ...] = (-2, -1)) -> np.ndarray:
    """NumPy's own centred orthonormal inverse DFT, in double precision."""
    shifted = np.fft.ifftshift(kspace.astype(np.complex128), axes=axes)
    return np.fft.fftshift(np.fft.ifftn(shifted, axes=axes, norm="ortho"), axes=axes)


def rss_of(kspace: np.ndarray) -> np.ndarray:
    return np.sqrt((np.abs(centred_ifft(kspace)) ** 2).sum(0))


def added(results: ResultWriter, number: int, frame: Frame, image: np.ndarray) -> list[FinishedImage]:
    """Announce a frame and add its image at once."""
    results.announce(number, frame)
    return results.add(number, frame, image)
