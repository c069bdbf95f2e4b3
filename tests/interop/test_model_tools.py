"""Models, metrics and simulated files against BART, sigpy and the ISMRMRD library."""

import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
import sigpy.mri.app
import torch

from recond_kernels import espirit
from recond_kernels.fourier import fft2c
from recond_models import loading, metrics
from recond_models.batch import PackedBatch
from recond_models.finishing import magnitudes
from recond_models.sampling import centre_block
from recond_models.simulate import write_ismrmrd
from recond_models.simulate.scan import ScanSettings, simulate

BRAIN = Path(__file__).resolve().parents[3] / "shared" / "data" / "brain_8ch.h5"
CENTRE = (24, 24)

needs_bart = pytest.mark.skipif(shutil.which("bart") is None, reason="bart (Debian bart) is not installed")
needs_brain = pytest.mark.skipif(not BRAIN.is_file(), reason=f"no measured head at {BRAIN}")
needs_ismrmrd_tools = pytest.mark.skipif(
    shutil.which("ismrmrd_recon_cartesian_2d") is None,
    reason="ismrmrd_recon_cartesian_2d (Debian ismrmrd-tools) is not installed",
)


def write_cfl(path, array):
    """Write an array as BART's .cfl and .hdr, axes as given."""
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(str(size) for size in array.shape) + "\n")
    array.astype(np.complex64).ravel(order="F").tofile(path.with_suffix(".cfl"))


def read_cfl(path):
    shape = [int(size) for size in path.with_suffix(".hdr").read_text().splitlines()[1].split()]
    return np.fromfile(path.with_suffix(".cfl"), dtype=np.complex64).reshape(shape, order="F").squeeze()


def bart(folder, *arguments):
    run = subprocess.run(["bart", *arguments], cwd=folder, check=True, capture_output=True, text=True, timeout=120)
    return run.stdout


def correlation(one, other):
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.fixture(scope="module")
def brain():
    with h5py.File(BRAIN) as file:
        return file["kspace"][0], file["mask"][()]


@needs_brain
def test_calibration_agrees_with_sigpy(brain):
    kspace, _ = brain
    ours = espirit.estimate(torch.from_numpy(centre_block(kspace, CENTRE).copy()), kspace.shape[1:])
    theirs, eigenvalues = sigpy.mri.app.EspiritCalib(
        kspace,
        calib_width=24,
        thresh=0.02,
        kernel_width=6,
        crop=0,
        max_iter=100,
        output_eigenvalue=True,
        show_pbar=False,
    ).run()
    eigenvalues = eigenvalues.squeeze()
    inside = eigenvalues > 0.98
    overlap = np.abs(np.sum(ours.sensitivities.numpy().conj() * theirs, axis=0))[inside]
    assert np.quantile(overlap, 0.01) > 0.999
    np.testing.assert_allclose(ours.eigenvalues.numpy()[inside], eigenvalues[inside], atol=0.01)


def residual(image, maps, kspace, mask):
    """Return ||A x - y|| / ||y|| over the measured samples, x scaled to fit best: a tool's own scale of the DFT does not count."""
    model = fft2c(torch.from_numpy(maps * image)).numpy()[:, mask]
    data = kspace[:, mask]
    factor = np.vdot(model, data) / np.vdot(model, model)
    return np.linalg.norm(factor * model - data) / np.linalg.norm(data)


@needs_bart
@needs_brain
@pytest.mark.parametrize(("name", "term"), [("l1-wavelet", "W:3:0:0.005"), ("tv", "T:3:0:0.003")])
def test_measured_head_agrees_with_bart(brain, tmp_path, name, term):
    kspace, mask = brain
    batch = PackedBatch.pack([kspace], [mask], [centre_block(kspace, CENTRE)])
    result = loading.load(name).reconstruct(batch)
    ours = magnitudes(result)[0].numpy()
    write_cfl(tmp_path / "ksp", kspace.transpose(1, 2, 0)[:, :, None, :] / np.abs(kspace).max())
    bart(tmp_path, "ecalib", "-m1", "-r24", "ksp", "sens")
    bart(tmp_path, "pics", "-S", f"-R{term}", "-i100", "ksp", "sens", "img")
    theirs = read_cfl(tmp_path / "img")
    zero_filled = magnitudes(loading.load("rss").reconstruct(batch))[0].numpy()
    assert correlation(ours, np.abs(theirs)) > 0.998
    assert correlation(ours, np.abs(theirs)) > correlation(zero_filled, np.abs(theirs)) + 0.02
    maps = read_cfl(tmp_path / "sens").transpose(2, 0, 1)
    assert result.residuals.item() < 1.01 * residual(theirs, maps, kspace, mask)


@needs_brain
@pytest.mark.parametrize(("name", "solver"), [("l1-wavelet", "L1WaveletRecon"), ("tv", "TotalVariationRecon")])
def test_measured_head_agrees_with_sigpy(brain, name, solver):
    kspace, mask = brain
    batch = PackedBatch.pack([kspace], [mask], [centre_block(kspace, CENTRE)])
    ours = magnitudes(loading.load(name).reconstruct(batch))[0].numpy()
    data = kspace / np.abs(kspace).max()
    maps = sigpy.mri.app.EspiritCalib(data, calib_width=24, show_pbar=False).run()
    weights = mask.astype(np.float32)
    app = getattr(sigpy.mri.app, solver)(data, maps, 1.5e-4, weights=weights, max_iter=60, show_pbar=False)
    assert correlation(ours, np.abs(app.run())) > 0.99


@needs_bart
@needs_brain
@pytest.mark.parametrize("name", ["cg-sense", "l1-wavelet", "tv"])
def test_nothing_of_the_measured_head_is_cut_away(brain, name, tmp_path):
    kspace, mask = brain
    batch = PackedBatch.pack([kspace], [mask], [centre_block(kspace, CENTRE)])
    image = magnitudes(loading.load(name).reconstruct(batch))[0].numpy()
    write_cfl(tmp_path / "ksp", kspace.transpose(1, 2, 0)[:, :, None, :] / np.abs(kspace).max())
    bart(tmp_path, "ecalib", "-m1", "-r24", "-c0", "ksp", "sens")
    bart(tmp_path, "pics", "-S", "-RW:3:0:0.005", "-i100", "ksp", "sens", "img")
    uncut = np.abs(read_cfl(tmp_path / "img"))
    signal = uncut > 0.15 * np.quantile(uncut, 0.995)
    assert np.mean(image[signal] == 0) < 5e-4


@needs_bart
def test_simulated_head_is_as_good_as_with_bart(tmp_path):
    scan = simulate(ScanSettings(rows=128, columns=128, slices=1, oversampling=1, acceleration=3, noise=0.005))
    kspace, mask = scan.kspace[0], np.broadcast_to(scan.lines, (128, 128)).copy()
    batch = PackedBatch.pack([kspace], [mask], [centre_block(kspace, (128, 24))])
    ours = magnitudes(loading.load("l1-wavelet").reconstruct(batch)).numpy()
    write_cfl(tmp_path / "ksp", kspace.transpose(1, 2, 0)[:, :, None, :])
    bart(tmp_path, "ecalib", "-m1", "-r24", "ksp", "sens")
    bart(tmp_path, "pics", "-S", "-RW:3:0:0.005", "-i100", "ksp", "sens", "img")
    theirs = np.abs(read_cfl(tmp_path / "img"))[None]
    # pics -S keeps the scale of the data; a free factor makes the comparison fair to it in any case.
    theirs = theirs * np.sum(theirs * scan.truth) / np.sum(theirs**2)
    assert metrics.psnr(scan.truth, ours) > metrics.psnr(scan.truth, theirs)
    assert metrics.ssim(scan.truth, ours) > metrics.ssim(scan.truth, theirs) - 0.02


@needs_ismrmrd_tools
@pytest.mark.parametrize("kind", ["head", "shepp-logan"])
def test_the_reference_library_reconstructs_our_file(tmp_path, kind):
    scan = simulate(
        ScanSettings(
            coils=6, slices=1, rows=96, columns=80, acceleration=1, noise=0, phantom=kind, calibration_lines=24
        )
    )
    path = tmp_path / "full.h5"
    write_ismrmrd.write(scan, path)
    subprocess.run(["ismrmrd_recon_cartesian_2d", str(path)], check=True, capture_output=True, timeout=60)
    with h5py.File(path) as file:
        image = file["dataset/cpp/data"][()].squeeze()
    # The library stores y before x: columns before rows.
    assert image.shape == (80, 96)
    assert correlation(image.T, scan.truth[0]) > 0.999


@needs_bart
def test_metrics_agree_with_bart(tmp_path):
    generator = np.random.default_rng(0)
    radius = np.hypot(*np.mgrid[-1:1:64j, -1:1:64j])
    reference = np.cos(3 * radius) ** 2 + 0.2
    image = np.abs(reference + 0.1 * generator.standard_normal(reference.shape))
    write_cfl(tmp_path / "reference", reference)
    write_cfl(tmp_path / "image", image)
    ssim, psnr = (float(bart(tmp_path, "measure", f"--{name}", "reference", "image")) for name in ("ssim", "psnr"))
    assert metrics.psnr(reference[None], image[None]) == pytest.approx(psnr, rel=1e-5)
    # Its SSIM takes other windows: close, not equal.
    assert metrics.ssim(reference[None], image[None]) == pytest.approx(ssim, abs=2e-3)
