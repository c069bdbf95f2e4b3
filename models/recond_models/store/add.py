"""Adds a file of weights to the models of this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from recond_models import registry
from recond_models.contract import Contract
from recond_models.exported.archive import is_exported
from recond_models.heads.contract import HeadContract
from recond_models.store import folders
from recond_models.store.architecture import Recognised, recognise
from recond_models.store.cards import card_of_head_program, card_of_program, card_of_weights
from recond_models.store.catalogue import StoredModel, stored_models
from recond_models.store.errors import HashMismatchError, NameTakenError, StoreError
from recond_models.store.head_bundle import HEAD_OPTIONS, HeadBundle
from recond_models.store.heads import TOLERANCE, write_head
from recond_models.store.lineage import Lineage
from recond_models.store.load import load, load_head
from recond_models.store.manifest import (
    CARD_FILE,
    EXPORTED,
    MANIFEST_FILE,
    WEIGHTS_FILE,
    Manifest,
    check_name,
    check_version,
)
from recond_models.store.package import Description, Packaged, draft_manifest, put_package, write_model
from recond_models.store.place import folder_for, taken
from recond_models.store.trial import TrialLimits, Tried, try_out
from recond_models.store.weights import checked_hash, read_weights

_REFERENCES: Final = {
    "varnet": "Sriram et al. 2020, MICCAI, arXiv:2004.06688",
    "unet": "Zbontar et al. 2018, arXiv:1811.08839; Ronneberger et al. 2015, MICCAI, arXiv:1505.04597",
}
_METHODS: Final = {
    "varnet": "End-to-end variational network",
    "unet": "U-Net on the zero-filled root sum of squares",
}
_VERSION: Final = "1"
_ENDINGS: Final = re.compile(r"([-_.]?(state[-_]dict|weights|checkpoint))+$")


@dataclass(frozen=True, slots=True)
class AddRequest:
    """What is to be added, and what is known about it.

    Parameters
    ----------
    path
        File of weights, or the folder of a model.
    name
        Name of the model; empty for one after the file, or for that of the folder.
    version
        Its version; empty for 1, or for that of the folder.
    sha256
        Hexadecimal SHA-256 that the file must have; empty for any.
    replace
        Replace the version, if there is one, and have it run for the name.
    contract
        What data it was trained on. A folder brings its own.
    licence
        Licence of the weights. A folder brings its own.
    lineage
        How it came to be. A folder brings its own.
    limits
        What an exported program may take when it is tried out.
    """

    path: Path
    name: str = ""
    version: str = ""
    sha256: str = ""
    replace: bool = False
    contract: Contract = field(default_factory=Contract)
    licence: str = ""
    lineage: Lineage = field(default_factory=Lineage)
    limits: TrialLimits = field(default_factory=TrialLimits)


@dataclass(frozen=True, slots=True)
class Added:
    """A model that was added.

    Parameters
    ----------
    packaged
        What was written.
    recognised
        What was found in the file.
    """

    packaged: Packaged
    recognised: Recognised

    def to_json(self) -> dict[str, Any]:
        """Return what ``recond models add --json`` prints."""
        manifest = self.packaged.manifest
        return {
            "name": manifest.name,
            "version": manifest.version,
            "architecture": manifest.architecture,
            "parameters": manifest.parameters,
            "weights_sha256": manifest.weights_sha256,
            "precision": manifest.precision,
            "contract": manifest.contract.to_json(),
            "source": manifest.source,
            "prefix": self.recognised.prefix,
            "left_out": list(self.recognised.left_out),
            "folder": str(self.packaged.folder),
            "golden_seconds": round(self.packaged.seconds, 4),
        }


def add_model(request: AddRequest, report: Callable[[str], None] = lambda step: None) -> Added:  # noqa: ARG005 - documents the call
    """Read, recognise, try out and store a model.

    Parameters
    ----------
    request
        What is to be added.
    report
        Called with what begins: a few words.

    Returns
    -------
    Added
        The model; services that run on this machine see it at once.

    Raises
    ------
    StoreError
        One of its subclasses says why the model is refused; nothing was changed then.
    """
    bundle = HeadBundle.read(request.path) if HeadBundle.is_in(request.path) else None
    name = request.name or (bundle.texts["name"] if bundle is not None else "") or name_for(request.path)
    check_name(name)
    check_version(request.version or _VERSION)
    version = request.version or _VERSION
    is_folder = (request.path / MANIFEST_FILE).is_file()
    if bundle is not None and not request.version:
        version = bundle.texts["version"] or _VERSION
    elif is_folder and not request.version:
        version = Manifest.read(request.path.resolve()).version
    check_free(name, version, replace=request.replace)
    report(f"reading {request.path.name}")
    if bundle is not None:
        return _add_head_program(request, bundle, name, version, report)
    if is_folder:
        return _add_folder(request, name)
    if is_exported(request.path):
        return _add_program(request, name, report)
    file = read_weights(request.path, request.sha256)
    recognised = recognise(file.tensors)
    report(f"trying out the {recognised.architecture['family']}")
    family = str(recognised.architecture["family"])
    anatomy = f", trained on {request.contract.anatomy}" if request.contract.anatomy else ""
    described = Description(
        name=name,
        version=request.version or _VERSION,
        description=f"{_METHODS.get(family, family)}{anatomy}, added from {request.path.name}.",
        reference=_REFERENCES.get(family, ""),
        licence=request.licence,
        source=f"{request.path.name}, SHA-256 {file.sha256}",
        card=card_of_weights(name, request.path.name, file, recognised, request.contract, request.licence),
    )
    packaged = write_model(
        folders.models_folder(),
        described,
        recognised.architecture,
        recognised.tensors,
        request.contract,
        lineage=request.lineage,
        replace=request.replace,
        beside_others=True,
    )
    return Added(packaged, recognised)


def _add_program(request: AddRequest, name: str, report: Callable[[str], None]) -> Added:
    """Try out and store a program that `torch.export` wrote."""
    file_sha256 = checked_hash(request.path, request.sha256)
    report("trying out the exported program")
    tried = try_out(request.path, name, request.contract, request.limits)
    anatomy = f", trained on {request.contract.anatomy}" if request.contract.anatomy else ""
    described = Description(
        name=name,
        version=request.version or _VERSION,
        description=f"Exported reconstruction{anatomy}, added from {request.path.name}.",
        reference="",
        licence=request.licence,
        source=f"{request.path.name}, SHA-256 {file_sha256}",
        card=card_of_program(name, request.path.name, file_sha256, tried, request.licence),
    )
    return _put_program(request, described, tried, request.lineage)


def _add_head_program(
    request: AddRequest, bundle: HeadBundle, name: str, version: str, report: Callable[[str], None]
) -> Added:
    """Try out and store a head that `torch.export` wrote."""
    _require_nothing_stated(request)
    file_sha256 = checked_hash(bundle.program, request.sha256)
    report("trying out the exported head")
    tried = try_out(bundle.program, name, request.contract, request.limits, (bundle.head, bundle.options))
    texts = bundle.texts
    described = Description(
        name=name,
        version=version,
        description=texts["description"] or f"Exported head for {bundle.head.task}.",
        reference=texts["reference"],
        licence=texts["licence"],
        source=texts["source"] or f"{bundle.program.name}, SHA-256 {file_sha256}",
        card=card_of_head_program(name, bundle.head, file_sha256, tried, texts["licence"], bundle.card),
    )
    return _put_program(request, described, tried, bundle.lineage, bundle.head)


def _put_program(
    request: AddRequest, described: Description, tried: Tried, lineage: Lineage, head: HeadContract | None = None
) -> Added:
    manifest = draft_manifest(
        described, tried.architecture, tried.data, tried.contract, parameters=tried.parameters, lineage=lineage
    )
    manifest = dataclasses.replace(manifest, golden_sha256=hashlib.sha256(tried.pair).hexdigest())
    if head is not None:
        manifest = dataclasses.replace(manifest, head=head, golden_tolerance=TOLERANCE)
    made = (tried.data, tried.pair, tried.seconds)
    folder = folders.models_folder()
    packaged = put_package(folder, manifest, described, made, replace=request.replace, beside_others=True)
    return Added(packaged, Recognised(tried.architecture, {}, "", ()))


def _require_nothing_stated(request: AddRequest) -> None:
    if request.contract != Contract() or request.licence or request.lineage != Lineage():
        raise StoreError(
            f"the model in {request.path} brings its own contract, licence and lineage: leave those options out, or add its "
            "weights file"
        )


def _add_folder(request: AddRequest, name: str) -> Added:
    """Store the model in a folder, after it has been verified as on every load."""
    _require_nothing_stated(request)
    manifest = Manifest.read(request.path.resolve())
    if request.sha256 and request.sha256.strip().lower() != manifest.weights_sha256:
        raise HashMismatchError(
            f"the weights in {request.path} have the SHA-256 {manifest.weights_sha256}, expected "
            f"{request.sha256.strip().lower()}: it is not the model that was meant; get it again, or leave --sha256 out if you "
            "trust this one"
        )
    card = request.path / CARD_FILE
    described = Description(
        name=name,
        version=request.version or manifest.version,
        description=manifest.description,
        reference=manifest.reference,
        licence=manifest.licence,
        source=manifest.source,
        card=card.read_text(encoding="utf-8", errors="replace") if card.is_file() else "",
    )
    if manifest.family == EXPORTED:
        checked_hash(request.path / WEIGHTS_FILE, manifest.weights_sha256)
        options = {name: value for name, value in manifest.architecture.items() if name in HEAD_OPTIONS}
        head = None if manifest.head is None else (manifest.head, options)
        tried = try_out(request.path / WEIGHTS_FILE, name, manifest.contract, request.limits, head)
        return _put_program(request, described, tried, manifest.lineage, manifest.head)
    if manifest.head is not None:
        load_head(StoredModel(manifest, request.path, "added"), "cpu")
        tensors = read_weights(request.path / WEIGHTS_FILE, manifest.weights_sha256).tensors
        packaged = write_head(
            folders.models_folder(),
            described,
            manifest.architecture,
            tensors,
            manifest.head,
            lineage=manifest.lineage,
            replace=request.replace,
            beside_others=True,
        )
        return Added(packaged, Recognised(manifest.architecture, tensors, "", ()))
    load(StoredModel(manifest, request.path, "added"), "cpu")
    tensors = read_weights(request.path / WEIGHTS_FILE, manifest.weights_sha256).tensors
    packaged = write_model(
        folders.models_folder(),
        described,
        manifest.architecture,
        tensors,
        manifest.contract,
        precision=manifest.precision,
        lineage=manifest.lineage,
        replace=request.replace,
        beside_others=True,
    )
    return Added(packaged, Recognised(manifest.architecture, tensors, "", ()))


def name_for(path: Path) -> str:
    """Return a name after a file, such as ``"knee-leaderboard"`` after ``knee_leaderboard_state_dict.pt``."""
    stem = path.resolve().name if path.is_dir() else _ENDINGS.sub("", path.stem.lower()) or path.stem.lower()
    return re.sub(r"[^a-z0-9.]+", "-", stem).strip("-.")


def check_free(name: str, version: str, *, replace: bool) -> None:
    """Refuse a name and version that are taken.

    Parameters
    ----------
    name, version
        Of the model that is to be added.
    replace
        One that was added may be replaced; one that comes with recond never.

    Raises
    ------
    NameTakenError
        If they are.
    """
    shipped = {model.manifest.name for model in stored_models() if model.origin == "shipped"}
    if name in shipped | registry.RESERVED_NAMES:
        raise NameTakenError(f"{name} comes with recond and cannot be replaced: give another name with --as")
    # A folder with a broken manifest takes its name as well.
    if not replace and folder_for(folders.models_folder(), name, version).exists():
        raise NameTakenError(taken(name, version))
