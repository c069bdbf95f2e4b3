"""How long models take, measured on frames made up for that before the first real one comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import structlog
import torch
from numpy.typing import NDArray

from recond_models import registry
from recond_models.batch import PackedBatch, Reconstructor
from recond_models.heads.framing import MULTIPLE, Framing
from recond_models.heads.head import Head
from recond_models.model import ModelInfo, UnknownModelError
from recond_models.sampling import centre_block
from recond_service.backends.backend import Measurement
from recond_service.backends.embedded.models import LoadedModels
from recond_service.backends.embedded.options import WarmUp
from recond_service.execution import Device, ran_out_of_memory
from recond_service.types import RecondError

_log = structlog.get_logger(__name__)

_COILS, _ROWS, _COLUMNS = 4, 80, 64  # of the frame on which every model is measured
_CALIBRATION, _ACCELERATION = 24, 4
_BATCHES = (1, 2, 4)
_CLASSICAL_SECONDS = 0.2
"""Of the measurements of classical models together: what takes longer is left to the first requests."""


def measure_loaded(models: LoadedModels, device: Device, infos: Sequence[ModelInfo]) -> list[Measurement]:
    """Time a small frame on every model that is in memory, and on classical models while that takes little time in all.

    Parameters
    ----------
    models
        The models of the worker.
    device
        Where they compute.
    infos
        The models to measure.
    """
    found = []
    spent = 0.0
    for info in sorted(infos, key=lambda info: info.kind == "classical"):
        if info.kind == "classical" and spent > _CLASSICAL_SECONDS:
            break
        begun = time.perf_counter()
        rows, columns = (MULTIPLE * -(-side // MULTIPLE) if info.kind == "head" else side for side in (_ROWS, _COLUMNS))
        found += _measured(models, device, info, [_COILS], rows, columns)
        spent += time.perf_counter() - begun if info.kind == "classical" else 0.0
    return found


def warm_up(models: LoadedModels, device: Device, entries: Sequence[str]) -> list[Measurement]:
    """Run the frames that a worker is to be made ready for, in batches of 1, 2 and 4. What cannot be run is logged and left out.

    Parameters
    ----------
    models
        The models of the worker.
    device
        Where they compute.
    entries
        As for `WarmUp.parse`.
    """
    found = []
    for text in entries:
        try:
            entry = WarmUp.parse(text)
            info = registry.find(entry.model)
        except (ValueError, UnknownModelError) as error:
            _log.error("warm-up-refused", entry=text, problem=str(error.args[0]))
            continue
        for size in _BATCHES:
            measured = _measured(models, device, info, [entry.coils] * size, entry.rows, entry.columns)
            if not measured:
                break
            found += measured
    return found


def _measured(
    models: LoadedModels, device: Device, info: ModelInfo, coils: list[int], rows: int, columns: int
) -> list[Measurement]:
    """Return the time of a batch, without what its first runs take longer; nothing if it cannot be run."""
    try:
        run = _work(models.get(info.name, info.version, info.weights_sha256), coils, rows, columns)
        kind = (info.name, info.version, rows, columns, tuple(coils))
        _, peak_bytes = device.run(kind, run, 0)
        for _ in range(1, device.first_runs):
            run()
        begun = time.perf_counter()
        run()
        seconds = time.perf_counter() - begun
    except (RecondError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, MemoryError) as error:
        _log.error(
            "warm-up-failed",
            model=info.name,
            frame=f"{coils[0]}x{rows}x{columns}",
            frames=len(coils),
            problem=str(error) or type(error).__name__,
        )
        if ran_out_of_memory(error):
            device.recover()
        return []
    return [Measurement(info.name, info.version, info.weights_sha256, rows, columns, tuple(coils), seconds, peak_bytes)]


def _work(model: Reconstructor | Head, coils: Sequence[int], rows: int, columns: int) -> Callable[[], object]:
    """Return what is timed: a model on frames of so many coils, or a head on blocks of so many slices."""
    if isinstance(model, Head):
        blocks = [torch.rand(count + 2 * model.contract.halo, rows, columns) for count in coils]
        framing = Framing((rows, columns), (rows, columns), (0, 0), (rows, columns), 1.0)
        run = model.label if model.contract.whole_volumes else model.classify
        return lambda: [run(block, framing) for block in blocks]
    batch = example(coils, rows, columns)
    return lambda: model.reconstruct(batch)


def example(coils: Sequence[int], rows: int, columns: int) -> PackedBatch:
    """Return frames of an object with edges, every fourth line and the middle of k-space measured; coils all around.

    Parameters
    ----------
    coils
        Of each frame.
    rows, columns
        Of the frames.
    """
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    object_ = (((y / 0.8) ** 2 + (x / 0.7) ** 2) < 1) * (1.0 + 0.5 * ((y - 0.2) ** 2 + x**2 < 0.1))
    mask = np.zeros((rows, columns), np.bool_)
    mask[:, ::_ACCELERATION] = True
    extent = (min(_CALIBRATION, rows), min(_CALIBRATION, columns))
    left = columns // 2 - extent[1] // 2
    mask[:, left : left + extent[1]] = True
    kspaces = [_kspace(object_, y, x, count) * mask for count in coils]
    blocks = [centre_block(kspace, extent) for kspace in kspaces]
    return PackedBatch.pack(kspaces, [mask] * len(kspaces), blocks)


def _kspace(
    object_: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64], coils: int
) -> NDArray[np.complex64]:
    """Return complex64 (coils, rows, columns)."""
    angles = 2 * np.pi * np.arange(coils)[:, None, None] / coils
    sensitivities = np.exp(-((y - np.sin(angles)) ** 2) - (x - np.cos(angles)) ** 2 + 1j * angles)
    images = torch.from_numpy((object_ * sensitivities).astype(np.complex64))
    shifted = torch.fft.fft2(torch.fft.ifftshift(images, dim=(1, 2)), norm="ortho")
    kspace: NDArray[np.complex64] = torch.fft.fftshift(shifted, dim=(1, 2)).numpy()
    return kspace
