"""Writes a trained model into a folder of models: weights, manifest, golden pair and card, whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor

from recond_models.batch import PackedBatch, Reconstruction, Reconstructor
from recond_models.contract import Contract
from recond_models.model import ModelInfo, UnsuitableModelError
from recond_models.networks.families import of_architecture
from recond_models.store import golden
from recond_models.store.errors import GoldenMismatchError, StoreError, WrongKeysError
from recond_models.store.lineage import Lineage
from recond_models.store.manifest import (
    CARD_FILE,
    EXPORTED,
    GOLDEN_FILE,
    MANIFEST_FILE,
    WEIGHTS_FILE,
    Manifest,
    Precision,
)
from recond_models.store.place import put_model
from recond_models.store.program import ready_program
from recond_models.store.weights import as_float32

_NO_LINEAGE: Final = Lineage()
_EMPTY_SHA256 = "0" * 64
_ENLARGED, _LARGEST = (1, 2), 4


@dataclass(frozen=True, slots=True)
class Description:
    """What people are told about a model; fields as in `Manifest`."""

    name: str
    version: str
    description: str
    reference: str
    licence: str
    source: str
    card: str


@dataclass(frozen=True, slots=True)
class Packaged:
    """A model that was written.

    Parameters
    ----------
    manifest
        Its manifest.
    folder
        Where it lies.
    seconds
        What one run over the golden input took, seconds, the first run not counted.
    """

    manifest: Manifest
    folder: Path
    seconds: float


def write_model(
    place: Path,
    described: Description,
    architecture: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    contract: Contract,
    *,
    precision: Precision = "float32",
    stored: Literal["float32", "bfloat16"] = "float32",
    lineage: Lineage = _NO_LINEAGE,
    replace: bool = False,
    beside_others: bool = False,
) -> Packaged:
    """Write a trained model, after it has run once.

    Parameters
    ----------
    place
        Folder of models; made if it does not exist.
    described
        What people are told.
    architecture
        Its architecture.
    tensors
        Its weights.
    contract
        What data it was made for.
    precision
        Type to compute in.
    stored
        Type of the weights in the file; bfloat16 halves it, and rounds them.
    lineage
        How it came to be.
    replace
        Replace a model of that name.
    beside_others
        Keep other versions of the model; see `put_model`.

    Returns
    -------
    Packaged
        What was written.

    Raises
    ------
    NameTakenError
        There is a model of that name in `place`.
    WeightsNotFiniteError
        A weight is NaN or infinite.
    WrongKeysError
        The weights are not those of the architecture.
    GoldenMismatchError
        It makes no images.
    StoreError
        The folder cannot be written.
    """
    weights = as_float32(tensors)
    if stored == "bfloat16":
        halved = {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}
        data, weights = save_safetensors(halved), as_float32(halved)
    else:
        data = save_safetensors(weights)
    draft = draft_manifest(
        described,
        architecture,
        data,
        contract,
        parameters=sum(tensor.numel() for tensor in weights.values()),
        precision=precision,
        lineage=lineage,
    )
    model = make_ready(draft.info("added"), architecture, weights, "cpu", precision)
    fits_samples, pair, seconds = first_runs(contract, model)
    manifest = dataclasses.replace(draft, fits_samples=fits_samples, golden_sha256=hashlib.sha256(pair).hexdigest())
    return put_package(place, manifest, described, (data, pair, seconds), replace=replace, beside_others=beside_others)


def draft_manifest(
    described: Description,
    architecture: Mapping[str, Any],
    data: bytes,
    contract: Contract,
    *,
    parameters: int,
    precision: Precision = "float32",
    lineage: Lineage = _NO_LINEAGE,
) -> Manifest:
    """Return the manifest of a model that has not run yet; `data` is its file of weights, the rest as for `write_model`."""
    return Manifest(
        described.name,
        described.version,
        described.description,
        described.reference,
        described.licence,
        described.source,
        dict(architecture),
        hashlib.sha256(data).hexdigest(),
        _EMPTY_SHA256,
        golden.TOLERANCES[precision],
        precision,
        fits_samples=False,
        contract=contract,
        parameters=parameters,
        lineage=lineage,
    )


def put_package(
    place: Path,
    manifest: Manifest,
    described: Description,
    made: tuple[bytes, bytes, float],
    *,
    replace: bool,
    beside_others: bool,
) -> Packaged:
    """Put a model that has run into a folder of models.

    Parameters
    ----------
    place, described, replace, beside_others
        As for `write_model`.
    manifest
        Of the model.
    made
        Its file of weights, its golden pair, and what one run takes, seconds.

    Raises
    ------
    NameTakenError
        There is a model of that name in `place`.
    StoreError
        The folder cannot be written.
    """
    data, pair, seconds = made
    files = {
        WEIGHTS_FILE: data,
        GOLDEN_FILE: pair,
        CARD_FILE: described.card.encode(),
        MANIFEST_FILE: manifest.to_json().encode(),
    }
    version = manifest.version if beside_others else ""
    try:
        folder = put_model(place, manifest.name, files, replace=replace, version=version)
    except OSError as error:
        raise StoreError(
            f"the model cannot be written to {place}: {error.strerror}; make room or give another folder in RECOND_MODELS_DIR"
        ) from error
    return Packaged(manifest, folder, seconds)


def make_ready(
    info: ModelInfo, architecture: Mapping[str, Any], weights: Mapping[str, Tensor], device: str, precision: Precision
) -> Reconstructor:
    """Build a network, give it its weights and make it ready to run.

    Raises
    ------
    WrongKeysError
        The architecture cannot be, or the weights are not those of it.
    ProgramRefusedError
        The weights hold an exported program that is not run here.
    """
    if architecture.get("family") == EXPORTED:
        return ready_program(info, architecture, weights, device)
    try:
        family = of_architecture(architecture)
        network = family.build(architecture)
        network.load_state_dict(dict(weights), strict=True)
    except (RuntimeError, ValueError) as error:
        raise WrongKeysError(f"{info.name}: {error}") from error
    network.requires_grad_(requires_grad=False)
    return family.reconstructor(info, network.eval(), device, precision)


def first_runs(contract: Contract, model: Reconstructor) -> tuple[bool, bytes, float]:
    """Return whether the model fits the samples, its golden pair, and what its second run took, seconds."""
    try:
        batch, first = _first_run(contract, model)
        fits_samples = first.residuals is not None
        begun = time.perf_counter()
        pair = golden.record(batch, model)
    except GoldenMismatchError:
        raise
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise GoldenMismatchError(
            f"{model.info.name} cannot reconstruct a simulated phantom ({type(error).__name__}: {error}): its weights load, but "
            "recond cannot run such a network"
        ) from error
    return fits_samples, pair, time.perf_counter() - begun


def _first_run(contract: Contract, model: Reconstructor) -> tuple[PackedBatch, Reconstruction]:
    """Run a model on the smallest golden input that it takes; networks with many poolings need more pixels."""
    for enlarged in _ENLARGED:
        batch = golden.make_input(contract, enlarged)
        with contextlib.suppress(UnsuitableModelError):
            return batch, model.reconstruct(batch)
    batch = golden.make_input(contract, _LARGEST)
    return batch, model.reconstruct(batch)
