"""Tries an exported program out, in a process of its own that can do nothing else.

Started as ``python -P -m recond_models.store.trial_process FD``: FD is a socket to `recond_models.store.trial`, on which come the
limits and what is to be tried, and go the files of the model.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from recond_models import confinement
from recond_models.batch import PackedBatch, Reconstruction
from recond_models.contract import Contract
from recond_models.exported.archive import read_archive
from recond_models.exported.errors import ProgramError
from recond_models.exported.program import Program
from recond_models.exported.reconstructor import ExportedReconstructor
from recond_models.finishing import magnitudes
from recond_models.heads.contract import HeadContract
from recond_models.heads.exported import ExportedHeadNetwork
from recond_models.model import MINIMUM_CALIBRATION, ModelInfo
from recond_models.store.errors import ProgramRefusedError, StoreError, UnsafeFileError, WeightsNotFiniteError
from recond_models.store.heads import make_head_ready, record_head
from recond_models.store.manifest import EXPORTED
from recond_models.store.package import first_runs
from recond_models.store.pickles import code_in_export
from recond_models.store.program import split_program, with_program

_TOGETHER = 1e-4
"""Most that frames given together may deviate from the same frames alone, as a fraction of the brightest pixel."""


def try_out(job: dict[str, Any]) -> tuple[dict[str, Any], bytes, bytes]:
    """Read a program and run it on simulated frames.

    Parameters
    ----------
    job
        ``path`` of the archive or file of weights, ``name`` of the model, ``contract`` as `Contract.to_json`; for a head ``head``
        as `HeadContract.to_json`, and its ``options``.

    Returns
    -------
    dict
        What `recond_models.store.trial.Tried` says of it.
    bytes, bytes
        The file of weights and the golden pair.

    Raises
    ------
    StoreError, ProgramError
        It is refused.
    """
    program, tensors, written_by = _read(Path(job["path"]))
    _require_finite(tensors)
    weights = with_program(program, tensors)
    data = save_safetensors(weights)
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    info = ModelInfo(
        name=job["name"],
        version="1",
        description="",
        kind="network" if "head" not in job else "head",
        reference="",
        needs_calibration=False,
        fits_samples=False,
        origin="added",
        head=None if "head" not in job else HeadContract.from_json(job["head"]),
    )
    contract = Contract.from_json(job["contract"])
    if info.head is not None:
        architecture, pair, seconds = _try_head(info, job["options"], weights)
    else:
        model = ExportedReconstructor(info, Program(*split_program(weights)))
        contract = model.signature.contract(contract, MINIMUM_CALIBRATION)
        _, pair, seconds = first_runs(contract, model)
        architecture = {**model.signature.to_json(), "together": _takes_together(model, pair)}
    if any(not torch.equal(before[name], tensors[name]) for name in tensors):
        raise ProgramRefusedError(
            "the program changes its weights when it runs: export it in evaluation mode, network.eval()"
        )
    facts = {
        "architecture": {"family": EXPORTED, **architecture, "torch": written_by},
        "contract": contract.to_json(),
        "parameters": max(1, sum(tensor.numel() for tensor in tensors.values())),
        "seconds": seconds,
    }
    return facts, data, pair


def _try_head(
    info: ModelInfo, options: dict[str, Any], weights: dict[str, Tensor]
) -> tuple[dict[str, Any], bytes, float]:
    """Run a program as a head: return its architecture, its golden pair, and what a run takes."""
    head = make_head_ready(info, {"family": EXPORTED, **options}, weights, "cpu")
    network = head.network
    pair, seconds = record_head(head)
    together = False
    if isinstance(network, ExportedHeadNetwork):
        together = _sees_slices_apart(network)
        options = {**network.to_json(), **options}
    return {**options, "together": together}, pair, seconds


def _sees_slices_apart(network: ExportedHeadNetwork) -> bool:
    """Tell whether slices that are given to the program together have the answers that they have alone."""
    if not network.takes_batches:
        return False
    generator = torch.Generator().manual_seed(0)
    two = torch.rand(2, network.slices, 64, 64, generator=generator) * torch.tensor([1.0, 3.0])[:, None, None, None]
    try:
        with torch.inference_mode():
            alone = network(two)
            network.together = True
            both = network(two)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
        return False
    finally:
        network.together = False
    return bool((both - alone).abs().max() <= _TOGETHER * alone.abs().max())


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], str]:
    """Return program, tensors and version of torch of an archive, or of a file of weights that recond wrote."""
    if path.suffix == ".safetensors":
        program, tensors = split_program(load_safetensors(path.read_bytes()))
        return program, tensors, str(program.get("torch_version", ""))[:40]
    code = code_in_export(path)
    if code:
        raise UnsafeFileError(
            f"{path} holds more than a program and weights: {', '.join(code[:3])}{', ...' if len(code) > 3 else ''}, which would "
            "run when torch reads it. Export the network with inputs that are plain tensors, and without custom objects or "
            "compiled code"
        )
    archive = read_archive(path)
    return archive.program, archive.tensors, archive.torch_version


def _require_finite(tensors: dict[str, Tensor]) -> None:
    """Raise WeightsNotFiniteError for NaN; infinite constants are how attention masks are written."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and bool(torch.isnan(tensor).any()):
            raise WeightsNotFiniteError(
                f"{name[:100]} holds NaN: the training diverged or the file is damaged; take an earlier checkpoint, or export again"
            )


def _takes_together(model: ExportedReconstructor, pair: bytes) -> bool:
    """Tell whether frames that are given to the program together have the images that they have alone."""
    if not model.signature.takes_batches:
        return False
    tensors = load_safetensors(pair)
    start, end = tensors["coil_offsets"][:2].tolist()
    kspace, mask, block = tensors["kspace"][start:end], tensors["masks"][0], tensors.get("calibration.0")
    # The second frame is a blurred and turned one: it has another mean, other extremes and another spectrum.
    blurred = 3 * (kspace * torch.hann_window(kspace.shape[1], periodic=False)[:, None]).conj()
    turned = None if block is None else 3 * block.conj()
    two = PackedBatch.pack([kspace, blurred], [mask, mask], [block, turned])
    model.together = True
    try:
        both = magnitudes(model.reconstruct(two))
        model.together = False
        alone: Reconstruction = model.reconstruct(two)
        apart = magnitudes(alone)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
        return False
    finally:
        model.together = False
    return bool(((both - apart).abs().amax(dim=(1, 2)) <= _TOGETHER * apart.amax(dim=(1, 2))).all())


def main() -> None:
    """Serve one trial."""
    with os.fdopen(int(sys.argv[1]), "r+b", buffering=0) as channel:
        job = json.loads(_line(channel))
        base = confinement.address_space()
        confinement.forbid_files_and_network(job["path"])
        confinement.limit_resources(base + job["memory_bytes"], job["cpu_seconds"], file_bytes=0)
        torch.set_num_threads(1)
        try:
            facts, data, pair = try_out(job)
            answer: dict[str, Any] = {"facts": facts, "sizes": [len(data), len(pair)]}
            parts = [data, pair]
        except StoreError as error:
            answer, parts = (
                ({"memory": True} if _for_memory(error.__cause__) else {"reason": error.reason, "message": str(error)}),
                [],
            )
        except ProgramError as error:
            answer, parts = {"reason": ProgramRefusedError.reason, "message": str(error)}, []
        except MemoryError:
            answer, parts = {"memory": True}, []
        except RuntimeError as error:
            if not _for_memory(error):
                raise
            answer, parts = {"memory": True}, []
        for part in (json.dumps(answer).encode() + b"\n", *parts):
            view = memoryview(part)
            while view:
                view = view[channel.write(view) :]


def _for_memory(error: BaseException | None) -> bool:
    """Tell whether torch could not get memory."""
    return isinstance(error, RuntimeError) and "memory" in str(error)


def _line(channel: Any) -> bytes:  # noqa: ANN401 - a raw file
    text = bytearray()
    while not text.endswith(b"\n"):
        piece = channel.read(1)
        if not piece:
            sys.exit(1)
        text += piece
    return bytes(text)


if __name__ == "__main__":
    main()
