"""Order, references and figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from raw_builders import added, file_part

from recond_models import metrics, object_metrics
from recond_service.fourier import image_to_kspace, kspace_to_image
from recond_service.results import ResultWriter
from recond_service.types import (
    DefectError,
    FindingList,
    Frame,
    FrameIndex,
    Geometry,
    InvalidInputError,
    LimitExceededError,
    Limits,
    PartFormat,
    PartRole,
    ScanRequest,
)

RNG = np.random.default_rng(0)


def frame(shape: tuple[int, int] = (16, 12), **changes: object) -> Frame:
    made = Frame(
        index=FrameIndex(),
        kspace=np.zeros((0, 0, 0), np.complex64),
        mask=np.zeros((0, 0), np.bool_),
        calibration_extent=(0, 0),
        scale=1.0,
        image_shape=shape,
    )
    return replace(made, **changes)


def at(z: float) -> Geometry:
    return Geometry((0.0, 0.0, z), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 3.0))


def volume(images: int = 3, shape: tuple[int, int] = (16, 12)) -> np.ndarray:
    return RNG.random((images, *shape)).astype(np.float32)


def writer(request: ScanRequest | None = None) -> tuple[ResultWriter, FindingList]:
    findings = FindingList()
    return ResultWriter(request or ScanRequest(), findings), findings


@pytest.mark.parametrize("shape", [(4, 5), (7, 8)])
def test_fourier_transforms_are_centred_orthonormal_inverses(shape: tuple[int, int]) -> None:
    values = RNG.standard_normal(shape) + 1j * RNG.standard_normal(shape)
    np.testing.assert_allclose(image_to_kspace(kspace_to_image(values)), values)
    rows, columns = (
        np.exp(2j * np.pi * np.outer(np.arange(n) - n // 2, np.arange(n) - n // 2) / n) / np.sqrt(n) for n in shape
    )
    np.testing.assert_allclose(kspace_to_image(values), rows @ values @ columns.T, atol=1e-12)


def test_slices_are_sorted_by_position_within_volumes() -> None:
    results, _ = writer()
    images = volume(6)
    order = [(0, 1, 20.0), (1, 1, 0.0), (2, 1, 10.0), (0, 0, 20.0), (1, 0, 0.0), (2, 0, 10.0)]
    for number, (index, repetition, z) in enumerate(order):
        added(
            results, number, frame(index=FrameIndex(slice=index, repetition=repetition), geometry=at(z)), images[number]
        )
    summary = results.finish([None] * 6, "rss", "1")
    assert summary.order == (4, 5, 3, 1, 2, 0)
    assert summary.shape == (6, 16, 12)


def test_slices_without_geometry_are_sorted_by_number() -> None:
    results, _ = writer()
    for number, index in enumerate((2, 0, 1)):
        added(results, number, frame(index=FrameIndex(slice=index)), volume(1)[0])
    assert results.finish([None] * 3, "rss", "1").order == (1, 2, 0)


def test_images_may_come_in_any_order() -> None:
    results, _ = writer()
    frames = [frame(index=FrameIndex(slice=number)) for number in range(3)]
    for number, each in enumerate(frames):
        results.announce(number, each)
    for number in (2, 0, 1):
        results.add(number, frames[number], volume(1)[0])
    assert results.finish([None] * 3, "rss", "1").order == (0, 1, 2)


def test_references_of_frames_are_scored_in_the_order_of_the_volume() -> None:
    results, _ = writer()
    images, references = volume(2), volume(2)
    for number, z in enumerate((5.0, 0.0)):
        added(
            results,
            number,
            frame(
                index=FrameIndex(slice=number),
                geometry=at(z),
                reference=references[number],
                reference_source="file",
            ),
            images[number],
        )
    summary = results.finish([0.3, 0.4], "cg-sense", "1")
    figures = summary.figures
    assert summary.reference_source == "file"
    assert figures.ssim == metrics.ssim(references[::-1], images[::-1])
    assert figures.psnr == metrics.psnr(references, images)
    assert figures.nmse == metrics.nmse(references, images)
    within = object_metrics.inside_object(references, images)
    assert figures.ssim_object == pytest.approx(within.ssim, rel=1e-12)
    assert figures.psnr_object == pytest.approx(within.psnr, rel=1e-12)
    assert figures.nmse_object == pytest.approx(within.nmse, rel=1e-12)
    assert figures.data_consistency_residual == pytest.approx(np.sqrt((0.09 + 0.16) / 2))
    assert figures.noise_level == metrics.noise_level(images[::-1])


def reference_request(path: Path, images: np.ndarray, **fields: object) -> ScanRequest:
    images.astype(np.float32).tofile(path)
    return ScanRequest(parts=(file_part(path, PartRole.REFERENCE, PartFormat.ARRAY, images.shape),), **fields)


def test_a_reference_that_was_sent_is_in_the_order_of_the_volume_and_outlives_its_part(tmp_path: Path) -> None:
    references, images = volume(2), volume(2)
    results, _ = writer(reference_request(tmp_path / "r", references))
    (tmp_path / "r").unlink()
    for number, z in enumerate((5.0, 0.0)):
        added(results, number, frame(geometry=at(z), index=FrameIndex(slice=number)), images[number])
    summary = results.finish([None, None], "rss", "1")
    assert summary.reference_source == "reference file"
    assert summary.figures.nmse == metrics.nmse(references, images[::-1])


def test_whitened_images_are_brought_to_the_units_of_a_reference_that_was_sent(tmp_path: Path) -> None:
    images = volume(2)
    results, findings = writer(reference_request(tmp_path / "r", images * 1e-5))
    for number in range(2):
        added(results, number, frame(index=FrameIndex(slice=number), whitened=True), images[number])
    figures = results.finish([None, None], "rss", "1").figures
    assert figures.nmse == pytest.approx(0, abs=1e-12)
    assert "images-scaled-to-reference" in findings


@pytest.mark.parametrize("shape", [(2, 16, 13), (3, 16, 12)])
def test_a_reference_of_another_shape_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    results, _ = writer(reference_request(tmp_path / "r", np.ones(shape)))

    def run() -> None:
        for number in range(2):
            added(results, number, frame(index=FrameIndex(slice=number)), volume(1)[0])
        results.finish([None, None], "rss", "1")

    with pytest.raises(InvalidInputError) as caught:
        run()
    assert caught.value.reason == "REFERENCE_SHAPE"
    assert caught.value.field == "reference"


def test_a_reference_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    images = np.ones((2, 16, 12))
    images[1, 3, 4] = np.nan
    with pytest.raises(InvalidInputError, match=r"r\[1\]"):
        writer(reference_request(tmp_path / "r", images))


def test_a_reference_of_zeros_gives_no_figures() -> None:
    results, findings = writer()
    added(results, 0, frame(reference=np.zeros((16, 12), np.float32), reference_source="file"), volume(1)[0])
    figures = results.finish([None], "rss", "1").figures
    assert (figures.ssim, figures.psnr, figures.nmse) == (None, None, None)
    assert figures.noise_level is not None
    assert "reference-unusable" in findings


def test_the_noise_floor_of_a_reference_is_told() -> None:
    generator = np.random.default_rng(6)
    truth = np.zeros((64, 64), np.float32)
    truth[20:44, 20:44] = 0.7 + 0.3 * generator.random((24, 24), dtype=np.float32)
    coils = truth / np.sqrt(8) + 0.006 * (generator.normal(size=(8, 64, 64)) + 1j * generator.normal(size=(8, 64, 64)))
    noisy = np.sqrt((np.abs(coils) ** 2).sum(axis=0)).astype(np.float32)
    for reference, image, expected in ((noisy, truth, True), (truth, noisy, False), (truth, truth, False)):
        results, findings = writer()
        added(results, 0, frame((64, 64), reference=reference, reference_source="file"), image)
        figures = results.finish([None], "rss", "1").figures
        assert ("reference-noise-floor" in findings) is expected
        assert figures.ssim_object is not None
        assert figures.ssim_object > 0.97
    results, findings = writer()
    added(results, 0, frame((64, 64), reference=noisy, reference_source="file"), truth)
    figures = results.finish([None], "rss", "1").figures
    assert figures.ssim is not None
    assert figures.ssim < 0.7
    [told] = [finding for finding in findings if finding.code == "reference-noise-floor"]
    assert told.message.startswith("SSIM over the picture is ruled by the noise floor of the reference (2.")
    assert "0.0% in the images): look at the figures in the object." in told.message


def test_a_reference_without_an_object_has_figures_over_the_picture_alone() -> None:
    results, findings = writer()
    reference = np.zeros((16, 16), np.float32)
    reference[8, 8] = 1
    added(results, 0, frame((16, 16), reference=reference, reference_source="file"), volume(1, (16, 16))[0])
    figures = results.finish([None], "rss", "1").figures
    assert figures.nmse is not None
    assert figures.ssim_object is None
    assert "object-not-found" in findings


def test_small_images_give_no_figures() -> None:
    results, findings = writer()
    added(
        results,
        0,
        frame((6, 6), reference=np.ones((6, 6), np.float32), reference_source="file"),
        np.ones((6, 6), np.float32),
    )
    figures = results.finish([None], "rss", "1").figures
    assert (figures.ssim, figures.noise_level) == (None, None)
    assert "image-too-small" in findings


def test_a_perfect_image_has_no_psnr() -> None:
    results, _ = writer()
    image = volume(1)[0]
    added(results, 0, frame(reference=image, reference_source="file"), image)
    figures = results.finish([None], "rss", "1").figures
    assert figures.ssim == pytest.approx(1)
    assert figures.psnr is None


def test_images_of_zeros_are_scored_without_warnings() -> None:
    results, _ = writer()
    added(results, 0, frame(), np.zeros((16, 12), np.float32))
    figures = results.finish([None], "rss", "1").figures
    assert figures.noise_level == 0
    assert figures.data_consistency_residual is None


def test_images_are_bounded() -> None:
    results, _ = writer(ScanRequest(limits=Limits(max_scan_bytes=2 * 16 * 12 * 4)))
    for number in range(2):
        added(results, number, frame(), volume(1)[0])
    with pytest.raises(LimitExceededError):
        added(results, 2, frame(), volume(1)[0])


def test_the_order_of_calls_matters(tmp_path: Path) -> None:
    results, _ = writer()
    with pytest.raises(DefectError):
        results.finish([], "rss", "1")
