"""A small frame that any model can reconstruct: only an image proves that a server works."""

from __future__ import annotations

import numpy as np

from recond_models.contract import Range
from recond_models.model import ModelInfo
from recond_service.backends.backend import FrameInput
from recond_service.processes import FrameLayout
from recond_service.types import Frame, FrameIndex

_ROWS, _COLUMNS, _COILS, _CALIBRATION = 64, 64, 4, 16


def probe_frame(info: ModelInfo) -> FrameInput:
    """Return a fully sampled disc, 4 coils of 64 x 64, or as near to that as the contract of the model allows. Close its block."""
    contract = info.contract
    rows = _within(_ROWS, None if contract is None else contract.rows)
    columns = _within(_COLUMNS, None if contract is None else contract.columns)
    coils = _within(_COILS, None if contract is None else contract.coils)
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    disc = (x**2 + y**2 < 0.5).astype(np.float64)
    angles = 2 * np.pi * np.arange(coils) / coils
    sensitivities = np.exp(
        -((x - np.cos(angles)[:, None, None]) ** 2 + (y - np.sin(angles)[:, None, None]) ** 2) / 2
        + 1j * angles[:, None, None]
    )
    images = np.fft.ifftshift(disc * sensitivities, axes=(1, 2))
    kspace = np.fft.fftshift(np.fft.fft2(images, norm="ortho"), axes=(1, 2)).astype(np.complex64)
    frame = Frame(
        index=FrameIndex(),
        kspace=kspace,
        mask=np.ones((rows, columns), np.bool_),
        calibration_extent=(min(_CALIBRATION, rows), min(_CALIBRATION, columns)),
        scale=1.0,
        image_shape=(rows, columns),
    )
    layout = FrameLayout.of(frame)
    return FrameInput(layout, layout.store(frame))


def _within(size: int, limits: Range | None) -> int:
    return size if limits is None else int(min(max(size, limits[0]), limits[1]))
