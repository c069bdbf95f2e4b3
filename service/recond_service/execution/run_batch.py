"""Runs a batch: the model, then finishing (field of view, matrix, units, magnitude), frame by frame what came of it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from recond_kernels import interruption
from recond_models.batch import CoilImages, PackedBatch, Reconstruction, Reconstructor
from recond_models.evidence import HeldOut
from recond_models.finishing import Finishing, finish, finish_deviations
from recond_models.model import UnsuitableModelError
from recond_models.note import Note
from recond_service.execution.device import Device, ran_out_of_memory
from recond_service.execution.doubts import trusted
from recond_service.processes import FrameLayout
from recond_service.types import DefectError, RecondError, UnsupportedDataError

NOT_FINITE_NOTE = Note(
    "image-not-finite",
    "Pixels that are no numbers were set to zero, those beyond single precision to its largest number.",
)


class OutOfDeviceMemoryError(Exception):
    """The memory of the device, or of the machine, did not suffice for the batch; fewer frames at once may fit."""


class ModelFailedError(DefectError):
    """A model raised what it should not. The next frame may be sound.

    Parameters
    ----------
    model
        Name of the model.
    error
        What it raised.
    """

    def __init__(self, model: str, error: Exception) -> None:
        super().__init__(
            f"{model} failed on this frame ({type(error).__name__}: {error}); report the request id to the administrator",
            reason="MODEL_FAILED",
        )
        self.traceback = "".join(traceback.format_exception(error))


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What came of a frame.

    Parameters
    ----------
    image
        The finished image (rows, columns) in the units of the measured data: float32 magnitudes, or complex64.
    residual
        ``||A x - y|| / ||y||``, None where the model does not fit the samples.
    notes
        What the model noticed.
    uncertainty
        float32 (rows, columns): standard deviation of the error of the magnitudes; None where it is not wanted.
    trial
        What held-out samples of the frame showed; None where none were held out.
    """

    image: NDArray[np.float32] | NDArray[np.complex64]
    residual: float | None
    notes: tuple[Note, ...] = ()
    uncertainty: NDArray[np.float32] | None = None
    trial: HeldOut | None = None

    def pieces(self) -> list[memoryview]:
        """Return the bytes of the image and what follows it, as `FrameLayout` says."""
        arrays = [self.image] if self.uncertainty is None else [self.image, self.uncertainty]
        return [np.ascontiguousarray(array).data.cast("B") for array in arrays]


class Answer(Protocol):
    """What goes back to the front end: bytes, and what is known beside them, as in `FrameResult`."""

    @property
    def residual(self) -> float | None: ...  # noqa: D102

    @property
    def notes(self) -> tuple[Note, ...]: ...  # noqa: D102

    @property
    def trial(self) -> HeldOut | None: ...  # noqa: D102

    def pieces(self) -> list[memoryview]:
        """Return the bytes, to be laid one after another."""
        ...


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What came of a batch.

    Parameters
    ----------
    frames
        One answer a frame, or a block of slices; None for a frame that was withdrawn before it was done.
    seconds
        Time that the model and finishing took.
    peak_bytes
        Most memory of the device that the batch took; 0 where that is not known.
    """

    frames: tuple[Answer | None, ...]
    seconds: float = 0.0
    peak_bytes: int = 0


def run_batch(
    model: Reconstructor,
    batch: PackedBatch,
    layouts: Sequence[FrameLayout],
    device: Device,
    *,
    kind: Hashable,
    input_bytes: int = 0,
    withdrawn: Callable[[int], bool] = lambda frame: False,  # noqa: ARG005 - documents the call
) -> BatchResult:
    """Reconstruct and finish the frames of a batch.

    Parameters
    ----------
    model
        The model that reconstructs them.
    batch
        The frames, on the device.
    layouts
        What the image of each frame is to be.
    device
        Where it is computed.
    kind
        Batches of a kind take the same memory.
    input_bytes
        Memory that was taken when the batch was brought to the device.
    withdrawn
        Tells whether nobody waits for a frame any more. The model stops when nobody waits for any.

    Returns
    -------
    BatchResult
        What is withdrawn meanwhile has no result; the images of the others do not depend on that.

    Raises
    ------
    OutOfDeviceMemoryError
        There was not enough memory.
    UnsupportedDataError
        The model cannot reconstruct these frames.
    ModelFailedError, DefectError
        The model failed, or made pixels that are not finite.
    """
    begun = time.perf_counter()
    no_memory = ""
    try:
        with interruption.watching(withdrawn, len(layouts)):
            interruption.checkpoint()
            frames, peak_bytes = device.run(kind, lambda: _compute(model, batch, layouts, withdrawn), input_bytes)
        return BatchResult(frames, time.perf_counter() - begun, peak_bytes)
    except interruption.Interrupted:
        return BatchResult((None,) * len(layouts))
    except RecondError:
        raise
    except UnsuitableModelError as error:
        raise UnsupportedDataError(str(error), reason="MODEL_UNSUITABLE", field="spec.model") from error
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, MemoryError, OSError) as error:
        if not ran_out_of_memory(error):
            raise ModelFailedError(model.info.name, error) from None
        no_memory = str(error) or type(error).__name__
    # Behind the handler, whose traceback holds on to the arrays of the attempt.
    raise OutOfDeviceMemoryError(no_memory)


def _compute(
    model: Reconstructor, batch: PackedBatch, layouts: Sequence[FrameLayout], withdrawn: Callable[[int], bool]
) -> tuple[FrameResult | None, ...]:
    result = trusted(model.reconstruct(batch), [layout.guarded for layout in layouts])
    wanted = [None if withdrawn(number) else _finishing(layout) for number, layout in enumerate(layouts)]
    images = finish(result, wanted, complex_images=[layout.complex_image for layout in layouts])
    uncertain = [one if layout.uncertainty else None for one, layout in zip(wanted, layouts, strict=True)]
    deviations = finish_deviations(result, uncertain)
    residuals = [None] * len(layouts) if result.residuals is None else result.residuals.tolist()
    notes = result.notes or ((),) * len(layouts)
    trials = result.trials or (None,) * len(layouts)
    frames: list[FrameResult | None] = []
    for layout, image, deviation, residual, noticed, trial in zip(
        layouts, images, deviations, residuals, notes, trials, strict=True
    ):
        if image is None:
            frames.append(None)
            continue
        told = noticed
        if not bool(torch.isfinite(torch.view_as_real(image) if image.is_complex() else image).all()):
            _require_finite(model.info.name, result)  # of what is not withdrawn: then only the units are beyond float32
            image, told = _bounded(image), (*told, NOT_FINITE_NOTE)  # noqa: PLW2901
        uncertainty = _uncertainty(layout, deviation) if layout.uncertainty else None
        frames.append(FrameResult(image.numpy(), residual, told, uncertainty, trial))
    return tuple(frames)


def _uncertainty(layout: FrameLayout, deviation: torch.Tensor | None) -> NDArray[np.float32]:
    """Return the standard deviations of an image, NaN where the model did not tell."""
    if deviation is None:
        return np.full(layout.image_shape, np.nan, np.float32)
    return torch.nan_to_num(deviation, posinf=torch.finfo(torch.float32).max).numpy()


def _finishing(layout: FrameLayout) -> Finishing:
    window = layout.window
    cut = None if window is None else (window.first_row, window.first_column, window.rows, window.columns)
    return Finishing(layout.image_shape, cut, layout.exponent)


def _require_finite(model: str, result: Reconstruction) -> None:
    """Raise DefectError unless what the model made is finite."""
    made = result.images.images if isinstance(result.images, CoilImages) else result.images
    if not bool(torch.isfinite(torch.view_as_real(made) if made.is_complex() else made).all()):
        raise DefectError(
            f"{model} made pixels that are not finite; report the request id to the administrator",
            reason="MODEL_NOT_FINITE",
        )


def _bounded(image: torch.Tensor) -> torch.Tensor:
    """Return an image whose pixels are numbers of single precision."""
    largest = torch.finfo(torch.float32).max
    if not image.is_complex():
        return torch.nan_to_num(image, nan=0.0, posinf=largest, neginf=0.0)
    parts = torch.nan_to_num(torch.view_as_real(image), nan=0.0, posinf=largest, neginf=-largest)
    return torch.view_as_complex(parts)
