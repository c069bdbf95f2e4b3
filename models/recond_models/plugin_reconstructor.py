"""A plug-in at work: whatever it raises or returns, the process that computes goes on."""

from __future__ import annotations

import importlib

import torch
from torch import Tensor

from recond_kernels import interruption
from recond_models.batch import CoilImages, PackedBatch, Reconstruction, Reconstructor
from recond_models.model import UnsuitableModelError
from recond_models.note import Note
from recond_models.registry import Entry
from recond_models.store.errors import PluginError


class PluginReconstructor:
    """Calls a plug-in and checks what it returns.

    Parameters
    ----------
    entry
        Of the plug-in.
    device
        torch device.

    Raises
    ------
    PluginError
        It cannot be imported or made.
    """

    def __init__(self, entry: Entry, device: str) -> None:
        self.info = entry.info
        module, _, attribute = entry.implementation.partition(":")
        try:
            self._model: Reconstructor = getattr(importlib.import_module(module), attribute)(entry.info, device)
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{entry.info.name} of {entry.info.package} cannot be loaded ({type(error).__name__}: {error}): install it again, "
                "or ask whoever made it"
            ) from error

    @torch.inference_mode()
    def reconstruct(self, batch: PackedBatch) -> Reconstruction:
        """Return what the plug-in makes of a batch.

        Raises
        ------
        UnsuitableModelError
            It cannot reconstruct such frames.
        Interrupted
            Nobody waits for the images.
        RuntimeError
            It raised anything else, or returned what it should not.
        """
        try:
            result = self._model.reconstruct(batch)
        except (UnsuitableModelError, interruption.Interrupted, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            raise RuntimeError(f"{self.info.package}: {type(error).__name__}: {error}") from error
        problem = _problem(result, batch)
        if problem:
            raise RuntimeError(f"{self.info.package} returned {problem}")
        return result


def _problem(result: object, batch: PackedBatch) -> str:
    """Return what is wrong with a result; empty if nothing is."""
    if not isinstance(result, Reconstruction):
        return f"a {type(result).__name__}, not a Reconstruction"
    problem = _problem_of_images(result.images, batch)
    for name, values in (("residuals", result.residuals), ("scales", result.scales)):
        if values is not None and not (
            isinstance(values, Tensor) and values.dtype == torch.float64 and tuple(values.shape) == (len(batch),)
        ):
            problem = problem or f"{name} that are not float64 ({len(batch)},)"
    notes = result.notes
    sound = isinstance(notes, tuple) and len(notes) in {0, len(batch)}
    if not sound or not all(isinstance(note, Note) for frame in notes for note in frame):
        problem = problem or "notes that are not a tuple of Note for every frame"
    return problem


def _problem_of_images(images: object, batch: PackedBatch) -> str:
    if isinstance(images, CoilImages):
        same = images.layout == batch.layout and tuple(images.images.shape) == tuple(batch.kspace.shape)
        return "" if same else "coil images of another shape than the k-space"
    if not isinstance(images, Tensor) or images.dtype not in {torch.complex64, torch.float32}:
        return "images that are neither complex64 nor float32"
    shape = (len(batch), *map(int, batch.kspace.shape[1:]))
    return "" if tuple(images.shape) == shape else f"images of {tuple(images.shape)}, expected {shape}"
