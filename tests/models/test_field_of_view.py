import numpy as np
import pytest
import torch

from recond_models import loading
from recond_models.batch import PackedBatch
from recond_models.classical import field_of_view
from recond_models.finishing import magnitudes
from recond_models.sampling import centre_block
from recond_models.simulate.scan import ScanSettings, simulate

ROWS, COLUMNS, CROP = 96, 48, (48, 48)


def frame(seed=0, coils=6):
    """Readout twice as long as what is wanted, as in fastMRI's files."""
    scan = simulate(
        ScanSettings(
            coils=coils, slices=1, rows=ROWS // 2, columns=COLUMNS, acceleration=3, calibration_lines=16,
            phantom="shepp-logan", oversampling=2, seed=seed,
        )
    )  # fmt: skip
    kspace = scan.kspace.reshape(-1, *scan.kspace.shape[-2:]).astype(np.complex64)
    assert kspace.shape[1:] == (ROWS, COLUMNS)
    mask = np.broadcast_to(scan.lines, kspace.shape[1:]).copy()
    kspace = np.where(mask, kspace, np.complex64(0))
    return kspace, mask, centre_block(kspace, (ROWS, 16))


def pack(*frames, crops=()):
    return PackedBatch.pack(*(list(part) for part in zip(*frames, strict=True)), crops=crops)


def test_shortened_frames_have_the_rows_that_are_wanted():
    batch = pack(frame(), crops=(CROP,))
    trimmed, first = field_of_view.trim(batch)
    kept = trimmed.kspace.shape[1]
    assert CROP[0] <= kept < ROWS
    assert first == ROWS // 2 - kept // 2
    whole = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(batch.kspace, dim=(1, 2)), norm="ortho"), dim=(1, 2))
    part = torch.fft.fftshift(
        torch.fft.ifft2(torch.fft.ifftshift(trimmed.kspace, dim=(1, 2)), norm="ortho"), dim=(1, 2)
    )
    torch.testing.assert_close(part, whole[:, first : first + kept], atol=1e-5, rtol=1e-4)
    restored = field_of_view.untrim(part, ROWS, first)
    assert restored.shape == whole.shape
    torch.testing.assert_close(restored[:, first : first + kept], part)


@pytest.mark.parametrize("name", ["cg-sense", "l1-wavelet", "tv"])
def test_what_is_wanted_is_the_same_with_and_without_the_rest(name):
    model = loading.load(name)
    one = frame()
    rows = slice((ROWS - CROP[0]) // 2, (ROWS + CROP[0]) // 2)
    whole = magnitudes(model.reconstruct(pack(one)))[0, rows]
    trimmed = magnitudes(model.reconstruct(pack(one, crops=(CROP,))))
    assert trimmed.shape == (1, ROWS, COLUMNS)
    assert not trimmed[0, 0].any()
    difference = (trimmed[0, rows] - whole).square().mean().sqrt()
    assert difference < 0.02 * whole.max()


def test_frames_that_cannot_be_shortened_stay_as_they_are():
    kspace, mask, block = frame()
    points = mask.copy()
    points[5, :4] ^= True
    for batch in (
        pack((kspace, mask, block)),
        pack((kspace, mask, block), crops=(None,)),
        pack((kspace, mask, block), crops=((ROWS, COLUMNS),)),
        pack((kspace, points, block), crops=(CROP,)),
        pack((kspace, mask, block[:, 30:60]), crops=(CROP,)),
    ):
        trimmed, first = field_of_view.trim(batch)
        assert trimmed is batch
        assert first == 0


def test_crops_that_differ_are_not_alike():
    one, two = frame(0), frame(1)
    assert field_of_view.are_alike(pack(one, two))
    assert field_of_view.are_alike(pack(one, two, crops=(CROP, CROP)))
    assert not field_of_view.are_alike(pack(one, two, crops=(CROP, None)))
    points = (two[0], two[1] ^ (np.arange(COLUMNS) == 3) & (np.arange(ROWS)[:, None] == 2), two[2])
    assert not field_of_view.are_alike(pack(one, points, crops=(CROP, CROP)))
