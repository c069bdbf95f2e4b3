"""The head `series` guards the others: what is no head is refused or doubted, also after undersampling."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

import recond_client

IMAGES = Path(__file__).resolve().parents[4] / "shared" / "data" / "test" / "images"
PARTS = {"hip_PD_FS": 1, "knee_mese_TE1": 0, "spine_T1": 0, "spine_T2": 0}
"""Files and the axis, of those of the patient, that their slices are cut across."""

SLICES, SIDE = 8, 128


def part(name: str) -> np.ndarray:
    """Return float32 (slices, rows, columns), largest value 1, from the middle of a volume."""
    path = IMAGES / f"{name}.nii.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    values = nibabel.as_closest_canonical(nibabel.load(path)).get_fdata(dtype=np.float32)
    slices = np.abs(np.moveaxis(values, PARTS[name], 0)).transpose(0, 2, 1)[:, ::-1]
    count = len(slices)
    chosen = slices[np.linspace(count // 4, 3 * count // 4, SLICES).astype(int)]
    square = np.zeros((SLICES, *[max(chosen.shape[1:])] * 2), np.float32)
    top, left = ((square.shape[-1] - size) // 2 for size in chosen.shape[1:])
    square[:, top : top + chosen.shape[1], left : left + chosen.shape[2]] = chosen
    return square / square.max()


def kspace_of(images: np.ndarray) -> np.ndarray:
    """Return complex64 (slices, 4 coils, rows, columns) with some noise."""
    size = images.shape[-1]
    y, x = np.meshgrid(*[np.linspace(-1, 1, size)] * 2, indexing="ij")
    coils = np.stack([np.exp(-((y - cy) ** 2 + (x - cx) ** 2)) for cy, cx in ((-1, 0), (1, 0), (0, -1), (0, 1))])
    whole = images[:, None] * coils
    axes = (-2, -1)
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(whole, axes=axes), norm="ortho"), axes=axes)
    noise = np.random.default_rng(0).standard_normal((2, *kspace.shape)) * 0.003
    return (kspace + noise[0] + 1j * noise[1]).astype(np.complex64)


@pytest.mark.parametrize(
    ("name", "undersample"),
    [
        *((name, None) for name in PARTS),
        # Of the knee, 8-fold undersampled, the guard says nothing: docs/heads-lesion.md.
        *((name, "equispaced:8:0.06") for name in PARTS if name != "knee_mese_TE1"),
    ],
)
def test_other_parts_are_no_heads(service, name, undersample):
    """What is a head with a probability of less than a half is refused or doubted."""
    kspace = kspace_of(part(name))
    with recond_client.Client(service.address) as client:
        result = client.reconstruct(kspace=kspace, model="rss", heads=["series"], undersample=undersample)
    shown = next(each for each in result.head_results if each.stack).scores["anatomy"]
    assert shown["head"] < 0.5, shown
