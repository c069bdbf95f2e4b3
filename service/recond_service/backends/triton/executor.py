"""A recond model inside the Python backend of a Triton server: tensors of a packed batch in, tensors of images out."""

from __future__ import annotations

import json
import math
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recond_kernels import interruption
from recond_models import loading
from recond_models.batch import PackedBatch, Reconstruction, Reconstructor
from recond_models.finishing import magnitudes
from recond_models.model import UnsuitableModelError
from recond_models.sampling import centre_block
from recond_models.store.catalogue import StoredModel
from recond_models.store.load import load as load_stored
from recond_models.store.manifest import Manifest
from recond_service.backends.triton import interface
from recond_service.types import DefectError, RecondError, UnavailableError, UnsupportedDataError

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
        self._device = torch.device(device)
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
        info = self._model.info
        try:
            self._check_version(request)
            return self._reconstruct(unpack(tensors), _Withdrawal(is_cancelled))
        except interruption.Interrupted:
            nobody = UnavailableError("nobody waits for these images any more", reason="WITHDRAWN")
            return Failure(interface.write_error(nobody))
        except RecondError as error:
            return Failure(interface.write_error(error))
        except UnsuitableModelError as error:
            refusal = UnsupportedDataError(str(error), reason="MODEL_UNSUITABLE", field="spec.model")
            return Failure(interface.write_error(refusal))
        except (MemoryError, torch.OutOfMemoryError) as error:
            return Failure(interface.write_too_large(str(error)))
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            # What a model can raise on a frame. The next frame may be sound.
            failure = DefectError(
                f"{info.name} failed on this frame ({type(error).__name__}: {error}); report the request id to the administrator",
                reason="MODEL_FAILED",
            )
            return Failure(interface.write_error(failure), "".join(traceback.format_exception(error)))

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

    def _reconstruct(self, batch: PackedBatch, withdrawal: _Withdrawal) -> dict[str, Tensor]:
        cuda = self._device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats(self._device)
        start = time.perf_counter()
        with interruption.watching(withdrawal, len(batch)):
            interruption.checkpoint()
            result = self._model.reconstruct(batch)
        if withdrawal.noticed:
            raise interruption.Interrupted  # some frames were given up, and their images are zeros
        images = magnitudes(result).contiguous()
        seconds = time.perf_counter() - start
        if not bool(torch.isfinite(images).all()):
            raise DefectError(
                f"{self._model.info.name} made pixels that are not finite; report the request id to the administrator",
                reason="MODEL_NOT_FINITE",
            )
        peak = torch.cuda.max_memory_allocated(self._device) if cuda else 0
        return {
            interface.IMAGES: images,
            interface.RESIDUALS: _residuals(result, len(batch)),
            interface.NOTES: _notes(result),
            interface.SECONDS: torch.tensor([seconds], dtype=torch.float64),
            interface.PEAK_BYTES: torch.tensor([peak], dtype=torch.int64),
        }


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


def unpack(tensors: Mapping[str, Tensor]) -> PackedBatch:
    """Return the batch that lies in the inputs, without copying k-space.

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
    return PackedBatch(
        kspace,
        torch.tensor([0, *counts], dtype=torch.int64).cumsum(0),
        tensors[interface.MASKS].to(torch.bool),
        tuple(calibrations),
        tuple((rows, columns) if rows and columns else None for rows, columns in crops),
    )


def _load(parameters: Mapping[str, str], folder: Path, device: str) -> Reconstructor:
    name, origin = parameters[interface.MODEL], parameters[interface.ORIGIN]
    if origin == "built-in":
        return loading.load(name, parameters[interface.VERSION], device)
    manifest = Manifest.read(folder / name)
    kind: Any = "shipped" if origin == "shipped" else "added"
    return load_stored(StoredModel(manifest, folder / name, kind), device)


def _residuals(result: Reconstruction, batch: int) -> Tensor:
    if result.residuals is None:
        return torch.full((batch,), math.nan, dtype=torch.float64)
    return result.residuals.to("cpu", torch.float64).contiguous()


def _notes(result: Reconstruction) -> Tensor:
    text = json.dumps([[(note.code, note.message) for note in frame] for frame in result.notes])
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
