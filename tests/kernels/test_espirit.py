"""ESPIRiT on data whose sensitivities are known."""

import numpy as np
import pytest
import torch

from recond_kernels import espirit
from recond_kernels.fourier import fft2c

ROWS, COLUMNS = 64, 49


def known_case(rows=ROWS, columns=COLUMNS, coils=6):
    """Return sensitivities with root sum of squares 1, an object, and its k-space."""
    y = (torch.arange(rows) - rows // 2)[:, None] / rows
    x = (torch.arange(columns) - columns // 2)[None, :] / columns
    angles = 2 * np.pi * torch.arange(coils) / coils
    centres = [(0.7 * np.cos(a), 0.7 * np.sin(a)) for a in angles.tolist()]
    fields = torch.stack(
        [torch.exp(-2 * ((x - cx) ** 2 + (y - cy) ** 2)) * torch.exp(1j * (2 * x * cy + y)) for cx, cy in centres]
    )
    fields = fields / fields.abs().square().sum(0).sqrt()
    texture = 1 + 0.3 * torch.cos(40 * x) * torch.sin(31 * y)
    objects = torch.where((x / 0.35) ** 2 + (y / 0.4) ** 2 <= 1, texture, 0)
    return fields.to(torch.complex64), objects, fft2c((fields * objects).to(torch.complex64))


def block_of(kspace, rows, columns):
    top, left = kspace.shape[1] // 2 - rows // 2, kspace.shape[2] // 2 - columns // 2
    return kspace[:, top : top + rows, left : left + columns]


@pytest.mark.parametrize("extent", [(24, 24), (24, 12), (15, 24), (32, 21)])
def test_finds_known_sensitivities_up_to_a_phase(extent):
    fields, objects, kspace = known_case()
    result = espirit.estimate(block_of(kspace, *extent), (ROWS, COLUMNS))
    inside = objects > 0
    overlap = torch.sum(fields.conj() * result.sensitivities, dim=0).abs()[inside]
    assert overlap.quantile(0.01) > 0.98
    assert overlap.mean() > 0.998
    assert result.eigenvalues[inside].quantile(0.01) > 0.97
    assert result.eigenvalues.max() < 1.01


def test_norm_and_smooth_phase():
    _, objects, kspace = known_case()
    result = espirit.estimate(block_of(kspace, 24, 24), (ROWS, COLUMNS))
    inside = objects > 0
    norms = result.sensitivities.abs().square().sum(0)
    torch.testing.assert_close(norms[inside], torch.ones_like(norms[inside]), atol=1e-4, rtol=0)
    steps = (result.sensitivities[:, 1:] - result.sensitivities[:, :-1]).abs().amax(0)
    assert steps[inside[1:] & inside[:-1]].max() < 0.2


@pytest.mark.parametrize("factor", [2.0**-40, 2.0**60])
def test_scale_changes_nothing(factor):
    _, _, kspace = known_case()
    block = block_of(kspace, 24, 24)
    plain, scaled = (espirit.estimate(data, (ROWS, COLUMNS)) for data in (block, block * factor))
    assert torch.equal(plain.sensitivities, scaled.sensitivities)
    assert torch.equal(plain.eigenvalues, scaled.eigenvalues)


def test_is_deterministic():
    _, _, kspace = known_case()
    first, second = (espirit.estimate(block_of(kspace, 24, 24), (ROWS, COLUMNS)) for _ in range(2))
    assert torch.equal(first.sensitivities, second.sensitivities)


def test_rows_in_chunks_give_the_same_maps(monkeypatch):
    _, _, kspace = known_case()
    whole = espirit.estimate(block_of(kspace, 24, 24), (ROWS, COLUMNS))
    monkeypatch.setattr(espirit, "_CHUNK_BYTES", 200_000)
    chunked = espirit.estimate(block_of(kspace, 24, 24), (ROWS, COLUMNS))
    torch.testing.assert_close(chunked.sensitivities, whole.sensitivities, atol=1e-3, rtol=0)


def test_batch_of_frames_with_different_coils():
    blocks = [block_of(known_case(coils=coils)[2], 24, 20) for coils in (3, 6)]
    zeros = torch.zeros(2, 20, 20, dtype=torch.complex64)
    maps = espirit.estimate_batch([blocks[0], zeros, blocks[1]], (ROWS, COLUMNS), crop=0.95)
    assert maps.shape == (11, ROWS, COLUMNS)
    assert not maps[3:5].any()
    for place, block in ((slice(0, 3), blocks[0]), (slice(5, 11), blocks[1])):
        assert torch.equal(maps[place], espirit.estimate_batch([block], (ROWS, COLUMNS), crop=0.95))
    with pytest.raises(ValueError, match="no frame"):
        espirit.estimate_batch([], (ROWS, COLUMNS), crop=0.95)


@pytest.mark.parametrize("shape", [(160, 144), (151, 193)])
def test_maps_of_a_batch_are_interpolated_without_loss(shape):
    block = block_of(known_case()[2], 24, 24)
    exact = espirit.estimate(block, shape)
    maps = espirit.estimate_batch([block], shape, crop=0.95)
    seen = (maps != 0).any(dim=0)
    sure = (exact.eigenvalues - 0.95).abs() > 0.02
    assert torch.equal(seen & sure, (exact.eigenvalues > 0.95) & sure)
    # The same phase too, not only the same direction.
    overlap = (maps * exact.sensitivities.conj()).sum(dim=0).real[seen]
    assert overlap.min() > 0.995
    assert overlap.quantile(0.01) > 0.9999
    torch.testing.assert_close(maps.abs().square().sum(dim=0)[seen], torch.ones(int(seen.sum())))


def test_data_without_use():
    zeros = torch.zeros(4, 24, 24, dtype=torch.complex64)
    with pytest.raises(ValueError, match="zero everywhere"):
        espirit.estimate(zeros, (64, 64))
    with pytest.raises(ValueError, match="does not suit"):
        espirit.estimate(zeros, (16, 64))
    with pytest.raises(ValueError, match="does not suit"):
        espirit.estimate(zeros[:, :1], (64, 64))


def test_few_patches_span_the_same_subspace_as_many_unknowns():
    """Fewer patches than samples in a patch: the other Gram matrix, the same projection."""
    block = block_of(known_case()[2], 24, 10)
    width, coils = 5, block.shape[0]
    patches = block.unfold(1, width, 1).unfold(2, width, 1).permute(1, 2, 0, 3, 4).reshape(-1, coils * width * width)
    assert patches.shape[0] < patches.shape[1]
    _, values, vectors = torch.linalg.svd(patches.to(torch.complex128), full_matrices=False)
    kept = vectors[values > 0.02 * values[0]]
    # The lag of zero holds the sum over the diagonal of the projector, coil by coil.
    projector = (kept.T @ kept.conj()).reshape(coils, width * width, coils, width * width)
    expected = torch.einsum("aibi->ab", projector).to(torch.complex64) / width**2
    lags = espirit._projection_lags(block, width, 0.02)
    torch.testing.assert_close(lags[:, :, width - 1, width - 1], expected, atol=1e-5, rtol=1e-4)
