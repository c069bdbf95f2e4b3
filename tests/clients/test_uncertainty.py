"""Standard deviations of pixels, from a network that predicts them to the SDK and into the files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import ismrmrd
import nibabel
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import recond_client
from recond_client.cli import main
from recond_client.embedded import EmbeddedService
from recond_models.contract import Contract
from recond_models.networks.unrolled import UnrolledArchitecture, UnrolledNetwork
from recond_models.store.package import Description, write_model

SLICES, COILS, ROWS, COLUMNS = 2, 4, 48, 40
OUTPUTS = (".h5", ".mrd", ".nii.gz")
SIZES = UnrolledArchitecture(
    rounds=1, channels=(8, 8), bottleneck_blocks=1, iterations=2, calibration=16, coils=4, deviation=8
)


def kspace() -> np.ndarray:
    """complex64 (slices, coils, rows, columns): an ellipse seen by smooth coils, every second line and the middle."""
    y, x = np.meshgrid(np.linspace(-1, 1, ROWS), np.linspace(-1, 1, COLUMNS), indexing="ij")
    disc = (y / 0.8) ** 2 + (x / 0.7) ** 2 < 1
    angles = 2 * np.pi * np.arange(COILS)[:, None, None] / COILS
    maps = np.exp(-((y - np.sin(angles)) ** 2 + (x - np.cos(angles)) ** 2) / 2 + 1j * angles)
    images = np.fft.ifftshift(np.stack([disc, 0.5 * disc])[:, None] * maps, axes=(2, 3))
    lines = np.arange(COLUMNS) % 2 == 0
    lines[COLUMNS // 2 - 8 : COLUMNS // 2 + 8] = True
    return (np.fft.fftshift(np.fft.fft2(images, norm="ortho"), axes=(2, 3)) * lines).astype(np.complex64)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    place = tmp_path_factory.mktemp("models")
    torch.manual_seed(3)
    described = Description("knows", "1", "A network for tests.", "", "CC0-1.0", "a test", "# knows\n")
    weights = UnrolledNetwork(SIZES).state_dict()
    write_model(place, described, {"family": "unrolled", **SIZES.to_json()}, weights, Contract())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECOND_MODELS_DIR", str(place))
        with EmbeddedService() as service:
            yield service.target


@pytest.fixture(scope="module")
def client(target: str) -> Iterator[recond_client.Client]:
    with recond_client.Client(target) as connected:
        connected.wait_until_ready()
        yield connected


@pytest.fixture(scope="module")
def result(client: recond_client.Client) -> recond_client.Result:
    return client.reconstruct(kspace=kspace(), model="knows", outputs=OUTPUTS, complex_images=True, uncertainty=True)


def test_every_pixel_of_the_object_has_a_standard_deviation(result: recond_client.Result) -> None:
    found = result.uncertainty
    assert found is not None
    assert (found.shape, found.dtype) == ((SLICES, ROWS, COLUMNS), np.float32)
    assert result.stacks[0].uncertainty.shape == found.shape
    assert (found[result.images > 0.2 * result.images.max()] > 0).all()
    # The second slice has half the signal: it scales with the samples.
    ratio = found[1][result.images[1] > 0].sum() / found[0][result.images[0] > 0].sum()
    assert ratio == pytest.approx(0.5, rel=0.05)


def test_files_hold_it(result: recond_client.Result, tmp_path: Path) -> None:
    assert set(result.files) == {*OUTPUTS, "_part-phase.nii.gz", "_uncertainty.nii.gz"}
    with h5py.File(result.save(tmp_path / "x.h5")) as file:
        np.testing.assert_array_equal(file["uncertainty"][:], result.uncertainty)
    magnitude, _, deviation = result.save_all(tmp_path / "x.nii.gz")
    assert deviation.name == "x_uncertainty.nii.gz"
    volume = np.asarray(nibabel.load(deviation).dataobj)
    np.testing.assert_array_equal(volume.transpose(2, 0, 1), result.uncertainty)
    np.testing.assert_array_equal(nibabel.load(magnitude).affine, nibabel.load(deviation).affine)


def test_ismrmrd_reads_it_as_a_series_of_its_own(result: recond_client.Result, tmp_path: Path) -> None:
    with ismrmrd.Dataset(str(result.save(tmp_path / "x.mrd")), create_if_needed=False) as dataset:
        for number in range(SLICES):
            image = dataset.read_image("image_2", number)
            assert "Uncertainty" in image.attribute_string
            np.testing.assert_array_equal(image.data[0, 0].T, result.uncertainty[number])


def test_the_images_are_those_that_come_without_it(client: recond_client.Client, result: recond_client.Result) -> None:
    plain = client.reconstruct(kspace=kspace(), model="knows")
    assert plain.uncertainty is None
    np.testing.assert_allclose(plain.images, result.images, rtol=1e-5, atol=1e-6 * result.images.max())


def test_a_model_that_does_not_predict_it_refuses_and_names_one_that_does(client: recond_client.Client) -> None:
    with pytest.raises(recond_client.InputError, match="knows") as caught:
        client.reconstruct(kspace=kspace(), model="cg-sense", uncertainty=True)
    assert (caught.value.reason, caught.value.field) == ("NO_UNCERTAINTY", "spec.model")


def test_the_command_writes_it_beside_the_image(target: str, tmp_path: Path) -> None:
    # BART lays arrays out in Fortran order: readout, phase encode, partition, coil.
    samples = kspace()[0].transpose(1, 2, 0)[:, :, None]
    samples.ravel(order="F").tofile(tmp_path / "scan.cfl")
    (tmp_path / "scan.hdr").write_text(f"# Dimensions\n{ROWS} {COLUMNS} 1 {COILS} 1 1 1 1 1 1 1 1 1 1 1 1\n")
    arguments = [str(tmp_path / "scan.cfl"), "--model", "knows", "--uncertainty", "-o", str(tmp_path / "x.nii.gz")]
    ended = CliRunner().invoke(main, ["reconstruct", *arguments, "--server", target])
    assert ended.exit_code == 0, ended.output
    assert {path.name for path in tmp_path.glob("*.nii.gz")} == {"x.nii.gz", "x_uncertainty.nii.gz"}
