"""Frames as the scheduler hands them to model servers."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from recond_models import loading
from recond_models.batch import PackedBatch
from recond_models.finishing import magnitudes
from recond_models.model import ModelInfo
from recond_models.sampling import centre_block
from recond_service.backends import Batch, ComputedFrame, FrameInput
from recond_service.processes import FrameLayout
from recond_service.types import Frame, FrameIndex

CALIBRATION = 16


def frame(coils: int = 4, rows: int = 40, columns: int = 48, seed: int = 0) -> Frame:
    """Return a frame of noise that falls off from the centre of k-space; every third line and the middle are measured."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal((coils, rows, columns)) + 1j * random.standard_normal((coils, rows, columns))
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    mask = np.zeros((rows, columns), np.bool_)
    mask[:, ::3] = True
    mask[:, columns // 2 - CALIBRATION // 2 :][:, :CALIBRATION] = True
    kspace = (noise / (0.02 + y**2 + x**2) * mask).astype(np.complex64)
    return Frame(FrameIndex(), kspace, mask, (CALIBRATION, CALIBRATION), 1.0, (rows, columns))


def frame_input(frame: Frame) -> FrameInput:
    layout = FrameLayout.of(frame)
    return FrameInput(layout, layout.store(frame))


def batch_of(info: ModelInfo, *frames: Frame, seconds: float = 0.0) -> Batch:
    return Batch(info, tuple(map(frame_input, frames)), predicted_seconds=seconds)


def directly(name: str, *frames: Frame) -> np.ndarray:
    """Return float32 (frames, rows, columns): what a model makes of frames in this process."""
    packed = PackedBatch.pack(
        [frame.kspace for frame in frames],
        [frame.mask for frame in frames],
        [centre_block(frame.kspace, frame.calibration_extent) for frame in frames],
    )
    return magnitudes(loading.load(name).reconstruct(packed)).numpy()


def pixels(computed: ComputedFrame | None, frame: Frame) -> np.ndarray:
    """Return float32 (rows, columns), and close the block."""
    assert computed is not None
    with computed.image as image:
        return image.array(np.float32, frame.mask.shape).copy()


def open_files(pid: int | str = "self") -> list[str]:
    """Return what the descriptors of a process lead to."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(str(entry.readlink()))
    return found
