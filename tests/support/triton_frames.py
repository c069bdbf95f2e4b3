"""Frames for Triton servers, and what this process makes of them."""

from __future__ import annotations

import numpy as np

from recond_models import loading, registry
from recond_models.batch import PackedBatch
from recond_models.finishing import magnitudes
from recond_models.simulate.scan import ScanSettings, simulate
from recond_service.backends import Batch, BatchOutcome, FrameInput
from recond_service.processes import FrameLayout
from recond_service.types import Frame, FrameIndex


def frame(coils: int, rows: int = 96, columns: int = 80, *, apart: bool = False, seed: int = 0) -> Frame:
    scan = simulate(
        ScanSettings(
            *(coils, 1, rows, columns),
            acceleration=3,
            calibration_lines=20,
            phantom="shepp-logan",
            oversampling=1,
            seed=seed,
        )
    )
    kspace = scan.kspace.reshape(-1, rows, columns).astype(np.complex64)
    mask = np.broadcast_to(scan.lines, kspace.shape[1:]).copy()
    kspace *= mask
    lines = int(scan.calibration.sum())
    block = (
        kspace[:, rows // 2 - 12 : rows // 2 + 12, columns // 2 - lines // 2 :][:, :, :lines].copy() if apart else None
    )
    return Frame(
        index=FrameIndex(),
        kspace=kspace,
        mask=mask,
        calibration_extent=(rows, lines),
        scale=1.0,
        image_shape=(rows, columns),
        calibration=block,
    )


def batch_of(frames: list[Frame], model: str, predicted_seconds: float = 0.1) -> Batch:
    layouts = [FrameLayout.of(frame) for frame in frames]
    inputs = tuple(FrameInput(layout, layout.store(frame)) for layout, frame in zip(layouts, frames, strict=True))
    return Batch(registry.find(model), inputs, predicted_seconds=predicted_seconds)


def here(batch: Batch) -> np.ndarray:
    """Reconstruct a batch in this process."""
    arrays = [frame.layout.arrays(frame.block) for frame in batch.frames]
    packed = PackedBatch.pack(
        [kspace for kspace, _, _ in arrays],
        [mask for _, mask, _ in arrays],
        [calibration for _, _, calibration in arrays],
        [frame.layout.crop for frame in batch.frames],
    )
    return magnitudes(loading.load(batch.model.name).reconstruct(packed)).numpy()


def images(outcome: BatchOutcome, rows: int = 96, columns: int = 80) -> np.ndarray:
    assert all(computed is not None for computed in outcome.frames)
    return np.stack([computed.image.array(np.float32, (rows, columns)) for computed in outcome.frames])


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
