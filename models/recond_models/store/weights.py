"""Weights out of files of unknown origin: nothing in them runs, and nothing in them is taken on trust."""

from __future__ import annotations

import hashlib
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from recond_models.store.errors import HashMismatchError, UnreadableFileError, UnsafeFileError, WeightsNotFiniteError
from recond_models.store.pickles import foreign_names

MOST_BYTES: Final = 2 << 30
"""Largest file of weights, and most bytes of weights in float32."""

_PIECE: Final = 1 << 20
_STATES: Final = ("state_dict", "model_state_dict", "model")
"""Where training programs keep the weights; the first is Lightning's."""

_ZIP: Final = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class WeightFile:
    """Tensors read from a file.

    Parameters
    ----------
    tensors
        Names and dense CPU tensors of floating-point numbers, as stored; nothing about the names or values has been checked.
    sha256
        Hexadecimal SHA-256 of the file.
    size
        Bytes of the file.
    """

    tensors: dict[str, Tensor]
    sha256: str
    size: int


def read_weights(path: Path, sha256: str = "") -> WeightFile:
    """Read a bare state dict, a Lightning checkpoint or a safetensors file.

    Parameters
    ----------
    path
        The file.
    sha256
        Hexadecimal SHA-256 that it must have; empty for any. Compared before the file is opened as anything.

    Returns
    -------
    WeightFile
        Its tensors.

    Raises
    ------
    UnreadableFileError
        It is missing, not a regular file, over `MOST_BYTES`, damaged, or holds no tensors.
    HashMismatchError
        It has another hash.
    UnsafeFileError
        Reading it would run code.
    """
    found = checked_hash(path, sha256)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(9)
    # A safetensors file begins with the length of its header, whose text is a JSON object.
    if len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") <= size:
        content: object = _read_safetensors(path)
    else:
        content = _read_pickle(path, is_zip=head.startswith(_ZIP))
    return WeightFile(_tensors_in(content, path), found, size)


def checked_hash(path: Path, sha256: str = "") -> str:
    """Return the hexadecimal SHA-256 of a regular file of acceptable size.

    Parameters
    ----------
    path, sha256
        As for `read_weights`.

    Raises
    ------
    UnreadableFileError
        It is missing, not a regular file, or over `MOST_BYTES`.
    HashMismatchError
        It has another hash than `sha256`.
    """
    _check_size(path)
    found = hash_of(path)
    if sha256 and found != sha256.strip().lower():
        raise HashMismatchError(
            f"{path} has the SHA-256 {found}, expected {sha256.strip().lower()}: it is not the file that was meant, or it was "
            "damaged on the way; get it again, or leave --sha256 out if you trust this one"
        )
    return found


def hash_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file.

    Raises
    ------
    UnreadableFileError
        It cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def as_float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors in contiguous float32, each with memory of its own.

    Raises
    ------
    WeightsNotFiniteError
        A weight is NaN or infinite; the message says where.
    """
    converted = {name: tensor.detach().to(torch.float32).contiguous().clone() for name, tensor in tensors.items()}
    bad = {name: int((~torch.isfinite(tensor)).sum()) for name, tensor in converted.items()}
    bad = {name: count for name, count in bad.items() if count}
    if bad:
        name, count = next(iter(bad.items()))
        others = f", and some of {len(bad) - 1} other tensors," if len(bad) > 1 else ""
        raise WeightsNotFiniteError(
            f"{count} of {converted[name].numel()} weights of {name}{others} are NaN or infinite: the training diverged or the "
            "file is damaged; take an earlier checkpoint, or get the file again"
        )
    return converted


def _check_size(path: Path) -> None:
    """Raise UnreadableFileError unless it is a regular file of acceptable size."""
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "is no file" if path.exists() else "does not exist"
            raise UnreadableFileError(f"{path} {what}: name a .pt, .pth, .ckpt or .safetensors file")
        size = path.stat().st_size
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read: {error.strerror}") from error
    if size > MOST_BYTES:
        raise UnreadableFileError(
            f"{path} has {size} bytes, more than the {MOST_BYTES} that a model may have: leave optimiser state out, as in "
            "torch.save(network.state_dict(), PATH)"
        )
    if size == 0:
        raise UnreadableFileError(f"{path} is empty: get it again")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_safetensors(path.read_bytes())
    except (SafetensorError, ValueError, KeyError) as error:
        raise UnreadableFileError(f"{path} is a damaged safetensors file ({error}): get it again") from error


def _read_pickle(path: Path, *, is_zip: bool) -> object:
    """Return what `torch.save` wrote, if it is made of tensors and plain containers only."""
    if is_zip:
        _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is odd about the file shows in the errors below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers of torch raise whatever a damaged file makes them trip over
        names = foreign_names(path, is_zip=is_zip)
        if names:
            raise _unsafe(path, names) from error
        said = (
            f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
            if str(error).strip()
            else type(error).__name__
        )
        if isinstance(error, pickle.UnpicklingError):
            said = "torch refuses its instructions"
        raise UnreadableFileError(
            f"{path} is neither a safetensors file nor weights that torch.save({{name: tensor}}, PATH) wrote, or it is damaged "
            f"({said[:200]}): get it again"
        ) from error


def _unsafe(path: Path, names: list[str]) -> UnsafeFileError:
    found = f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""
    return UnsafeFileError(
        f"{path} holds more than weights: reading it would run code that the file names{found}. Get it as safetensors; or, only "
        "if you trust whoever made it, write its weights alone with the program that made it: "
        "torch.save(network.state_dict(), PATH)"
    )


def _check_archive(path: Path) -> None:
    """Refuse archives that unpack to more than they are; what torch writes is stored, not compressed."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise UnreadableFileError(f"{path} is a damaged archive ({error}): get it again") from error
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise UnreadableFileError(f"{path} is a compressed archive, not a file that torch.save wrote: unpack it first")
    if sum(member.file_size for member in members) > MOST_BYTES:
        raise UnreadableFileError(f"{path} claims to hold more than {MOST_BYTES} bytes: no file of weights does")


def _tensors_in(content: object, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict, or of the state dict in a checkpoint."""
    state: Any = content
    for name in _STATES:
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
            break
    if not isinstance(state, Mapping) or not state:
        raise UnreadableFileError(
            f"{path} holds a {type(content).__name__} and no weights by name: write them with "
            "torch.save(network.state_dict(), PATH)"
        )
    tensors = {}
    numbers = 0
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise UnreadableFileError(
                f"{path} holds {type(tensor).__name__} under {name!r} where a tensor should be: write the weights alone with "
                "torch.save(network.state_dict(), PATH)"
            )
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise UnreadableFileError(
                f"{name} in {path} is sparse, quantised or without values; weights are dense numbers"
            )
        # A tensor may claim any shape over little memory, by strides of 0.
        numbers += tensor.numel()
        if numbers * 4 > MOST_BYTES:
            raise UnreadableFileError(f"the weights in {path} take more than {MOST_BYTES} bytes; no model here does")
        tensors[name] = tensor
    return tensors
