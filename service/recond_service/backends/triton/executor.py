"""A recond model inside the Python backend of a Triton server: tensors of a packed batch in, tensors of images out."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from recond_models import loading
from recond_models.batch import PackedBatch, Reconstructor
from recond_models.sampling import centre_block
from recond_models.store.catalogue import StoredModel
from recond_models.store.load import load as load_stored
from recond_models.store.manifest import Manifest
from recond_service.backends.triton import interface
from recond_service.execution import BatchResult, ModelFailedError, OutOfDeviceMemoryError, device_of, run_batch
from recond_service.processes import FrameLayout
from recond_service.types import RecondError, UnavailableError, UnsupportedDataError, Window

_ASK_SECONDS = 0.02  # asking Triton whether a request is cancelled is a message to another process


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there are no images.

    Parameters
    ----------
    message
        Text of the Triton error; `interface.read_error` reads it.
    log
        What the log of the Triton server should say; empty for nothing.
    """

    message: str
    log: str = ""


class Executor:
    """One instance of a model.

    Parameters
    ----------
    parameters
        Parameters of the model's configuration, as `repository` wrote them.
    folder
        Folder of this version in the model repository; a trained model lies in it in a folder of its own name.
    device
        torch device to compute on.

    Raises
    ------
    RuntimeError
        The code that is installed here is not that which the repository was written for.
    StoreError
        A trained model is damaged, or makes other images here than when it was recorded.
    """

    def __init__(self, parameters: Mapping[str, str], folder: Path, device: str) -> None:
        if parameters[interface.INTERFACE_KEY] != interface.INTERFACE:
            raise RuntimeError(
                f"this model repository has interface {parameters[interface.INTERFACE_KEY]} and the recond that is installed here "
                f"{interface.INTERFACE}: run recond triton export again"
            )
        torch.set_num_threads(int(parameters[interface.THREADS]))
        self._device = device_of(device)
        self._model = _load(parameters, folder, device)
        found = self._model.info
        wanted = (parameters[interface.VERSION], parameters[interface.WEIGHTS])
        if (found.version, found.weights_sha256) != wanted:
            raise RuntimeError(
                f"{found.name} has version {found.version} here, and the model repository was written for {wanted[0]}: run recond "
                "triton export again"
            )

    def execute(
        self, tensors: Mapping[str, Tensor], request: Mapping[str, object], is_cancelled: Callable[[], bool]
    ) -> dict[str, Tensor] | Failure:
        """Reconstruct a packed batch.

        Parameters
        ----------
        tensors
            The inputs by name, see `interface.INPUTS`.
        request
            Parameters of the request: which version and weights it was planned with.
        is_cancelled
            Tells whether anybody still waits.

        Returns
        -------
        dict or Failure
            The outputs by name, see `interface.OUTPUTS`; or why there are none.
        """
        withdrawal = _Withdrawal(is_cancelled)
        try:
            self._check_version(request)
            batch, layouts = unpack(tensors)
            kind = tuple((layout.coils, layout.rows, layout.columns) for layout in layouts)
            result = run_batch(self._model, batch, layouts, self._device, kind=kind, withdrawn=withdrawal)
            if withdrawal.noticed or None in result.frames:
                raise UnavailableError("nobody waits for these images any more", reason="WITHDRAWN")
        except RecondError as error:
            log = error.traceback if isinstance(error, ModelFailedError) else ""
            return Failure(interface.write_error(error), log)
        except OutOfDeviceMemoryError as error:
            self._device.recover()
            return Failure(interface.write_too_large(str(error)))
        except (LookupError, RuntimeError, TypeError, ValueError) as error:  # the tensors are not what they should be
            return Failure(interface.write_error(ModelFailedError(self._model.info.name, error)))
        return _outputs(result)

    def _check_version(self, request: Mapping[str, object]) -> None:
        info = self._model.info
        wanted = tuple(str(request.get(key, "")) for key in (interface.VERSION, interface.WEIGHTS))
        if wanted not in {("", ""), (info.version, info.weights_sha256)}:
            raise UnsupportedDataError(
                f"this Triton server has {info.name} in version {info.version} with other weights than the service: run recond "
                "triton export again and load the model anew",
                reason="MODEL_NOT_ON_SERVER",
                field="spec.model",
            )


class _Withdrawal:
    """Tells whether the whole request was cancelled: the single frames of one cannot be. Asks at most once in a while."""

    def __init__(self, is_cancelled: Callable[[], bool]) -> None:
        self._is_cancelled = is_cancelled
        self._asking = threading.Lock()
        self._next = 0.0
        self.noticed = False

    def __call__(self, frame: int) -> bool:  # noqa: ARG002 - asked about each frame
        """Tell whether nobody waits for a frame any more."""
        if not self.noticed and time.monotonic() >= self._next and self._asking.acquire(blocking=False):
            try:
                self.noticed = self._is_cancelled()
                self._next = time.monotonic() + _ASK_SECONDS
            finally:
                self._asking.release()
        return self.noticed


def unpack(tensors: Mapping[str, Tensor]) -> tuple[PackedBatch, tuple[FrameLayout, ...]]:
    """Return the batch that lies in the inputs, without copying k-space, and what its images are to be.

    Parameters
    ----------
    tensors
        The inputs by name, see `interface.INPUTS`.

    Raises
    ------
    KeyError
        One is missing.
    ValueError
        Sizes do not belong together.
    """
    kspace = torch.view_as_complex(tensors[interface.KSPACE])
    counts: list[int] = tensors[interface.COILS].tolist()
    if min(counts, default=0) < 1 or sum(counts) != kspace.shape[0]:
        raise ValueError(f"{interface.COILS} are {counts}, but there is k-space of {kspace.shape[0]} coils")
    shapes = tensors[interface.CALIBRATION_SHAPES].tolist()
    crops = tensors[interface.CROPS].tolist()
    finishing = tensors[interface.FINISHING].tolist()
    apart = tensors.get(interface.CALIBRATION)
    calibrations: list[Tensor | None] = []
    first_coil = first_sample = 0
    for coils, (rows, columns, is_apart) in zip(counts, shapes, strict=True):
        block = None
        if rows and columns and is_apart:
            if apart is None:
                raise ValueError(f"{interface.CALIBRATION_SHAPES} speaks of calibration apart, but there is none")
            size = coils * rows * columns
            block = torch.view_as_complex(apart[first_sample : first_sample + size]).reshape(coils, rows, columns)
            first_sample += size
        elif rows and columns:
            own = kspace[first_coil : first_coil + coils].numpy()
            block = torch.from_numpy(centre_block(own, (rows, columns)))
        calibrations.append(block)
        first_coil += coils
    batch = PackedBatch(
        kspace,
        torch.tensor([0, *counts], dtype=torch.int64).cumsum(0),
        tensors[interface.MASKS].to(torch.bool),
        tuple(calibrations),
        tuple((rows, columns) if rows and columns else None for rows, columns in crops),
        deviations=any(row[-1] & 4 for row in finishing),
    )
    rows, columns = kspace.shape[1:3]
    layouts = tuple(_layout(coils, rows, columns, row) for coils, row in zip(counts, finishing, strict=True))
    return batch, layouts


def _layout(coils: int, rows: int, columns: int, finishing: list[int]) -> FrameLayout:
    image_rows, image_columns, *cut, exponent, wishes = finishing
    return FrameLayout(
        coils,
        rows,
        columns,
        image_rows=image_rows,
        image_columns=image_columns,
        window=Window(*cut) if any(cut) else None,
        exponent=exponent,
        complex_image=bool(wishes & 1),
        guarded=bool(wishes & 2),
        uncertainty=bool(wishes & 4),
    )


def _load(parameters: Mapping[str, str], folder: Path, device: str) -> Reconstructor:
    name, origin = parameters[interface.MODEL], parameters[interface.ORIGIN]
    if origin == "built-in":
        return loading.load(name, parameters[interface.VERSION], device)
    manifest = Manifest.read(folder / name)
    kind: Any = "shipped" if origin == "shipped" else "added"
    return load_stored(StoredModel(manifest, folder / name, kind), device)


def _outputs(result: BatchResult) -> dict[str, Tensor]:
    frames = [frame for frame in result.frames if frame is not None]
    images = [torch.frombuffer(piece, dtype=torch.float32) for frame in frames for piece in frame.pieces()]
    residuals = [math.nan if frame.residual is None else frame.residual for frame in frames]
    notes = msgspec.json.encode([frame.notes for frame in frames])
    return {
        interface.IMAGES: torch.cat(images),
        interface.RESIDUALS: torch.tensor(residuals, dtype=torch.float64),
        interface.NOTES: torch.frombuffer(bytearray(notes), dtype=torch.uint8),
        interface.SECONDS: torch.tensor([result.seconds], dtype=torch.float64),
        interface.PEAK_BYTES: torch.tensor([result.peak_bytes], dtype=torch.int64),
    }
