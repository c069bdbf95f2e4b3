import numpy as np
import pytest
import torch

from recond_kernels.coils import CoilLayout
from recond_models.classical import noise
from recond_models.networks import noise_level

SIZE, COILS, LEVEL = 64, 6, 1e-3


def scan(level=LEVEL, seed=0, sharp=True):
    """Sharp discs in smooth coils: the edge of k-space holds signal."""
    generator = np.random.default_rng(seed)
    rows, columns = np.indices((SIZE, SIZE)) / SIZE - 0.5
    image = (np.hypot(rows, columns) < 0.4) + 0.5 * (np.hypot(rows - 0.1, columns) < 0.1) * sharp
    angles = 2 * np.pi * np.arange(COILS) / COILS
    coils = np.exp(
        -3 * ((rows - 0.5 * np.cos(angles)[:, None, None]) ** 2 + (columns - 0.5 * np.sin(angles)[:, None, None]) ** 2)
    )
    shifted = np.fft.ifftshift(image * coils, axes=(1, 2))
    kspace = np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=(1, 2))
    white = generator.standard_normal((2, *kspace.shape))
    return torch.from_numpy((kspace + level * (white[0] + 1j * white[1])).astype(np.complex64))


def lines(spacing=3, centre=24):
    mask = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    mask[:, :, ::spacing] = True
    mask[:, :, SIZE // 2 - centre // 2 : SIZE // 2 - centre // 2 + centre] = True
    return mask


@pytest.mark.parametrize("level", [1e-3, 1e-2])
def test_little_noise_is_found_on_a_small_matrix(level):
    kspace, mask, layout = scan(level) * lines(), lines(), CoilLayout((COILS,))
    found = float(noise_level.deviations(kspace, mask, layout)[0])
    assert found == pytest.approx(level, rel=0.35)
    edge = float(noise.deviations(kspace, mask, layout)[0])
    assert abs(np.log(found / level)) <= abs(np.log(edge / level))


def test_without_a_block_the_edge_decides():
    mask = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    mask[:, :, 1::2] = True
    kspace, layout = scan() * mask, CoilLayout((COILS,))
    assert torch.equal(noise_level.deviations(kspace, mask, layout), noise.deviations(kspace, mask, layout))


def test_frames_are_estimated_one_by_one_and_the_level_scales():
    masks = torch.cat([lines(), lines(2, 16)])
    kspace = torch.cat([scan(1e-3, 1) * masks[0], scan(5e-3, 2) * masks[1]])
    both = noise_level.deviations(kspace, masks, CoilLayout((COILS, COILS)))
    first = noise_level.deviations(kspace[:COILS], masks[:1], CoilLayout((COILS,)))
    torch.testing.assert_close(both[:1], first)
    scaled = noise_level.deviations(8 * kspace, masks, CoilLayout((COILS, COILS)))
    torch.testing.assert_close(scaled, 8 * both, rtol=1e-3, atol=0)


def test_nothing_measured_is_no_noise():
    empty = torch.zeros(COILS, SIZE, SIZE, dtype=torch.complex64)
    assert (
        float(noise_level.deviations(empty, torch.zeros(1, SIZE, SIZE, dtype=torch.bool), CoilLayout((COILS,)))[0]) == 0
    )
