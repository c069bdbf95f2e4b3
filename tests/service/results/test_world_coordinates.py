"""Where things in the scanner end up in the files: a blob at a known place, seen through acquisition, DFT, crop and affine.

Nothing here uses the formulas of the service: the blob's place in patient coordinates is chosen, its k-space follows from the
distances along the encoding directions, and the finished file must show its centre of mass at the same place.
"""

from __future__ import annotations

import gzip
import io
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from raw_builders import Encoding, Phantom, Readout, acquisition_block, added, cartesian, header_xml

from recond_service.conditioning import AcquisitionConditioner
from recond_service.conditioning.reference_image import reference_image
from recond_service.ingest import read_header
from recond_service.results import ResultWriter
from recond_service.types import FindingList, Limits, OutputFormat, ScanRequest

CENTRE = np.array([12.0, -30.0, 45.0])  # of the scanned volume, LPS mm
SIGMA = 12.0


def directions(seed: int, *, left_handed: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    axes, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    axes *= np.linalg.det(axes)
    return axes[:, 0], axes[:, 1], -axes[:, 2] if left_handed else axes[:, 2]


def nifti_of(xml: str, readouts: list[Readout]) -> nibabel.Nifti1Image:
    findings = FindingList()
    header = read_header(xml.encode(), Limits(), findings)
    conditioner = AcquisitionConditioner(header, ScanRequest(), findings)
    results = ResultWriter(ScanRequest(), findings)
    frames = [*conditioner.push(acquisition_block(readouts)), *conditioner.finish()]
    for number, frame in enumerate(frames):
        added(results, number, frame, reference_image(frame))
    results.finish([None] * len(frames), "rss", "1")
    file = io.BytesIO()
    results.write(OutputFormat.NIFTI, file)
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(file.getvalue()))


def centre_of_mass(image: nibabel.Nifti1Image) -> np.ndarray:
    """In LPS mm, as dcm2niix's files are read: affine of the voxel, then the signs of x and y turned."""
    data = np.asarray(image.dataobj, np.float64)
    data = np.where(data > 0.02 * data.max(), data, 0)
    voxel = np.array([(np.indices(data.shape)[axis] * data).sum() for axis in range(3)]) / data.sum()
    return (image.affine @ [*voxel, 1])[:3] * [-1, -1, 1]


def profile(distance: np.ndarray) -> np.ndarray:
    return np.exp(-(distance**2) / (2 * SIGMA**2))


def kz(count: int, view: float, place: float) -> np.ndarray:
    """Orthonormal k-space of the profile about `place` along the partitions."""
    frequencies = (np.arange(count) - count // 2) / view
    wave = np.exp(-2 * (np.pi * SIGMA * frequencies) ** 2 - 2j * np.pi * frequencies * place)
    return np.sqrt(2 * np.pi) * SIGMA * wave * np.sqrt(count) / view


BLOB = np.array([9.0, -14.0, 6.5])  # along read, phase and slice, mm from the centre of the volume


def phantom() -> Phantom:
    return Phantom(places=((BLOB[0], BLOB[1]),), sigma=SIGMA, weights=np.ones((1, 1), complex))


@pytest.mark.parametrize("matrix", [((96, 72), (48, 48)), ((98, 71), (49, 47))])
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("left_handed", [False, True])
def test_oblique_slices(matrix: tuple[tuple[int, int], tuple[int, int]], seed: int, *, left_handed: bool) -> None:
    """Interleaved, off centre, with oversampling along readout and phase encode, even and odd sizes."""
    encoded, wanted = matrix
    pixel = 200 / wanted[0], 180 / wanted[1]
    encoding = Encoding(encoded, (400.0, pixel[1] * encoded[1]), wanted, (200.0, 180.0))
    read, phase, normal = directions(seed, left_handed=left_handed)
    kspace = encoding.kspace(phantom())
    heights = 4.0 * (np.arange(21) - 10)
    readouts = []
    for number, place in enumerate([*range(0, 21, 2), *range(1, 21, 2)]):
        position = tuple(CENTRE + heights[place] * normal)
        readouts += cartesian(
            kspace * profile(heights[place] - BLOB[2]),
            encoding,
            position=position,
            directions=(read, phase, normal),
            counters={"slice": number},
        )
    image = nifti_of(header_xml(encoding), readouts)
    assert image.shape == (*wanted, 21)
    np.testing.assert_allclose(np.linalg.norm(image.affine[:3, :3], axis=0), [*pixel, 4.0], atol=1e-3)
    lps = CENTRE + np.column_stack([read, phase, normal]) @ BLOB
    np.testing.assert_allclose(centre_of_mass(image), lps, atol=0.05)


@pytest.mark.parametrize("sizes", [((96, 40, 24), (48, 40, 18)), ((98, 41, 25), (49, 41, 19))])
@pytest.mark.parametrize("left_handed", [False, True])
def test_oblique_volumes(sizes: tuple[tuple[int, int, int], tuple[int, int, int]], *, left_handed: bool) -> None:
    """A 3-D scan with oversampled readout and partitions."""
    encoded, wanted = sizes
    views = (200.0, 160.0, 5.0 * wanted[2])
    pixel = [view / pixels for view, pixels in zip(views, wanted, strict=True)]
    encoding = Encoding(encoded[:2], (400.0, 160.0), wanted[:2], (200.0, 160.0))
    depth = pixel[2] * encoded[2]
    low, high, centre = 0, encoded[2] - 1, encoded[2] // 2
    xml = header_xml(encoding)
    xml = xml.replace("<z>1</z></matrixSize>", f"<z>{encoded[2]}</z></matrixSize>", 1)
    xml = xml.replace("<z>1</z></matrixSize>", f"<z>{wanted[2]}</z></matrixSize>", 1)
    xml = xml.replace("<z>5.0</z></fieldOfView_mm>", f"<z>{depth}</z></fieldOfView_mm>", 1)
    xml = xml.replace("<z>5.0</z></fieldOfView_mm>", f"<z>{views[2]}</z></fieldOfView_mm>", 1)
    limits = f"<minimum>{low}</minimum><maximum>{high}</maximum><center>{centre}</center>"
    xml = xml.replace(
        "</kspace_encoding_step_1>",
        f"</kspace_encoding_step_1><kspace_encoding_step_2>{limits}</kspace_encoding_step_2>",
    )
    read, phase, normal = directions(3, left_handed=left_handed)
    plane = encoding.kspace(phantom())
    readouts = []
    for partition, factor in enumerate(kz(encoded[2], depth, BLOB[2])):
        one = cartesian(plane * factor, encoding, position=tuple(CENTRE), directions=(read, phase, normal))
        readouts += [replace(r, flags=0, counters={"kspace_encode_step_2": partition}) for r in one]
    image = nifti_of(xml, readouts)
    assert image.shape == wanted
    np.testing.assert_allclose(np.linalg.norm(image.affine[:3, :3], axis=0), pixel, atol=1e-3)
    lps = CENTRE + np.column_stack([read, phase, normal]) @ BLOB
    np.testing.assert_allclose(centre_of_mass(image), lps, atol=0.05)
    assert np.linalg.det(image.affine[:3, :3]) * (-1 if left_handed else 1) > 0
