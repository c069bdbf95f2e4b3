"""Partial Fourier and coil compression, on the Shepp-Logan phantom from the closed form of its Fourier transform."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from raw_builders import (
    Encoding,
    acquisition_block,
    cartesian,
    codes,
    header_xml,
    noise_readouts,
    rss_of,
)

from recond_models.simulate import phantom, receive
from recond_service.conditioning import AcquisitionConditioner
from recond_service.conditioning.compression import compressions
from recond_service.conditioning.partial_fourier import complete
from recond_service.ingest import read_header
from recond_service.types import (
    ConditioningOptions,
    FindingList,
    Frame,
    FrameIndex,
    Limits,
    ScanRequest,
    Undersampling,
    UndersamplingKind,
)

ROWS, COLUMNS = 96, 80
WEIGHTS = phantom.plane_wave_weights(receive.sensitivities(4, 64, 64))
FULL = phantom.multicoil_kspace(WEIGHTS, ROWS, COLUMNS, 1).astype(np.complex64)
POCS = ConditioningOptions(partial_fourier="pocs")


def frame_of(kspace: np.ndarray, mask: np.ndarray) -> Frame:
    return Frame(
        index=FrameIndex(),
        kspace=np.where(mask, kspace, 0).astype(np.complex64),
        mask=mask,
        calibration_extent=(0, 0),
        scale=1.0,
        image_shape=mask.shape,
    )


def box(rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    mask = np.zeros((ROWS, COLUMNS), np.bool_)
    mask[slice(*rows), slice(*columns)] = True
    return mask


def error(kspace: np.ndarray) -> float:
    wanted = rss_of(FULL)
    return float(np.linalg.norm(rss_of(kspace) - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize(
    ("mask", "gain"),
    [
        (box((0, ROWS), (30, COLUMNS)), 1.5),
        (box((0, ROWS), (0, 50)), 1.5),
        (box((36, ROWS), (0, COLUMNS)), 1.5),
        (box((0, ROWS), (20, COLUMNS)), 1.8),
        (box((24, ROWS), (20, COLUMNS)), 1.2),
    ],
    ids=["5/8 last", "5/8 first", "echo", "6/8", "both"],
)
def test_pocs_comes_nearer_to_the_full_image(mask: np.ndarray, gain: float) -> None:
    findings = FindingList()
    frame = frame_of(FULL, mask)
    before = error(frame.kspace)
    complete(frame, findings)
    assert error(frame.kspace) < before / gain
    np.testing.assert_array_equal(frame.kspace[:, mask], FULL[:, mask])
    assert "partial-fourier-completed" in findings
    assert not frame.kspace[:, ~frame.mask].any()


def test_only_samples_with_a_measured_mirror_image_are_completed() -> None:
    """An elliptical shutter leaves corners out on both sides: they stay empty."""
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    ellipse = ((rows - ROWS // 2) / (ROWS / 2)) ** 2 + ((columns - COLUMNS // 2) / (COLUMNS / 2)) ** 2 <= 1
    measured = ellipse & (columns >= 24)
    frame = frame_of(FULL, measured)
    complete(frame, FindingList())
    mirrored = measured[(-np.arange(ROWS)) % ROWS][:, (-np.arange(COLUMNS)) % COLUMNS]
    np.testing.assert_array_equal(frame.mask, measured | mirrored)
    assert frame.mask[ROWS // 2, 1:].all()
    assert not frame.mask[2, 2]


@pytest.mark.parametrize("size", [(96, 80), (95, 79)])
def test_an_image_without_phase_is_completed_exactly(size: tuple[int, int]) -> None:
    """Of a real positive image each half of k-space is the conjugate of the other: nothing but the edge is left open."""
    rows, columns = size
    sigma = 0.1
    kx, ky = ((np.arange(n) - n // 2) / 2 for n in size)
    kspace = np.exp(-2 * (np.pi * sigma) ** 2 * (kx[:, None] ** 2 + ky[None, :] ** 2))[None].astype(np.complex64)
    mask = np.zeros(size, np.bool_)
    mask[:, columns // 2 - 6 :] = True
    frame = frame_of(kspace, mask)
    complete(frame, FindingList())
    np.testing.assert_allclose(frame.kspace, kspace, atol=3e-3)
    assert rows == frame.mask.shape[0]
    assert frame.mask[:, 1:].all()


@pytest.mark.parametrize(
    "mask",
    [np.ones((ROWS, COLUMNS), np.bool_), box((0, ROWS), (2, COLUMNS)), box((1, ROWS - 1), (0, COLUMNS))],
    ids=["full", "two columns", "both ends"],
)
def test_frames_without_partial_fourier_are_left_alone(mask: np.ndarray) -> None:
    findings = FindingList()
    frame = frame_of(FULL, mask)
    complete(frame, findings)
    assert len(findings) == 0
    np.testing.assert_array_equal(frame.mask, mask)
    np.testing.assert_array_equal(frame.kspace, np.where(mask, FULL, 0))


def test_undersampled_partial_fourier_is_left_alone_and_said() -> None:
    mask = box((0, ROWS), (30, COLUMNS))
    mask[:, 31:35] = False
    findings = FindingList()
    frame = frame_of(FULL, mask)
    complete(frame, findings)
    assert codes(findings) == {"pocs-not-applicable"}
    np.testing.assert_array_equal(frame.kspace, np.where(mask, FULL, 0))


def test_half_of_k_space_alone_is_left_alone_and_said() -> None:
    findings = FindingList()
    frame = frame_of(FULL, box((0, ROWS), (COLUMNS // 2 - 2, COLUMNS)))
    complete(frame, findings)
    assert codes(findings) == {"pocs-not-applicable"}
    assert not frame.kspace[:, :, : COLUMNS // 2 - 2].any()


ENCODING = Encoding((ROWS, COLUMNS), (200.0, 200.0), (ROWS, COLUMNS), (200.0, 200.0), limits=(0, 59, 20))


def run(
    kspace: np.ndarray, options: ConditioningOptions, encoding: Encoding = ENCODING, **request: object
) -> tuple[list[Frame], FindingList]:
    findings = FindingList()
    header = read_header(header_xml(encoding).encode(), Limits(), findings)
    conditioner = AcquisitionConditioner(header, ScanRequest(conditioning=options, **request), findings)
    blocks = acquisition_block(noise_readouts(len(kspace)) + cartesian(kspace, encoding))
    return [*conditioner.push(blocks), *conditioner.finish()], findings


def test_the_request_decides() -> None:
    (zeros,), findings = run(FULL, ConditioningOptions())
    assert not zeros.mask[:, :20].any()
    assert "partial-fourier-completed" not in findings
    assert "is zero" in next(f.message for f in findings if f.code == "partial-fourier")
    (completed,), findings = run(FULL, POCS)
    assert completed.mask[:, 1:].all()
    assert completed.calibration_extent == zeros.calibration_extent
    assert "partial-fourier-completed" in findings
    assert "completed" in next(f.message for f in findings if f.code == "partial-fourier")


def test_compression_keeps_what_is_asked_for() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((12, 4)) + 1j * rng.standard_normal((12, 4))
    many = np.tensordot(mixing, FULL, axes=1).astype(np.complex64)
    whole = Encoding((ROWS, COLUMNS), (200.0, 200.0), (ROWS, COLUMNS), (200.0, 200.0))
    (plain,), _ = run(many, ConditioningOptions(), whole)
    (four,), findings = run(many, ConditioningOptions(virtual_coils=4), whole)
    assert four.kspace.shape == (4, ROWS, COLUMNS)
    assert four.kspace.flags.c_contiguous
    # Twelve coils that are mixtures of four lose nothing, and white noise stays white: the image is the same.
    np.testing.assert_allclose(rss_of(four.kspace), rss_of(plain.kspace), atol=1e-3)
    assert "100.00%" in next(f.message for f in findings if f.code == "coils-compressed")
    (two,), findings = run(many, ConditioningOptions(virtual_coils=2), whole)
    message = next(f.message for f in findings if f.code == "coils-compressed")
    kept = np.sum(np.abs(two.kspace) ** 2) / np.sum(np.abs(plain.kspace) ** 2)
    assert f"{kept:.2%}" in message
    assert "12 coils" in message
    (energy,), _ = run(many, ConditioningOptions(coil_energy=float(kept) - 1e-3), whole)
    assert energy.kspace.shape[0] == 2
    (more,), _ = run(many, ConditioningOptions(coil_energy=float(kept) + 1e-3), whole)
    assert more.kspace.shape[0] == 3
    (fewer,), _ = run(many, ConditioningOptions(virtual_coils=2, coil_energy=0.99999), whole)
    assert fewer.kspace.shape[0] == 2


@pytest.mark.parametrize("options", [ConditioningOptions(virtual_coils=4), ConditioningOptions(coil_energy=1.0)])
def test_no_fewer_coils_are_no_compression(options: ConditioningOptions) -> None:
    (frame,), findings = run(FULL, options)
    (plain,), _ = run(FULL, ConditioningOptions())
    np.testing.assert_array_equal(frame.kspace, plain.kspace)
    assert "coils-compressed" not in findings


def test_calibration_is_compressed_with_its_frame_and_decides() -> None:
    undersampling = Undersampling(UndersamplingKind.EQUISPACED, 2, 0.2)
    whole = Encoding((ROWS, COLUMNS), (200.0, 200.0), (ROWS, COLUMNS), (200.0, 200.0))
    (frame,), _ = run(FULL, ConditioningOptions(virtual_coils=2), whole, undersampling=undersampling)
    (plain,), _ = run(FULL, ConditioningOptions(), whole, undersampling=undersampling)
    assert frame.kspace.shape == (2, ROWS, COLUMNS)
    np.testing.assert_array_equal(frame.mask, plain.mask)
    np.testing.assert_array_equal(frame.reference, plain.reference)
    _rows, columns = plain.calibration_extent
    left = COLUMNS // 2 - columns // 2
    block = plain.kspace[:, :, left : left + columns].reshape(4, -1)
    _, vectors = np.linalg.eigh(block @ block.conj().T)
    wanted = np.linalg.norm(vectors[:, :1:-1].conj().T @ plain.kspace.reshape(4, -1))
    assert np.linalg.norm(frame.kspace) == pytest.approx(wanted, rel=1e-4)


def test_a_frame_of_zeros_can_be_compressed() -> None:
    (frame,), findings = run(FULL * 0, ConditioningOptions(virtual_coils=2, coil_energy=0.9))
    assert frame.kspace.shape[0] == 2
    assert not frame.kspace.any()
    assert "slice-empty" in findings


def test_geometric_matrices_keep_the_energy_of_each_position_and_follow_each_other() -> None:
    rng = np.random.default_rng(2)
    start, slope = (rng.standard_normal((6, 3)) + 1j * rng.standard_normal((6, 3)) for _ in range(2))
    covariances = []
    for position in np.linspace(0, 0.5, 12):
        samples = (start + position * slope) @ (rng.standard_normal((3, 200)) + 1j * rng.standard_normal((3, 200)))
        covariances.append(samples @ samples.conj().T)
    matrices = compressions(covariances, ConditioningOptions(virtual_coils=2), FindingList())
    for matrix, covariance in zip(matrices, covariances, strict=True):
        np.testing.assert_allclose(matrix @ matrix.conj().T, np.eye(2), atol=1e-5)
        best = np.linalg.eigvalsh(covariance)[-2:].sum()
        assert np.trace(matrix @ covariance @ matrix.conj().T).real == pytest.approx(best, rel=1e-4)
    steps = [np.linalg.norm(b - a) for a, b in itertools.pairwise(matrices)]
    free = [
        np.linalg.norm(np.linalg.eigh(b)[1][:, -2:] - np.linalg.eigh(a)[1][:, -2:])
        for a, b in itertools.pairwise(covariances)
    ]
    assert max(steps) < 0.7
    assert np.mean(steps) < 0.7 * np.mean(free)
