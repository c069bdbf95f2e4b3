"""Images with their phase, from a phantom whose phase is known to the SDK and into the files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import ismrmrd
import nibabel
import numpy as np
import pytest
from recond_testing import Service

import recond_client

SLICES, COILS, ROWS, COLUMNS = 2, 4, 64, 56
OUTPUTS = (".h5", ".mrd", ".nii.gz")


def phantom() -> np.ndarray:
    """Complex (slices, rows, columns): an ellipse whose right half has the other sign, on air."""
    y, x = np.meshgrid(np.linspace(-1, 1, ROWS), np.linspace(-1, 1, COLUMNS), indexing="ij")
    disc = ((y / 0.8) ** 2 + (x / 0.7) ** 2 < 1) * np.where(x > 0.1, -1.0, 1.0)
    return np.stack([disc, 0.5 * disc]).astype(np.complex64)


def kspace() -> np.ndarray:
    """complex64 (slices, coils, rows, columns): smooth coils with phases of their own."""
    y, x = np.meshgrid(np.linspace(-1, 1, ROWS), np.linspace(-1, 1, COLUMNS), indexing="ij")
    angles = 2 * np.pi * np.arange(COILS)[:, None, None] / COILS
    maps = np.exp(-((y - np.sin(angles)) ** 2 + (x - np.cos(angles)) ** 2) / 2 + 1j * (angles + 0.5 * x))
    images = np.fft.ifftshift(phantom()[:, None] * maps, axes=(2, 3))
    return np.fft.fftshift(np.fft.fft2(images, norm="ortho"), axes=(2, 3)).astype(np.complex64)


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[recond_client.Client]:
    with recond_client.Client(service.address) as connected:
        yield connected


@pytest.fixture(scope="module")
def result(client: recond_client.Client) -> recond_client.Result:
    lines = np.arange(COLUMNS) % 2 == 0
    lines[COLUMNS // 2 - 12 : COLUMNS // 2 + 12] = True
    return client.reconstruct(
        kspace=kspace() * lines, mask=lines, model="cg-sense", outputs=OUTPUTS, complex_images=True
    )


def test_the_phase_of_the_object_comes_out(result: recond_client.Result) -> None:
    found = result.complex_images
    assert found is not None
    assert (found.shape, found.dtype) == ((SLICES, ROWS, COLUMNS), np.complex64)
    np.testing.assert_allclose(np.abs(found), result.images, rtol=1e-5)
    truth = phantom()
    inside = np.zeros((ROWS, COLUMNS), np.bool_)
    inside[16:48, 14:42] = True
    inside &= np.abs(truth[0]) > 0
    signs = np.sign(truth[0].real)
    for image in found:
        # Smooth once the sign of the object is taken off: neighbours differ by little in phase, also across the change of sign.
        smooth = image * signs
        steps = np.angle(smooth[:, 1:] * smooth[:, :-1].conj())[inside[:, 1:] & inside[:, :-1]]
        assert np.abs(steps).max() < 0.5


def test_files_hold_the_phase(result: recond_client.Result, tmp_path: Path) -> None:
    assert set(result.files) == {*OUTPUTS, "_part-phase.nii.gz"}
    found = result.complex_images
    assert found is not None
    with h5py.File(result.save(tmp_path / "x.h5")) as file:
        np.testing.assert_array_equal(file["reconstruction_complex"][:], found)
        np.testing.assert_array_equal(file["reconstruction"][:], result.images)
    magnitude, phase = result.save_all(tmp_path / "x.nii.gz")
    assert (magnitude.name, phase.name) == ("x.nii.gz", "x_part-phase.nii.gz")
    volume = np.asarray(nibabel.load(phase).dataobj)
    np.testing.assert_allclose(np.exp(1j * volume).transpose(2, 0, 1) * result.images, found, atol=1e-5)
    np.testing.assert_array_equal(nibabel.load(magnitude).affine, nibabel.load(phase).affine)


def test_ismrmrd_reads_the_complex_images(result: recond_client.Result, tmp_path: Path) -> None:
    with ismrmrd.Dataset(str(result.save(tmp_path / "x.mrd")), create_if_needed=False) as dataset:
        assert dataset.number_of_images("image_1") == SLICES
        for number in range(SLICES):
            image = dataset.read_image("image_1", number)
            assert (image.image_type, image.data_type) == (ismrmrd.IMTYPE_COMPLEX, ismrmrd.DATATYPE_CXFLOAT)
            np.testing.assert_array_equal(image.data[0, 0].T, result.complex_images[number])


@pytest.mark.parametrize("model", ["rss"])
def test_a_model_without_phase_refuses_and_says_what_helps(client: recond_client.Client, model: str) -> None:
    with pytest.raises(recond_client.InputError, match="cg-sense") as caught:
        client.reconstruct(kspace=kspace(), model=model, complex_images=True)
    assert (caught.value.reason, caught.value.field) == ("NO_PHASE", "spec.model")


def test_auto_takes_a_model_with_phase(client: recond_client.Client) -> None:
    result = client.reconstruct(kspace=kspace(), complex_images=True)
    assert result.complex_images is not None
    assert result.model != "rss"
    plain = client.reconstruct(kspace=kspace())
    assert plain.complex_images is None
