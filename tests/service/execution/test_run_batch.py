"""The runner that every backend uses: finished images frame by frame, and what goes wrong told apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from worker_frames import frame

from recond_kernels import interruption
from recond_models import loading, registry
from recond_models.batch import CoilImages, PackedBatch, Reconstruction
from recond_models.model import UnsuitableModelError
from recond_models.note import Note
from recond_service.execution import ModelFailedError, OutOfDeviceMemoryError, device_of, run_batch
from recond_service.execution.run_batch import NOT_FINITE_NOTE
from recond_service.processes import FrameLayout
from recond_service.types import DefectError, Frame, UnsupportedDataError

DEVICE = device_of("cpu")


class Scripted:
    """A model that does what it is told."""

    def __init__(self, work: Callable[[PackedBatch], Reconstruction]) -> None:
        self.info = registry.find("rss")
        self.reconstruct = work


def packed(*frames: Frame) -> PackedBatch:
    return PackedBatch.pack([each.kspace for each in frames], [each.mask for each in frames])


def layouts(*frames: Frame, complex_image: bool = False) -> list[FrameLayout]:
    return [FrameLayout.of(each, complex_image=complex_image) for each in frames]


def test_images_are_finished_as_their_layouts_say() -> None:
    frames = [frame(4), replace(frame(2, seed=1), image_shape=(20, 60), scale=2.0**-30)]
    result = run_batch(loading.load("rss"), packed(*frames), layouts(*frames), DEVICE, kind="rss")
    images = [each.image for each in result.frames]
    assert [image.shape for image in images] == [(40, 48), (20, 60)]
    assert all(image.dtype == np.float32 for image in images)
    coils = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(frames[0].kspace, axes=(1, 2)), norm="ortho"), axes=(1, 2))
    np.testing.assert_allclose(images[0], np.sqrt((abs(coils) ** 2).sum(0)), rtol=1e-4)
    assert images[1].max() > 2.0**29
    assert [each.residual for each in result.frames] == [None, None]
    assert result.seconds > 0


def test_withdrawn_frames_have_no_result_and_the_others_theirs() -> None:
    frames = [frame(coils, seed=coils) for coils in (4, 2, 5)]
    model, batch = loading.load("rss"), packed(*frames)
    whole = run_batch(model, batch, layouts(*frames), DEVICE, kind=1)
    partly = run_batch(model, batch, layouts(*frames), DEVICE, kind=1, withdrawn=lambda number: number == 1)
    assert partly.frames[1] is None
    for number in (0, 2):
        np.testing.assert_array_equal(partly.frames[number].image, whole.frames[number].image)
    none = run_batch(model, batch, layouts(*frames), DEVICE, kind=1, withdrawn=lambda number: True)
    assert none.frames == (None, None, None)


def test_complex_images_come_out_where_they_are_asked_for() -> None:
    frames = [frame(4)]
    values = torch.complex(torch.full((1, 40, 48), 3.0), torch.full((1, 40, 48), -4.0))
    model = Scripted(lambda batch: Reconstruction(values))
    as_complex = run_batch(model, packed(*frames), layouts(*frames, complex_image=True), DEVICE, kind=1).frames[0].image
    assert as_complex.dtype == np.complex64
    np.testing.assert_array_equal(as_complex, np.full((40, 48), 3 - 4j))
    magnitude = run_batch(model, packed(*frames), layouts(*frames), DEVICE, kind=1).frames[0].image
    np.testing.assert_array_equal(magnitude, np.full((40, 48), 5.0, np.float32))


def test_what_a_model_noticed_and_its_residuals_stay_with_their_frame() -> None:
    frames = [frame(2), frame(3)]
    noticed = (), (Note("zero-coil", "A coil is zero."),)
    made = Reconstruction(torch.ones(2, 40, 48), torch.tensor([0.1, 0.2], dtype=torch.float64), noticed)
    result = run_batch(Scripted(lambda batch: made), packed(*frames), layouts(*frames), DEVICE, kind=1)
    assert [each.residual for each in result.frames] == [0.1, 0.2]
    assert tuple(each.notes for each in result.frames) == noticed


def test_units_beyond_single_precision_are_bounded_and_said() -> None:
    frames = [replace(frame(2), scale=2.0**-140)]
    made = Reconstruction(torch.ones(1, 40, 48))
    result = run_batch(Scripted(lambda batch: made), packed(*frames), layouts(*frames), DEVICE, kind=1)
    assert (result.frames[0].image == np.finfo(np.float32).max).all()
    assert result.frames[0].notes == (NOT_FINITE_NOTE,)


@pytest.mark.parametrize("coils", [False, True])
def test_pixels_that_are_no_numbers_are_a_defect_of_the_model(coils: bool) -> None:
    frames = [frame(2)]
    batch = packed(*frames)
    images = torch.full((2 if coils else 1, 40, 48), torch.nan, dtype=torch.complex64)
    made = Reconstruction(CoilImages(images, batch.layout) if coils else images)
    with pytest.raises(DefectError) as caught:
        run_batch(Scripted(lambda _: made), batch, layouts(*frames), DEVICE, kind=1)
    assert caught.value.reason == "MODEL_NOT_FINITE"


def raising(error: Exception) -> Callable[[PackedBatch], Reconstruction]:
    def work(batch: PackedBatch) -> Reconstruction:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UnsuitableModelError("one coil is not enough"), UnsupportedDataError),
        (ValueError("a bug"), ModelFailedError),
        (RuntimeError("shapes do not match"), ModelFailedError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), OutOfDeviceMemoryError),
        (MemoryError(), OutOfDeviceMemoryError),
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfDeviceMemoryError),
        (DefectError("its own words", reason="OWN"), DefectError),
    ],
)
def test_what_goes_wrong_is_told_apart(error: Exception, expected: type[Exception]) -> None:
    frames = [frame(2)]
    with pytest.raises(expected) as caught:
        run_batch(Scripted(raising(error)), packed(*frames), layouts(*frames), DEVICE, kind=1)
    if isinstance(caught.value, ModelFailedError):
        assert str(error) in caught.value.message
        assert "raise error" in caught.value.traceback
    # Nothing of the attempt is held on to: its arrays must be free before another is made.
    assert expected is not OutOfDeviceMemoryError or caught.value.__context__ is None


def test_a_model_that_gives_up_makes_nothing() -> None:
    frames = [frame(2)]
    result = run_batch(Scripted(raising(interruption.Interrupted())), packed(*frames), layouts(*frames), DEVICE, kind=1)
    assert result.frames == (None,)
