"""Simulated scans: their truth, noise and files."""

import h5py
import ismrmrd
import nibabel
import numpy as np
import pytest
from click.testing import CliRunner
from ismrmrd import xsd

from recond_models.simulate import head, phantom, receive, write_fastmri, write_ismrmrd
from recond_models.simulate.commands import simulate as command
from recond_models.simulate.scan import ScanSettings, simulate, whitening

SMALL = {"coils": 4, "slices": 3, "rows": 48, "columns": 40, "acceleration": 2, "calibration_lines": 8}
AXES = (-2, -1)


def images_of(kspace):
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes=AXES), axes=AXES, norm="ortho"), axes=AXES)


def middle(images, rows):
    start = images.shape[-2] // 2 - rows // 2
    return images[..., start : start + rows, :]


def rss(images):
    return np.sqrt(np.sum(np.abs(images) ** 2, axis=-3))


@pytest.mark.parametrize("kind", ["head", "shepp-logan"])
@pytest.mark.parametrize("oversampling", [1, 2])
def test_truth_is_the_image_of_full_data_without_noise(kind, oversampling):
    scan = simulate(
        ScanSettings(**{**SMALL, "acceleration": 1, "noise": 0, "phantom": kind, "oversampling": oversampling})
    )
    assert scan.kspace.shape == (3, 4, oversampling * 48, 40)
    image = rss(middle(images_of(scan.kspace), 48))
    np.testing.assert_allclose(image, scan.truth, atol=1e-5 * scan.truth.max())
    np.testing.assert_array_equal(scan.truth, scan.whitened_truth)
    assert scan.noise_samples.shape == (4, 0)


@pytest.mark.parametrize("kind", ["head", "shepp-logan"])
def test_oversampling_changes_neither_image_nor_scale(kind):
    one, two = (
        simulate(ScanSettings(**{**SMALL, "noise": 0, "phantom": kind, "oversampling": factor})) for factor in (1, 2)
    )
    np.testing.assert_allclose(one.truth, two.truth, atol=0.08 * one.truth.max())
    assert np.corrcoef(one.truth.ravel(), two.truth.ravel())[0, 1] > 0.998


def test_same_seed_same_scan():
    scans = [simulate(ScanSettings(**SMALL, seed=seed)) for seed in (5, 5, 6)]
    np.testing.assert_array_equal(scans[0].kspace, scans[1].kspace)
    np.testing.assert_array_equal(scans[0].noise_samples, scans[1].noise_samples)
    assert np.abs(scans[0].kspace - scans[2].kspace).max() > 0


def test_noise_has_the_promised_covariance():
    settings = {**SMALL, "acceleration": 1, "rows": 96, "columns": 96, "slices": 2}
    noisy, clean = (simulate(ScanSettings(**settings, noise=noise)) for noise in (0.02, 0))
    difference = (noisy.kspace - clean.kspace).transpose(1, 0, 2, 3).reshape(4, -1)
    estimate = difference @ difference.conj().T / difference.shape[1]
    scale = np.abs(noisy.noise_covariance).max()
    np.testing.assert_allclose(estimate, noisy.noise_covariance, atol=0.03 * scale)
    assert np.sqrt(np.trace(noisy.noise_covariance).real / 8) == pytest.approx(0.02 * noisy.truth.max(), rel=1e-6)
    assert np.abs(noisy.noise_covariance[0, 1]) > 0.1 * scale
    white = whitening(noisy.noise_samples) @ difference
    np.testing.assert_allclose(white @ white.conj().T / white.shape[1], 2 * np.eye(4), atol=0.15)
    whitened = np.tensordot(whitening(noisy.noise_samples), middle(images_of(clean.kspace), 96), axes=(1, 1)).swapaxes(
        0, 1
    )
    np.testing.assert_allclose(rss(whitened), noisy.whitened_truth, rtol=1e-3, atol=1e-3 * noisy.whitened_truth.max())


@pytest.mark.parametrize("pattern", ["equispaced", "random"])
def test_lines(pattern):
    scan = simulate(
        ScanSettings(**{**SMALL, "columns": 96, "acceleration": 4, "pattern": pattern, "phantom": "shepp-logan"})
    )
    assert scan.calibration.sum() == 8
    assert scan.calibration[44:52].all()
    assert scan.lines[scan.calibration].all()
    assert not scan.kspace[..., ~scan.lines].any()
    assert np.abs(scan.kspace[..., scan.lines]).min() > 0
    expected = 24 + 6 if pattern == "equispaced" else 24
    assert scan.lines.sum() == pytest.approx(expected, abs=0 if pattern == "equispaced" else 9)


def test_transform_of_an_ellipse_agrees_with_a_fine_grid():
    ellipse = phantom.Ellipse(2.0, (0.31, 0.52), (0.1, -0.2), 25.0)
    frequencies = np.array([-1.5, 0.0, 0.25, 2.0])
    size = 1200
    position = (np.arange(size) - size // 2) * (2 / size)
    waves = np.exp(-2j * np.pi * frequencies[:, None] * position)
    expected = waves @ phantom.image(size, size, (ellipse,)) @ waves.T * (2 / size) ** 2
    np.testing.assert_allclose(phantom.transform(frequencies, frequencies, (ellipse,)), expected, atol=2e-3)


def test_phantom_seen_by_coils_agrees_with_a_fine_grid():
    weights = phantom.plane_wave_weights(receive.sensitivities(3, 32, 32))
    kspace = phantom.multicoil_kspace(weights, 16, 12, 2)
    size = 768
    fine = phantom.image(size, size) * phantom.plane_waves(weights, size, size)
    padded = np.pad(fine, ((0, 0), (size // 2, size // 2), (0, 0)))
    full = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(padded, axes=AXES), axes=AXES), axes=AXES)
    part = full[:, size - 16 : size + 16, size // 2 - 6 : size // 2 + 6] / size**2 * 4
    expected = part * np.sqrt(32 * 12) / (4 * 2)
    np.testing.assert_allclose(kspace, expected, atol=5e-3 * np.abs(expected).max())


@pytest.mark.parametrize("coils", [2, 8, 32])
def test_coils_surround_the_object_and_differ(coils):
    fields = receive.sensitivities(coils, 64, 64)
    y, x = np.mgrid[-32:32, -32:32] / 32
    inside = x**2 + y**2 <= 1
    total = np.sqrt(np.sum(np.abs(fields) ** 2, axis=0))[inside]
    assert total.max() == pytest.approx(1)
    assert total.min() > 0.02
    gram = np.abs(fields[:, inside] @ fields[:, inside].conj().T)
    norms = np.sqrt(np.diag(gram))
    assert (gram / np.outer(norms, norms) - np.eye(coils)).max() < 0.999


def test_pixels_are_where_the_geometry_says():
    scan = simulate(ScanSettings(coils=1, slices=3, rows=120, columns=100, acceleration=1, noise=0))
    atlas = nibabel.nifti1.Nifti1Image.from_filename(head._files()["wm"])
    down = (np.arange(120) - 60)[:, None, None] * (240 / 120) * np.array(scan.read_direction)
    across = (np.arange(100) - 50)[None, :, None] * (240 / 100) * np.array(scan.phase_direction)
    for image, position in zip(scan.truth, scan.positions, strict=True):
        lps = position + down + across
        ras = lps * [-1, -1, 1]
        voxels = np.rint((ras - atlas.affine[:3, 3]) @ np.linalg.inv(atlas.affine[:3, :3]).T).astype(int)
        inside = np.all((voxels >= 0) & (voxels < atlas.shape), axis=-1)
        white = np.zeros(image.shape)
        white[inside] = np.asarray(atlas.dataobj)[tuple(voxels[inside].T)]
        brain = np.hypot(down[..., 1], across[..., 0]) < 60

        def agreement(candidate, white=white, brain=brain):
            return np.corrcoef(candidate[brain], white[brain])[0, 1]

        assert agreement(image) > 0.6
        assert agreement(image) > agreement(np.roll(image[::-1], 1, 0)) + 0.02
        # The head is symmetric; the capsule is on the patient's left, where x grows in LPS.
        left = lps[..., 0] > 95
        assert image[left].max() > 0.5
        assert image[lps[..., 0] < -95].max() < 0.1


def test_head_that_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(head.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(head.HeadNotFoundError, match="pip install --no-deps nilearn"):
        head.head_slices(1, 16, 16, 240.0)
    result = CliRunner().invoke(command, ["-o", str(tmp_path / "raw.h5"), "--slices", "1"])
    assert result.exit_code == 1
    assert "pip install --no-deps nilearn" in result.output


def test_ismrmrd_file(tmp_path):
    scan = simulate(ScanSettings(**SMALL, partial_fourier=0.75))
    path = tmp_path / "raw.h5"
    write_ismrmrd.write(scan, path)
    dataset = ismrmrd.Dataset(str(path), "dataset", create_if_needed=False)
    header = xsd.CreateFromDocument(dataset.read_xml_header())
    encoding = header.encoding[0]
    assert (encoding.encodedSpace.matrixSize.x, encoding.encodedSpace.matrixSize.y) == (96, 40)
    assert (encoding.reconSpace.matrixSize.x, encoding.reconSpace.matrixSize.y) == (48, 40)
    assert encoding.encodedSpace.fieldOfView_mm.x == 480
    assert encoding.parallelImaging.accelerationFactor.kspace_encoding_step_1 == 2
    limits = encoding.encodingLimits.kspace_encoding_step_1
    assert (limits.minimum, limits.maximum, limits.center) == (0, 29, 10)
    assert header.acquisitionSystemInformation.receiverChannels == 4

    readouts = [dataset.read_acquisition(number) for number in range(dataset.number_of_acquisitions())]
    dataset.close()
    noise = [readout for readout in readouts if readout.is_flag_set(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)]
    np.testing.assert_array_equal(np.concatenate([readout.data for readout in noise], axis=1), scan.noise_samples)
    rebuilt = np.zeros_like(scan.kspace)
    calibration = np.zeros(40, dtype=bool)
    for readout in readouts[len(noise) :]:
        column = readout.idx.kspace_encode_step_1 + 40 // 2 - limits.center
        rebuilt[readout.idx.slice, :, :, column] = readout.data
        calibration[column] |= readout.is_flag_set(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING)
        np.testing.assert_allclose(readout.position, scan.positions[readout.idx.slice])
        assert readout.center_sample == 48
    np.testing.assert_array_equal(rebuilt, scan.kspace)
    np.testing.assert_array_equal(calibration, scan.calibration)
    assert [readout.acquisition_time_stamp for readout in readouts] == [4 * number for number in range(len(readouts))]
    lasts = [readout.is_flag_set(ismrmrd.ACQ_LAST_IN_SLICE) for readout in readouts]
    assert sum(lasts) == 3
    assert lasts[-1]
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["truth"], scan.whitened_truth)


def test_interleaved_slices_are_numbered_in_the_order_of_time(tmp_path):
    scan = simulate(ScanSettings(**{**SMALL, "slices": 5, "phantom": "shepp-logan"}))
    write_ismrmrd.write(scan, tmp_path / "raw.h5", interleaved=True)
    with h5py.File(tmp_path / "raw.h5") as file:
        heads = file["dataset/data"]["head"]
    heads = heads[heads["sample_time_us"] == 10]
    assert np.all(np.diff(heads["idx"]["slice"].astype(int)) >= 0)
    firsts = heads[np.unique(heads["idx"]["slice"], return_index=True)[1]]
    np.testing.assert_allclose(firsts["position"], scan.positions[[0, 2, 4, 1, 3]])
    np.testing.assert_allclose(np.cross(scan.read_direction, scan.phase_direction), scan.slice_direction)
    assert np.all(np.diff(scan.positions @ scan.slice_direction) > 0)


def test_fastmri_file(tmp_path):
    scan = simulate(ScanSettings(**SMALL))
    write_fastmri.write(scan, tmp_path / "file.h5")
    with h5py.File(tmp_path / "file.h5") as file:
        assert file["kspace"].dtype == np.complex64
        assert file["kspace"].shape == (3, 4, 96, 40)
        np.testing.assert_array_equal(file["mask"], scan.lines)
        np.testing.assert_array_equal(file["reconstruction_rss"], scan.truth)
        assert file["reconstruction_rss"].dtype == np.float32
        assert file.attrs["max"] == pytest.approx(scan.truth.max())
        assert file.attrs["norm"] == pytest.approx(np.linalg.norm(scan.truth))
        assert {"acquisition", "patient_id"} <= set(file.attrs)
        assert xsd.CreateFromDocument(file["ismrmrd_header"][()]).encoding[0].reconSpace.matrixSize.x == 48


@pytest.mark.parametrize("file_format", ["ismrmrd", "fastmri"])
def test_command(tmp_path, file_format):
    raw, truth = tmp_path / "raw.h5", tmp_path / "truth.h5"
    arguments = [
        "-o",
        str(raw),
        "--reference",
        str(truth),
        "--format",
        file_format,
        "--matrix",
        "48x40",
        "--slices",
        "2",
    ]
    result = CliRunner().invoke(
        command, [*arguments, "--coils", "4", "--phantom", "shepp-logan", "--calibration-lines", "8"]
    )
    assert result.exit_code == 0, result.output
    assert "2 slices of 48 x 40, 4 coils" in result.output
    with h5py.File(truth) as file:
        assert file["reconstruction_rss"].shape == (2, 48, 40)
        reference = file["reconstruction_rss"][()]
    with h5py.File(raw) as file:
        inside = file["truth" if file_format == "ismrmrd" else "reconstruction_rss"][()]
    np.testing.assert_array_equal(reference, inside)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--coils", "0"], "coils must be from 1 to 64, got 0"),
        (["--matrix", "4"], "rows must be from 16"),
        (["--matrix", "axb"], "neither a size"),
        (["--acceleration", "2.5"], "whole acceleration"),
        (["--noise", "-1"], "noise must be 0 or more"),
        (["--pattern", "random", "--acceleration", "16"], "lower the centre fraction"),
        (["--partial-fourier", "0.4"], "more than 0.5"),
    ],
)
def test_command_refuses(tmp_path, arguments, message):
    result = CliRunner().invoke(command, ["-o", str(tmp_path / "raw.h5"), *arguments])
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "raw.h5").exists()


def test_command_that_cannot_write(tmp_path):
    result = CliRunner().invoke(
        command,
        [
            "-o",
            str(tmp_path / "no" / "raw.h5"),
            "--phantom",
            "shepp-logan",
            "--matrix",
            "32",
            "--slices",
            "1",
            "--calibration-lines",
            "8",
        ],
    )
    assert result.exit_code == 1
    assert "cannot write" in result.output
