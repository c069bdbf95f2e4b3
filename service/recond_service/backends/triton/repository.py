"""Writes a model repository for Triton Inference Servers."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recond_models.model import ModelInfo
from recond_models.store.catalogue import stored_models
from recond_service.backends.triton import interface

Device = Literal["cpu", "gpu"]
_MODEL_FILE = Path(__file__).with_name("repository_model.py")


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How the models are to run.

    Parameters
    ----------
    instances
        Instances of each model: on GPUs, of each GPU.
    threads
        Threads of each instance.
    device
        Where to compute.
    """

    instances: int = 1
    threads: int = 1
    device: Device = "cpu"


def triton_name(model: str) -> str:
    """Return what a recond model is called in a Triton repository."""
    return interface.PREFIX + model


def export_model(repository: Path, info: ModelInfo, options: ExportOptions) -> Path:
    """Write a model into a model repository, whole or not at all; one that is there is replaced.

    Parameters
    ----------
    repository
        Folder of the model repository; made if it does not exist.
    info
        The model, one that `registry.available` returns.
    options
        How it is to run.

    Returns
    -------
    Path
        The folder of the model.

    Raises
    ------
    FileNotFoundError
        A trained model is no longer there.
    OSError
        The folder cannot be written.
    """
    repository.mkdir(parents=True, exist_ok=True)
    target = repository / triton_name(info.name)
    # In the repository and not beside it, which may be another file system. A server that polls may name it in its log meanwhile.
    with tempfile.TemporaryDirectory(prefix=".new-", dir=repository) as scratch:
        fresh = Path(scratch) / target.name
        version = fresh / "1"
        version.mkdir(parents=True)
        shutil.copyfile(_MODEL_FILE, version / "model.py")
        if info.origin != "built-in":
            shutil.copytree(_folder_of(info), version / info.name)
        (fresh / "config.pbtxt").write_text(model_config(info, options), encoding="utf-8")
        if target.exists():
            target.rename(Path(scratch) / "old")
        fresh.rename(target)
    return target


def model_config(info: ModelInfo, options: ExportOptions) -> str:
    """Return the text of ``config.pbtxt`` of a model."""
    parameters = {
        interface.MODEL: info.name,
        interface.VERSION: info.version,
        interface.WEIGHTS: info.weights_sha256,
        interface.ORIGIN: info.origin,
        interface.INTERFACE_KEY: interface.INTERFACE,
        interface.THREADS: str(options.threads),
    }
    kind = "KIND_GPU" if options.device == "gpu" else "KIND_CPU"
    blocks = [
        f"name: {json.dumps(triton_name(info.name))}",
        'backend: "python"',
        "max_batch_size: 0  # recond packs the batch: frames of one request have coils of any number",
        *(_tensor("input", name, *what, optional=name in interface.OPTIONAL_INPUTS) for name, what in _items("input")),
        *(_tensor("output", name, *what) for name, what in _items("output")),
        f"instance_group [ {{ count: {options.instances} kind: {kind} }} ]",
        *(
            f"parameters {{ key: {json.dumps(key)} value: {{ string_value: {json.dumps(value)} }} }}"
            for key, value in parameters.items()
        ),
    ]
    return "\n".join(blocks) + "\n"


def _items(kind: Literal["input", "output"]) -> Sequence[tuple[str, tuple[str, tuple[int, ...]]]]:
    return tuple((interface.INPUTS if kind == "input" else interface.OUTPUTS).items())


def _tensor(kind: str, name: str, datatype: str, axes: tuple[int, ...], *, optional: bool = False) -> str:
    dims = ", ".join(map(str, axes))
    extra = " optional: true" if optional else ""
    return f'{kind} [ {{ name: "{name}" data_type: TYPE_{datatype} dims: [ {dims} ]{extra} }} ]'


def _folder_of(info: ModelInfo) -> Path:
    for stored in stored_models():
        if stored.manifest.name == info.name and stored.manifest.weights_sha256 == info.weights_sha256:
            return stored.folder
    raise FileNotFoundError(f"{info.name} {info.version} is no longer there: it was removed or replaced meanwhile")
