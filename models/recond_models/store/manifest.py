"""What is written beside the weights of a trained model."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args

from recond_models.contract import Contract
from recond_models.heads.attention import attention_grid
from recond_models.heads.contract import HeadContract
from recond_models.model import ModelInfo, Origin
from recond_models.store.errors import ManifestError, UnsafeNameError
from recond_models.store.lineage import Lineage

MANIFEST_FILE: Final = "manifest.json"
WEIGHTS_FILE: Final = "weights.safetensors"
GOLDEN_FILE: Final = "golden.safetensors"
CARD_FILE: Final = "card.md"

Precision = Literal["float32", "bfloat16", "float16"]

EXPORTED: Final = "exported"
"""Family of programs that `torch.export` wrote; their architecture says what they take and return."""

_FAMILIES_WITH_PHASE: Final = frozenset({"unrolled"})
"""Families that make complex images; fastMRI's networks combine the coils themselves, to magnitudes."""

_FORMAT: Final = 1
_MOST_BYTES: Final = 1 << 20
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,31}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """A trained model, without its weights.

    Parameters
    ----------
    name
        Name of the model and of its folder: lower-case letters, digits, ``.``, ``_`` and ``-``, at most 64.
    version
        Version; another version may give another image.
    description
        One sentence for people.
    reference
        Where the method comes from.
    licence
        Licence of the weights, such as ``"Apache-2.0"``; empty if it was not stated.
    source
        Where the weights come from.
    architecture
        ``"family"`` and the sizes that its `build` takes.
    weights_sha256, golden_sha256
        Hexadecimal SHA-256 of the files of weights and of the golden pair.
    golden_tolerance
        Largest deviation from the golden image, as a fraction of its brightest pixel, with which the model is still itself.
    precision
        Type that the network computes in.
    fits_samples
        It fits the measured samples, so that a data-consistency residual says something about its images.
    contract
        What data it was made for.
    parameters
        Number of weights.
    lineage
        How it came to be; empty in manifests of earlier versions.
    head
        What a head takes and returns; None for models that reconstruct.

    Raises
    ------
    UnsafeNameError
        The name is not of that form.
    ManifestError
        Another field cannot be.
    """

    name: str
    version: str
    description: str
    reference: str
    licence: str
    source: str
    architecture: dict[str, Any]
    weights_sha256: str
    golden_sha256: str
    golden_tolerance: float
    precision: Precision
    fits_samples: bool
    contract: Contract
    parameters: int
    lineage: Lineage = field(default_factory=Lineage)
    head: HeadContract | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        check_version(self.version)
        if not isinstance(self.architecture.get("family"), str):
            raise ManifestError(f"the architecture {self.architecture!r} names no family")
        for name in ("weights_sha256", "golden_sha256"):
            if not _SHA256.fullmatch(getattr(self, name)):
                raise ManifestError(
                    f"{name} is {getattr(self, name)!r}; it must be 64 hexadecimal digits in lower case"
                )
        if not 0 < self.golden_tolerance < 1:
            raise ManifestError(f"golden_tolerance is {self.golden_tolerance}; it must be a fraction between 0 and 1")
        if self.precision not in get_args(Precision):
            raise ManifestError(f"precision is {self.precision!r}; it must be one of {', '.join(get_args(Precision))}")
        if self.parameters < 1:
            raise ManifestError(f"parameters is {self.parameters}; a trained model has some")

    @property
    def family(self) -> str:
        """Family of the network, a key of `recond_models.networks.families.FAMILIES`."""
        return str(self.architecture["family"])

    def info(self, origin: Origin) -> ModelInfo:
        """Return the model as the registry lists it.

        Parameters
        ----------
        origin
            Whether it came with recond or was added on this machine.
        """
        return ModelInfo(
            name=self.name,
            version=self.version,
            description=self.description,
            kind="network" if self.head is None else "head",
            reference=self.reference,
            needs_calibration=self.contract.requires_calibration,
            fits_samples=self.fits_samples,
            weights_sha256=self.weights_sha256,
            origin=origin,
            family=self.family,
            precision=self.precision,
            licence=self.licence,
            source=self.source,
            contract=self.contract,
            has_phase=self.family in _FAMILIES_WITH_PHASE or self.architecture.get("complex_images") is True,
            has_deviation=bool(self.architecture.get("deviation")),
            head=self.head,
            attention=attention_grid(self.architecture),
        )

    def to_json(self) -> str:
        """Return the text of the file."""
        data = {entry.name: getattr(self, entry.name) for entry in fields(self)} | {"contract": self.contract.to_json()}
        del data["lineage"], data["head"]
        if self.lineage != Lineage():
            data["lineage"] = self.lineage.to_json()
        if self.head is not None:
            data["head"] = self.head.to_json()
        return json.dumps({"manifest": _FORMAT, **data}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Return what `to_json` described.

        Raises
        ------
        ManifestError
            The text is not JSON, comes from a newer version, or its fields are not those of a manifest.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ManifestError(f"the manifest is not JSON: {error}") from error
        if not isinstance(data, dict) or data.get("manifest") != _FORMAT:
            found = data.get("manifest") if isinstance(data, dict) else data
            raise ManifestError(f"the manifest has the format {found!r}, this version of recond reads {_FORMAT}")
        del data["manifest"]
        wanted = {entry.name for entry in fields(cls)}
        optional = {"lineage", "head"}
        if set(data) | optional != wanted:
            wanted -= optional
            missing, unknown = sorted(wanted - set(data)), sorted(set(data) - wanted)
            raise ManifestError(f"the manifest lacks the fields {missing} and has the unknown fields {unknown}")
        for name, kind in _TYPES.items():
            if not isinstance(data[name], kind) or (isinstance(data[name], bool) and kind is not bool):
                raise ManifestError(f"the manifest's {name} is {data[name]!r}, which is not of the type it should be")
        try:
            data["contract"] = Contract.from_json(data["contract"])
        except ValueError as error:
            raise ManifestError(f"the manifest's contract cannot be: {error}") from error
        try:
            data["lineage"] = Lineage.from_json(data.get("lineage", {}))
        except (TypeError, ValueError) as error:
            raise ManifestError(f"the manifest's lineage cannot be: {error}") from error
        try:
            data["head"] = None if data.get("head") is None else HeadContract.from_json(data["head"])
        except ValueError as error:
            raise ManifestError(f"the manifest's head cannot be: {error}") from error
        return cls(**data)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest in a folder.

        Raises
        ------
        ManifestError
            There is none, it is too long, cannot be read, or belongs to a folder of another name.
        UnsafeNameError
            Its name cannot be one.
        """
        path = folder / MANIFEST_FILE
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise ManifestError(f"{path} has more than {_MOST_BYTES} bytes, which no manifest has")
            manifest = cls.from_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ManifestError(f"{path} cannot be read: {error}") from error
        if folder.name not in {manifest.name, folder_name(manifest.name, manifest.version)}:
            raise ManifestError(f"the manifest of {manifest.name} lies in the folder {folder}: rename one of them")
        return manifest


_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "name": str,
    "version": str,
    "description": str,
    "reference": str,
    "licence": str,
    "source": str,
    "architecture": dict,
    "weights_sha256": str,
    "golden_sha256": str,
    "golden_tolerance": float,
    "precision": str,
    "fits_samples": bool,
    "parameters": int,
}


def folder_name(name: str, version: str) -> str:
    """Return the folder of a version beside the first one, which is also how a version is named in commands and requests."""
    return f"{name}@{version}"


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a model and of its folder.

    Raises
    ------
    UnsafeNameError
        If it is one.
    """
    if not _NAME.fullmatch(name):
        raise UnsafeNameError(
            f"{name!r} cannot be the name of a model: give 1 to 64 lower-case letters, digits, '.', '_' or '-', the first a "
            "letter or a digit, with --as NAME"
        )


def check_version(version: str) -> None:
    """Refuse what cannot be a version.

    Raises
    ------
    ManifestError
        If it cannot.
    """
    if not _VERSION.fullmatch(version):
        raise ManifestError(
            f"{version!r} cannot be a version: give 1 to 32 letters, digits, '.', '_', '+' or '-', the first a letter or a digit"
        )
