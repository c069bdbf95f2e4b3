"""Whitening by noise readouts."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from raw_builders import (
    NOISE,
    Encoding,
    Phantom,
    Readout,
    acquisition_block,
    cartesian,
    file_request,
    header_xml,
    noise_readouts,
    write_mrd,
)

from recond_service.conditioning import AcquisitionConditioner, condition
from recond_service.conditioning.noise import NoiseEstimate
from recond_service.ingest import read_header, read_scan
from recond_service.types import FindingList, Frame, Limits, ScanRequest

ENCODING = Encoding((64, 64), (200.0, 200.0), (64, 64), (200.0, 200.0))
MIXING = np.array([[1.0, 0, 0], [0.5 - 0.2j, 0.8, 0], [0.1j, -0.3, 2.0]])
FULL = ENCODING.kspace(Phantom())


def run(readouts: list[Readout], system: str = "", after: str = "") -> tuple[list[Frame], FindingList]:
    findings = FindingList()
    header = read_header(header_xml(ENCODING, system=system, after=after).encode(), Limits(), findings)
    conditioner = AcquisitionConditioner(header, ScanRequest(), findings)
    return [*conditioner.push(acquisition_block(readouts)), *conditioner.finish()], findings


def noise_scan(scale: float = 1.0, seed: int = 2, dwell: float = 5.0) -> list[Readout]:
    """Noise of another measurement, as a frame of k-space."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((3, 64 * 64)) + 1j * rng.standard_normal((3, 64 * 64))
    return cartesian((scale * MIXING @ values).reshape(3, 64, 64).astype(np.complex64), ENCODING, dwell=dwell)


@pytest.mark.parametrize("scale", [1e-20, 1e-6, 1.0, 1e12])
@pytest.mark.parametrize(("dwell", "bandwidth"), [(5.0, None), (10.0, None), (5.0, 1.0)])
def test_whitened_noise_has_unit_variance_times_the_bandwidth(
    scale: float, dwell: float, bandwidth: float | None
) -> None:
    noise = noise_readouts(3, 40, mixing=scale * MIXING)
    system = f"<relativeReceiverNoiseBandwidth>{bandwidth}</relativeReceiverNoiseBandwidth>" if bandwidth else ""
    (frame,), findings = run(noise + noise_scan(scale, dwell=dwell), system)
    values = (frame.kspace / frame.scale).reshape(3, -1).astype(np.complex128)
    covariance = values @ values.conj().T / values.shape[1]
    # Both have complex variance 2 before whitening, which divides by that of the noise scan: s^2 remains.
    wanted = 2 * dwell / 5.0 * (bandwidth or 0.793)
    np.testing.assert_allclose(covariance, wanted * np.eye(3), atol=0.06 * wanted)
    assert frame.whitened
    assert "coils-whitened" in findings


def test_whitening_is_a_triangular_solve() -> None:
    noise = noise_readouts(3, 40, mixing=MIXING)
    (frame,), _ = run(noise + cartesian(FULL, ENCODING))
    samples = np.concatenate([r.data for r in noise], axis=1).astype(np.complex128)
    lower = np.linalg.cholesky(samples @ samples.conj().T / (samples.shape[1] - 1))
    wanted = math.sqrt(2 * 0.793) * np.linalg.solve(lower, FULL.reshape(3, -1).astype(np.complex128)).reshape(
        FULL.shape
    )
    np.testing.assert_allclose(frame.kspace / frame.scale, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def test_a_missing_dwell_time_gives_the_factor_one() -> None:
    noise = noise_readouts(3, 40, dwell=0.0)
    (frame,), findings = run(noise + cartesian(FULL, ENCODING))
    samples = np.concatenate([r.data for r in noise], axis=1).astype(np.complex128)
    lower = np.linalg.cholesky(samples @ samples.conj().T / (samples.shape[1] - 1))
    wanted = np.linalg.solve(lower, FULL.reshape(3, -1).astype(np.complex128)).reshape(FULL.shape)
    np.testing.assert_allclose(frame.kspace / frame.scale, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
    assert "dwell-missing" in findings


@pytest.mark.parametrize("kind", ["dead", "duplicate", "few"])
def test_a_singular_covariance_gets_a_ridge(kind: str) -> None:
    mixing = np.eye(3, dtype=complex)
    if kind == "dead":
        mixing[1] = 0
    elif kind == "duplicate":
        mixing[1] = mixing[0]
    noise = noise_readouts(3, 1, samples=2, mixing=mixing) if kind == "few" else noise_readouts(3, mixing=mixing)
    kspace = FULL.copy()
    if kind == "dead":
        kspace[1] = 0
    (frame,), findings = run(noise + cartesian(kspace, ENCODING))
    assert np.isfinite(frame.kspace).all()
    assert "noise-covariance-singular" in findings


def test_noise_of_zeros_whitens_nothing() -> None:
    noise = [replace(r, data=r.data * 0) for r in noise_readouts(3)]
    (frame,), findings = run(noise + cartesian(FULL, ENCODING))
    assert not frame.whitened
    assert "noise-scan-empty" in findings


def test_noise_after_the_images_is_not_used() -> None:
    (frame,), findings = run(cartesian(FULL, ENCODING) + noise_readouts(3))
    assert not frame.whitened
    assert {"noise-after-imaging", "noise-scan-missing"} <= {f.code for f in findings}


def test_noise_of_other_channels_is_not_used() -> None:
    (frame,), findings = run(noise_readouts(2) + cartesian(FULL, ENCODING))
    assert not frame.whitened
    assert "noise-channels-differ" in findings


def test_a_noise_measurement_that_the_header_names_is_missed() -> None:
    after = (
        "<measurementInformation><patientPosition>HFS</patientPosition><measurementDependency><dependencyType>Noise"
        "</dependencyType><measurementID>1</measurementID></measurementDependency></measurementInformation>"
    )
    _, findings = run(cartesian(FULL, ENCODING), after=after)
    (missing,) = [f for f in findings if f.code == "noise-scan-missing"]
    assert "send it along" in missing.message


def labels(*names: str) -> str:
    return "".join(
        f"<coilLabel><coilNumber>{n}</coilNumber><coilName>{name}</coilName></coilLabel>"
        for n, name in enumerate(names)
    )


@pytest.mark.parametrize("order", [("A", "B", "C"), ("C", "A", "B")])
def test_an_earlier_measurement_is_the_noise_scan_by_coil_label(tmp_path: Path, order: tuple[str, ...]) -> None:
    noise = noise_readouts(3, 40, mixing=MIXING)
    places = ["ABC".index(name) for name in order]
    path = tmp_path / "two.h5"
    write_mrd(path, header_xml(ENCODING, system=labels(*order)), [replace(r, data=r.data[places]) for r in noise])
    write_mrd(path, header_xml(ENCODING, system=labels("A", "B", "C")), cartesian(FULL, ENCODING), group="dataset_1")
    findings = FindingList()
    request = file_request(path)
    (frame,) = condition(read_scan(request, findings), request, findings)
    (wanted,), _ = run(noise + cartesian(FULL, ENCODING))
    np.testing.assert_allclose(frame.kspace / frame.scale, wanted.kspace / wanted.scale, rtol=1e-4, atol=1e-3)
    assert ("noise-coils-reordered" in findings) == (order != ("A", "B", "C"))
    assert frame.whitened


def test_noise_of_other_coils_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.h5"
    write_mrd(path, header_xml(ENCODING, system=labels("A", "B", "D")), noise_readouts(3))
    write_mrd(path, header_xml(ENCODING, system=labels("A", "B", "C")), cartesian(FULL, ENCODING), group="dataset_1")
    findings = FindingList()
    request = file_request(path)
    (frame,) = condition(read_scan(request, findings), request, findings)
    assert not frame.whitened
    assert "noise-coils-differ" in findings


def test_the_mean_is_not_subtracted() -> None:
    estimate = NoiseEstimate()
    estimate.add(np.full((1, 100), 3 + 4j, np.complex64), 5.0)
    assert estimate.covariance is not None
    np.testing.assert_allclose(estimate.covariance, [[2500.0]])


def test_noise_does_not_become_an_image() -> None:
    (frame,), _ = run([replace(r, flags=NOISE | 1 << 7) for r in noise_readouts(3)] + cartesian(FULL, ENCODING))
    assert frame.index.slice == 0


def test_conjugation_comes_after_whitening() -> None:
    noise = noise_readouts(3, 40, mixing=MIXING)
    (plain,), _ = run(noise + cartesian(FULL, ENCODING))
    (conjugated,), _ = run(noise + cartesian(FULL, ENCODING), "<systemVendor>Siemens Healthineers</systemVendor>")
    np.testing.assert_allclose(conjugated.kspace, plain.kspace.conj(), rtol=1e-5, atol=1e-7)
