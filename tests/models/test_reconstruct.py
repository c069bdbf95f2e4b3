"""The classical models on simulated heads: quality, scale, independence of the batch, and bad data."""

import numpy as np
import pytest
import torch

from recond_models import loading, metrics, per_frame
from recond_models.batch import PackedBatch
from recond_models.finishing import magnitudes
from recond_models.model import UnsuitableModelError
from recond_models.sampling import centre_block
from recond_models.simulate.scan import ScanSettings, simulate

NAMES = ["rss", "cg-sense", "l1-wavelet", "tv"]
FITTING = ["cg-sense", "l1-wavelet", "tv"]


def frames_of(calibration_lines=16, **settings):
    """Return k-space (slices, coils, rows, columns), mask, calibration block and truth of a scan without oversampling."""
    scan = simulate(
        ScanSettings(
            **{
                "rows": 96,
                "columns": 88,
                "slices": 1,
                "oversampling": 1,
                "calibration_lines": calibration_lines,
                **settings,
            }
        )
    )
    mask = np.broadcast_to(scan.lines, scan.kspace.shape[-2:]).copy()
    extent = (24, calibration_lines)
    blocks = [centre_block(kspace, extent) if calibration_lines else None for kspace in scan.kspace]
    return scan.kspace, mask, blocks, scan.truth


def batch_of(**settings):
    kspace, mask, blocks, truth = frames_of(**settings)
    return PackedBatch.pack(list(kspace), [mask] * len(kspace), blocks), truth


@pytest.fixture(scope="module")
def undersampled():
    return batch_of(acceleration=3, noise=0.005)


@pytest.mark.parametrize("name", NAMES)
def test_fully_sampled_data_give_the_root_sum_of_squares(name):
    batch, truth = batch_of(acceleration=1, noise=0)
    result = loading.load(name).reconstruct(batch)
    assert magnitudes(result).dtype == torch.float32
    assert magnitudes(result).shape == truth.shape
    bright = truth > 0.2 * truth.max()
    # Tikhonov and l1 terms shrink a little, maps are cropped; the rss itself is exact.
    tolerance = 1e-5 if name == "rss" else 0.02
    ratio = magnitudes(result).numpy()[bright] / truth[bright]
    assert np.abs(ratio - 1).mean() < tolerance


def test_better_models_are_better(undersampled):
    batch, truth = undersampled
    images = {name: magnitudes(loading.load(name).reconstruct(batch)).numpy() for name in NAMES}
    ssim = {name: metrics.ssim(truth, image) for name, image in images.items()}
    psnr = {name: metrics.psnr(truth, image) for name, image in images.items()}
    assert ssim["rss"] + 0.1 < ssim["cg-sense"] < ssim["l1-wavelet"]
    assert psnr["rss"] + 6 < psnr["cg-sense"] < psnr["l1-wavelet"]
    assert ssim["rss"] + 0.1 < ssim["tv"]
    assert psnr["cg-sense"] < psnr["tv"]
    assert ssim["l1-wavelet"] > 0.93
    assert psnr["l1-wavelet"] > 38


@pytest.mark.parametrize(
    ("name", "ssim", "psnr"), [("cg-sense", 0.86, 33.2), ("l1-wavelet", 0.952, 38.8), ("tv", 0.96, 39.8)]
)
def test_quality_on_the_head_of_the_demo(name, ssim, psnr):
    batch, truth = batch_of(rows=256, columns=256, calibration_lines=24, acceleration=4)
    image = magnitudes(loading.load(name).reconstruct(batch)).numpy()
    assert metrics.ssim(truth, image) > ssim
    assert metrics.psnr(truth, image) > psnr


@pytest.mark.parametrize("name", FITTING)
def test_images_fit_the_samples(undersampled, name):
    batch, _ = undersampled
    result = loading.load(name).reconstruct(batch)
    assert result.residuals.dtype == torch.float64
    assert result.residuals.shape == (1,)
    assert 0.001 < result.residuals.item() < 0.1


def test_rss_fits_nothing(undersampled):
    assert loading.load("rss").reconstruct(undersampled[0]).residuals is None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [1e-6, 3e5, 1e12, 2.0**-60, 2.0**50])
def test_scale_of_the_input_changes_the_scale_of_the_image_only(name, factor):
    kspace, mask, blocks, _ = frames_of(rows=48, columns=48, acceleration=2, coils=4)
    model = loading.load(name)
    plain = model.reconstruct(PackedBatch.pack([kspace[0]], [mask], blocks))
    large = np.float32(factor)
    scaled = model.reconstruct(PackedBatch.pack([kspace[0] * large], [mask], [blocks[0] * large]))
    expected, found = magnitudes(plain).double() * float(large), magnitudes(scaled).double()
    if np.frexp(factor)[0] == 0.5:
        assert torch.equal(found, expected)
    else:
        assert torch.linalg.vector_norm(found - expected) < 1e-4 * torch.linalg.vector_norm(expected)


@pytest.mark.parametrize("name", NAMES)
def test_calibration_data_of_another_scale(name):
    kspace, mask, blocks, _ = frames_of(rows=48, columns=48, acceleration=2, coils=4)
    model = loading.load(name)
    images = [
        magnitudes(model.reconstruct(PackedBatch.pack([kspace[0]], [mask], [blocks[0] * s]))) for s in (1, 2.0**30)
    ]
    assert torch.equal(*images)


@pytest.mark.parametrize("name", NAMES)
def test_a_frame_does_not_depend_on_its_batch(name):
    first, mask, first_block, _ = frames_of(rows=48, columns=48, acceleration=2, coils=4)
    second, _, second_block, _ = frames_of(rows=48, columns=48, acceleration=2, coils=6, seed=3)
    third = 1e6 * second[:, :5]
    model = loading.load(name)
    alone = model.reconstruct(PackedBatch.pack([first[0]], [mask], first_block))
    together = model.reconstruct(
        PackedBatch.pack(
            [second[0], first[0], third[0]], [mask] * 3, [second_block[0], first_block[0], second_block[0][:5]]
        )
    )
    difference = torch.linalg.vector_norm(magnitudes(together)[1] - magnitudes(alone)[0])
    assert difference <= 1e-6 * torch.linalg.vector_norm(magnitudes(alone)[0])
    if alone.residuals is not None:
        torch.testing.assert_close(together.residuals[1], alone.residuals[0], rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", FITTING)
def test_all_frames_at_once_as_on_a_gpu(name, monkeypatch):
    kspace, mask, blocks, _ = frames_of(rows=48, columns=48, acceleration=2, coils=6)
    scattered = mask & (np.random.default_rng(0).random(mask.shape) < 0.7)
    scattered[12:36, 16:32] = True
    batch = PackedBatch.pack(
        [kspace[0], kspace[0, :3], 1e3 * np.where(scattered, kspace[0], 0)],
        [mask, mask, scattered],
        [blocks[0], blocks[0][:3], blocks[0]],
    )
    model = loading.load(name)
    apart = model.reconstruct(batch)
    monkeypatch.setattr(per_frame, "split", lambda batch: [batch])
    together = model.reconstruct(batch)
    for one, other in zip(magnitudes(apart), magnitudes(together), strict=True):
        assert torch.linalg.vector_norm(one - other) <= 1e-5 * torch.linalg.vector_norm(one)
    torch.testing.assert_close(apart.residuals, together.residuals, rtol=1e-5, atol=0)


def test_frames_per_frame_keep_order_errors_and_threads():
    batches = per_frame.split(batch_of(rows=48, columns=48, slices=3)[0])
    before = torch.get_num_threads()
    assert per_frame.map_parallel(lambda part: part.kspace.abs().sum().item(), batches) == [
        part.kspace.abs().sum().item() for part in batches
    ]
    assert all(per_frame.map_parallel(lambda _: torch.is_inference_mode_enabled(), batches))
    assert torch.get_num_threads() == before

    def fail(part):
        raise ArithmeticError(len(part))

    with pytest.raises(ArithmeticError, match="1"):
        per_frame.map_parallel(fail, batches)


@pytest.mark.parametrize("name", NAMES)
def test_same_frame_same_image_and_the_batch_is_not_changed(undersampled, name):
    batch, _ = undersampled
    before = batch.kspace.clone(), batch.calibrations[0].clone()
    images = [magnitudes(loading.load(name).reconstruct(batch)) for _ in range(2)]
    assert torch.equal(*images)
    assert torch.equal(batch.kspace, before[0])
    assert torch.equal(batch.calibrations[0], before[1])


@pytest.mark.parametrize("name", NAMES)
def test_all_zero_slice_beside_a_real_one(name):
    kspace, mask, blocks, _ = frames_of(rows=48, columns=48, acceleration=2, coils=4)
    batch = PackedBatch.pack([0 * kspace[0], kspace[0]], [mask] * 2, [0 * blocks[0], blocks[0]])
    result = loading.load(name).reconstruct(batch)
    assert torch.equal(magnitudes(result)[0], torch.zeros(48, 48))
    assert torch.isfinite(magnitudes(result)).all()
    assert magnitudes(result)[1].max() > 0
    if result.residuals is not None:
        assert result.residuals[0] == 0


@pytest.mark.parametrize("name", FITTING)
def test_frame_without_samples_but_with_calibration(name):
    kspace, mask, blocks, _ = frames_of(rows=48, columns=48, acceleration=2, coils=4)
    result = loading.load(name).reconstruct(PackedBatch.pack([kspace[0]], [np.zeros_like(mask)], blocks))
    assert torch.equal(magnitudes(result), torch.zeros(1, 48, 48))


def test_samples_outside_the_mask_are_ignored():
    kspace, mask, _, _ = frames_of(rows=48, columns=48, acceleration=2, coils=4)
    dirty = np.where(mask, kspace[0], np.complex64(complex("nan")))
    model = loading.load("rss")
    clean, ignored = (magnitudes(model.reconstruct(PackedBatch.pack([data], [mask]))) for data in (kspace[0], dirty))
    assert torch.equal(clean, ignored)


@pytest.mark.parametrize("name", FITTING)
@pytest.mark.parametrize(("extent", "coils"), [(None, 4), ((24, 6), 4), ((24, 16), 1)])
def test_calibration_that_is_not_enough(name, extent, coils):
    kspace, mask, _, _ = frames_of(rows=48, columns=48, acceleration=2, coils=coils)
    block = None if extent is None else centre_block(kspace[0], extent)
    with pytest.raises(UnsuitableModelError, match=f"{name} needs two coils or more.*use the model rss"):
        loading.load(name).reconstruct(PackedBatch.pack([kspace[0]], [mask], [block]))


@pytest.mark.parametrize("name", FITTING)
def test_smallest_calibration_and_odd_sizes(name):
    kspace, mask, _, truth = frames_of(rows=61, columns=53, acceleration=2, coils=8, calibration_lines=8, noise=0.002)
    block = centre_block(kspace[0], (8, 8))
    image = magnitudes(loading.load(name).reconstruct(PackedBatch.pack([kspace[0]], [mask], [block]))).numpy()
    assert metrics.ssim(truth, image) > 0.8


def test_rss_with_a_single_coil():
    batch, truth = batch_of(coils=1, acceleration=1, noise=0)
    np.testing.assert_allclose(
        magnitudes(loading.load("rss").reconstruct(batch)).numpy(), truth, atol=1e-5 * truth.max()
    )


def test_packing():
    generator = np.random.default_rng(0)
    kspaces = [generator.standard_normal((coils, 4, 6)).astype(np.complex64) for coils in (2, 3)]
    batch = PackedBatch.pack(kspaces, [np.ones((4, 6), dtype=bool)] * 2)
    assert len(batch) == 2
    assert batch.coil_offsets.tolist() == [0, 2, 5]
    assert batch.kspace.shape == (5, 4, 6)
    assert batch.calibrations == (None, None)
    np.testing.assert_array_equal(batch.kspace[2:].numpy(), kspaces[1])


@pytest.mark.parametrize(
    ("kspaces", "masks", "calibrations", "message"),
    [
        ([], [], None, "at least one frame"),
        ([(2, 4, 6), (2, 4, 5)], [(4, 6), (4, 5)], None, "same rows and columns"),
        ([(2, 4, 6)], [(4, 5)], None, "masks have the shape"),
        ([(2, 4, 6)], [(4, 6)], [(3, 2, 2)], "has 3 coils, its frame has 2"),
        ([(2, 4, 6)], [(4, 6)], [(2, 2)], "3 axes"),
        ([(2, 4, 6)], [(4, 6)], [None, None], "2 calibrations for 1 frames"),
        ([(0, 4, 6)], [(4, 6)], None, "at least one coil"),
    ],
)
def test_arrays_that_do_not_fit(kspaces, masks, calibrations, message):
    blocks = (
        None if calibrations is None else [None if c is None else np.zeros(c, dtype=np.complex64) for c in calibrations]
    )
    with pytest.raises(ValueError, match=message):
        PackedBatch.pack(
            [np.zeros(shape, dtype=np.complex64) for shape in kspaces],
            [np.ones(shape, dtype=bool) for shape in masks],
            blocks,
        )


def test_types_that_do_not_fit():
    with pytest.raises(ValueError, match="complex64"):
        PackedBatch.pack([np.zeros((1, 4, 4))], [np.ones((4, 4), dtype=bool)])
    with pytest.raises(ValueError, match="bool"):
        PackedBatch.pack([np.zeros((1, 4, 4), dtype=np.complex64)], [np.ones((4, 4), dtype=np.int64)])


@pytest.mark.parametrize("extent", [(3, 4), (4, 3), (5, 6)])
def test_centre_block_keeps_the_origin(extent):
    kspace = np.zeros((1, 9, 8), dtype=np.complex64)
    kspace[0, 4, 4] = 1
    block = centre_block(kspace, extent)
    assert block.shape == (1, *extent)
    assert block[0, extent[0] // 2, extent[1] // 2] == 1


@pytest.mark.parametrize("extent", [(0, 4), (10, 4), (4, 9)])
def test_centre_block_that_does_not_exist(extent):
    with pytest.raises(ValueError, match="no centred block"):
        centre_block(np.zeros((1, 9, 8), dtype=np.complex64), extent)
