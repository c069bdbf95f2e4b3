"""Virtual coils."""

import numpy as np
import pytest
import torch

from recond_models import loading, metrics
from recond_models.batch import PackedBatch
from recond_models.classical import compression
from recond_models.finishing import magnitudes
from recond_models.sampling import centre_block
from recond_models.simulate.scan import ScanSettings, simulate


@pytest.fixture(scope="module")
def scan():
    return simulate(
        ScanSettings(
            coils=24, rows=72, columns=64, slices=1, oversampling=1, acceleration=2, calibration_lines=16, noise=0.003
        )
    )


def batch_of(scan):
    mask = np.broadcast_to(scan.lines, (72, 64)).copy()
    return PackedBatch.pack([scan.kspace[0]], [mask], [centre_block(scan.kspace[0], (24, 16))])


def test_virtual_coils_are_orthonormal_and_strongest_first(scan):
    kspace = torch.from_numpy(scan.kspace[0])
    block = kspace[:, 24:48, 24:40]
    virtual, calibration = compression.compress(kspace, block)
    assert virtual.shape == (12, 72, 64)
    assert calibration.shape == (12, 24, 16)
    torch.testing.assert_close(virtual[:, 24:48, 24:40], calibration, rtol=1e-4, atol=1e-6)
    covariance = calibration.flatten(1) @ calibration.flatten(1).mH
    powers = covariance.diagonal().real
    assert torch.all(powers[:-1] >= powers[1:])
    assert (covariance - torch.diag(covariance.diagonal())).abs().max() < 1e-5 * powers[0]
    assert calibration.abs().square().sum() > 0.999 * block.abs().square().sum()


@pytest.mark.parametrize("coils", [2, 12])
def test_few_coils_stay_as_they_are(coils):
    kspace = torch.randn(coils, 16, 16, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    virtual, block = compression.compress(kspace, kspace[:, 4:12, 4:12])
    assert torch.equal(virtual, kspace)
    assert torch.equal(block, kspace[:, 4:12, 4:12])


def test_white_noise_stays_white():
    generator = torch.Generator().manual_seed(0)
    block = torch.randn(20, 16, 16, dtype=torch.complex64, generator=generator)
    noise = torch.randn(20, 100, 100, dtype=torch.complex64, generator=generator)
    virtual, _ = compression.compress(noise, block)
    covariance = (virtual.flatten(1) @ virtual.flatten(1).mH) / 10_000
    torch.testing.assert_close(covariance, torch.eye(12, dtype=torch.complex64), atol=0.05, rtol=0)


@pytest.mark.parametrize("name", ["cg-sense", "l1-wavelet"])
def test_image_is_as_good_as_with_all_coils(scan, name, monkeypatch):
    model = loading.load(name)
    few = magnitudes(model.reconstruct(batch_of(scan))).numpy()
    monkeypatch.setattr(compression, "VIRTUAL_COILS", 24)
    every = magnitudes(model.reconstruct(batch_of(scan))).numpy()
    assert metrics.ssim(scan.truth, few) > metrics.ssim(scan.truth, every) - 0.005
    assert metrics.psnr(scan.truth, few) > metrics.psnr(scan.truth, every) - 0.5


@pytest.mark.parametrize("name", ["cg-sense", "l1-wavelet"])
def test_many_coils_beside_few(scan, name):
    many, mask = scan.kspace[0], np.broadcast_to(scan.lines, (72, 64)).copy()
    kspaces = [many[:5], many]
    blocks = [centre_block(kspace, (24, 16)) for kspace in kspaces]
    model = loading.load(name)
    together = magnitudes(model.reconstruct(PackedBatch.pack(kspaces, [mask] * 2, blocks)))[1]
    alone = magnitudes(model.reconstruct(batch_of(scan)))[0]
    assert torch.linalg.vector_norm(together - alone) <= 1e-6 * torch.linalg.vector_norm(alone)
