"""Exported programs in the store: the program lies in the file of weights, so that one hash vouches for both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from recond_models.exported.errors import ProgramError
from recond_models.exported.program import Program
from recond_models.exported.reconstructor import ExportedReconstructor
from recond_models.model import ModelInfo
from recond_models.store.errors import ProgramRefusedError

PROGRAM: Final = "recond.program.json"
"""Name of the bytes of the program among the weights."""

_KEPT: Final = ("graph_module", "range_constraints", "schema_version", "torch_version")
"""What is kept of a program. Guards, which are Python, and what debuggers want are not."""


def with_program(program: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with the program among them, for a file of weights.

    Raises
    ------
    ProgramRefusedError
        The program lacks what every program has.
    """
    try:
        text = json.dumps(_kept(program), separators=(",", ":")).encode()
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ProgramRefusedError(
            f"the program is damaged ({type(error).__name__}: {error}): export it again"
        ) from error
    return {**tensors, PROGRAM: torch.frombuffer(bytearray(text), dtype=torch.uint8)}


def _kept(program: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of a program."""
    kept = {name: program[name] for name in _KEPT if name in program}
    graph = kept["graph_module"]["graph"]
    nodes = [{name: node[name] for name in ("target", "inputs", "outputs")} for node in graph["nodes"]]
    kept["graph_module"] = {"graph": {**graph, "nodes": nodes}, "signature": kept["graph_module"]["signature"]}
    return kept


def split_program(weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what `with_program` put together.

    Raises
    ------
    ProgramRefusedError
        There is no program among the weights, or it is no JSON object.
    """
    tensors = dict(weights)
    try:
        program = json.loads(tensors.pop(PROGRAM).numpy().tobytes())
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ProgramRefusedError(
            f"there is no exported program among the weights ({error}): export it again"
        ) from error
    if not isinstance(program, dict):
        raise ProgramRefusedError("the exported program is no JSON object: export it again")
    return program, tensors


def ready_program(
    info: ModelInfo, architecture: Mapping[str, Any], weights: Mapping[str, Tensor], device: str
) -> ExportedReconstructor:
    """Make an exported program ready to run.

    Parameters
    ----------
    info
        Its entry in the registry.
    architecture
        What is known about it: ``"together"`` says that frames may be given to it together.
    weights
        As `with_program` returned them.
    device
        torch device.

    Raises
    ------
    ProgramRefusedError
        It cannot be run here.
    """
    try:
        program = Program(*split_program(weights))
        together = architecture.get("together") is True and device != "cpu"
        return ExportedReconstructor(info, program, device, together=together)
    except ProgramError as error:
        raise ProgramRefusedError(f"{info.name}: {error}") from error
