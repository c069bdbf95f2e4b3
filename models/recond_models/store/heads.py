"""Heads in a folder of models: written, verified and made ready like models that reconstruct, with golden pairs of their own."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from recond_models.contract import Contract
from recond_models.exported.errors import ProgramError
from recond_models.exported.program import Program
from recond_models.heads.contract import HeadContract
from recond_models.heads.exported import ExportedHeadNetwork
from recond_models.heads.families import build
from recond_models.heads.framing import Framing, frame_slice
from recond_models.heads.head import Head, options_of
from recond_models.model import ModelInfo
from recond_models.store.errors import DamagedModelError, GoldenMismatchError, ProgramRefusedError, WrongKeysError
from recond_models.store.lineage import Lineage
from recond_models.store.manifest import EXPORTED, Manifest
from recond_models.store.package import Description, Packaged, draft_manifest, put_package
from recond_models.store.program import split_program
from recond_models.store.weights import as_float32

TOLERANCE: Final = 0.02
"""Largest deviation of a probability from the golden one: other processors add in another order."""

_SIDE: Final = 64
_FRAMING: Final = Framing((_SIDE, _SIDE), (_SIDE, _SIDE), (0, 0), (_SIDE, _SIDE), 1.0)
_NO_LINEAGE: Final = Lineage()


def write_head(
    place: Path,
    described: Description,
    architecture: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    contract: HeadContract,
    *,
    stored: Literal["float32", "bfloat16"] = "float32",
    lineage: Lineage = _NO_LINEAGE,
    replace: bool = False,
    beside_others: bool = False,
) -> Packaged:
    """Write a head into a folder of models, after it has run once.

    Parameters
    ----------
    place
        Folder of models; made if it does not exist.
    described
        What people are told.
    architecture
        Its architecture, see `recond_models.heads.families`.
    tensors
        Its weights.
    contract
        What it takes and returns.
    stored
        Type of the weights in the file; bfloat16 halves it, and rounds them.
    lineage
        How it came to be.
    replace
        Replace a head of that name.
    beside_others
        Keep other versions; see `recond_models.store.place.put_model`.

    Returns
    -------
    Packaged
        What was written.

    Raises
    ------
    NameTakenError
        There is a model or a head of that name in `place`.
    WeightsNotFiniteError
        A weight is NaN or infinite.
    WrongKeysError
        The weights are not those of the architecture, or the outputs are not those of the contract.
    GoldenMismatchError
        Its outputs are not finite.
    StoreError
        The folder cannot be written.
    """
    weights = as_float32(tensors)
    if stored == "bfloat16":
        halved = {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}
        data, weights = save_safetensors(halved), as_float32(halved)
    else:
        data = save_safetensors(weights)
    parameters = sum(tensor.numel() for tensor in weights.values())
    draft = draft_manifest(described, architecture, data, Contract(), parameters=parameters, lineage=lineage)
    draft = replaced(draft, head=contract, golden_tolerance=TOLERANCE)
    pair, seconds = record_head(make_head_ready(draft.info("added"), architecture, weights, "cpu"))
    manifest = replaced(draft, golden_sha256=hashlib.sha256(pair).hexdigest())
    return put_package(place, manifest, described, (data, pair, seconds), replace=replace, beside_others=beside_others)


def record_head(head: Head) -> tuple[bytes, float]:
    """Run a head on its golden slices: return its golden pair, and what a run takes, seconds.

    Raises
    ------
    WrongKeysError
        Its outputs are not those of its contract.
    GoldenMismatchError
        Its outputs are not finite.
    """
    slices = _example(head.contract)
    first = _answer(head, slices)
    if not bool(torch.isfinite(first).all()):
        raise GoldenMismatchError(f"{head.info.name} has outputs that are not finite: its weights are of no use")
    begun = time.perf_counter()
    _answer(head, slices)
    seconds = time.perf_counter() - begun
    return save_safetensors({"slices": slices, "probabilities": first.contiguous()}), seconds


def make_head_ready(
    info: ModelInfo, architecture: Mapping[str, Any], weights: Mapping[str, Tensor], device: str
) -> Head:
    """Build the network of a head and give it its weights; or make its exported program ready, which lies among these.

    Raises
    ------
    WrongKeysError
        The architecture cannot be, or the weights are not those of it; or the program tells other classes apart than the contract.
    ProgramRefusedError
        The program is not run here, or takes or returns something else.
    """
    if architecture.get("family") == EXPORTED:
        return _ready_program(info, architecture, weights, device)
    try:
        network = build(architecture)
        network.load_state_dict(dict(weights), strict=True)
        network.requires_grad_(requires_grad=False)
        return Head(info, network, device, **options_of(architecture))
    except (RuntimeError, ValueError) as error:
        raise WrongKeysError(f"{info.name}: {error}") from error


def _ready_program(
    info: ModelInfo, architecture: Mapping[str, Any], weights: Mapping[str, Tensor], device: str
) -> Head:
    together = architecture.get("together") is True and device != "cpu"
    try:
        program = Program(*split_program(weights))
        network = ExportedHeadNetwork(program, info.head_info.contract, together=together)
    except ProgramError as error:
        raise ProgramRefusedError(f"{info.name}: {error}") from error
    contract = info.head_info.contract
    if not contract.whole_volumes and network.classes != contract.outputs:
        raise WrongKeysError(
            f"{info.name}: the program tells {network.classes} classes apart, the contract {contract.outputs} in all groups"
        )
    try:
        return Head(info, network, device, **options_of(architecture))
    except ValueError as error:
        raise WrongKeysError(f"{info.name}: {error}") from error


def check_head(manifest: Manifest, info: ModelInfo, data: bytes, pair: bytes, device: str) -> Head:
    """Make a stored head ready and compare its answer with its golden one.

    Parameters
    ----------
    manifest, info
        Of the head.
    data, pair
        Its weights and golden pair, verified by their hashes.
    device
        torch device to compute on.

    Raises
    ------
    DamagedModelError, WrongKeysError, GoldenMismatchError
        It is not what it was.
    """
    try:
        weights = load_safetensors(data)
        golden = load_safetensors(pair)
        slices, expected = golden["slices"], golden["probabilities"]
    except (SafetensorError, KeyError, ValueError) as error:
        raise DamagedModelError(f"the files of {manifest.name} cannot be read ({error}): add the head again") from error
    head = make_head_ready(info, manifest.architecture, weights, device)
    found = _answer(head, slices)
    deviation = float((found - expected).abs().max()) if found.shape == expected.shape else float("inf")
    if not deviation <= manifest.golden_tolerance:  # also what is no number
        raise GoldenMismatchError(
            f"{manifest.name} answers otherwise here than when it was recorded: probabilities deviate by {deviation:.2g}, "
            f"{manifest.golden_tolerance:.2g} is allowed. This version of recond or of torch does not run it rightly; add the head "
            "again, and report it"
        )
    return head


def _answer(head: Head, slices: Tensor) -> Tensor:
    """Return what a head says of its golden slices, (2, numbers); raise WrongKeysError where that is not what its contract says."""
    try:
        if head.contract.whole_volumes:
            labelled = head.label(slices, _FRAMING)
            return torch.cat(
                [labelled.sums.flatten(1).cpu() / _SIDE**2, labelled.confidence.flatten(1).cpu().float() / 255], dim=1
            )
        probabilities = head.classify(slices, frame_slice(slices.numpy())).cpu()
    except ProgramError as error:
        raise ProgramRefusedError(f"{head.info.name}: {error}") from error
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise WrongKeysError(f"{head.info.name} cannot be run on {tuple(slices.shape)}: {error}") from error
    if tuple(probabilities.shape) != (2, head.contract.outputs):
        raise WrongKeysError(
            f"{head.info.name} returns the shape {tuple(probabilities.shape)} for two slices; its contract promises "
            f"{head.contract.outputs} outputs"
        )
    return probabilities


def _example(contract: HeadContract) -> Tensor:
    """Return float32 (2 + 2 halo, 64, 64): an ellipsoid with texture, the same on every call."""
    generator = np.random.default_rng(0)
    z, y, x = np.meshgrid(
        np.linspace(-0.5, 0.5, 2 + 2 * contract.halo),
        np.linspace(-1, 1, _SIDE),
        np.linspace(-1, 1, _SIDE),
        indexing="ij",
    )
    radius = np.sqrt(x**2 / 0.6 + y**2 / 0.8 + z**2)
    values = np.where(radius < 1, 0.4 + 0.4 * np.cos(6 * radius), 0) + 0.02 * generator.standard_normal(radius.shape)
    return torch.from_numpy(values.astype(np.float32))
