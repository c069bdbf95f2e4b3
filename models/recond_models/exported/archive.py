"""Reads a .pt2 archive: the text of the program and the numbers of its weights, nothing else. Nothing is unpickled."""

from __future__ import annotations

import json
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from recond_models.exported.arguments import DTYPES
from recond_models.exported.errors import ProgramError

MOST_BYTES: Final = 2 << 30
"""Largest archive, and most bytes of weights."""

_MOST_PROGRAM_BYTES: Final = 64 << 20
_MOST_MEMBERS: Final = 20_000
_MODEL: Final = "model"
_WEIGHTS, _CONSTANTS = "data/weights/", "data/constants/"


@dataclass(frozen=True, slots=True)
class Archive:
    """What a .pt2 file holds.

    Parameters
    ----------
    program
        The serialised program, a JSON object in which nothing has been checked.
    tensors
        Weights, buffers and constants by the names that the program has for them; contiguous, memory of their own.
    torch_version
        That wrote it, as it says.
    """

    program: dict[str, Any]
    tensors: dict[str, Tensor]
    torch_version: str


def is_exported(path: Path) -> bool:
    """Tell whether a file is an archive of `torch.export.save`; any version of torch."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return False
    parts = [name.split("/", 1)[-1] for name in names]
    return any(
        part in {"archive_format", "serialized_exported_program.json"} or part.startswith("models/") for part in parts
    )


def read_archive(path: Path) -> Archive:
    """Read an archive that `torch.export.save` wrote.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Archive
        Its program and tensors.

    Raises
    ------
    ProgramError
        It is damaged, too large, compressed, of an older format, or holds weights that only unpickling would give.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive)
            program = _json(archive, members, f"models/{_MODEL}.json")
            tensors = {
                **_payload(archive, members, _WEIGHTS, f"{_WEIGHTS}{_MODEL}_weights_config.json"),
                **_payload(archive, members, _CONSTANTS, f"{_CONSTANTS}{_MODEL}_constants_config.json"),
            }
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise ProgramError(f"the archive is damaged ({error}): export it again") from error
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, ProgramError):
            raise
        raise ProgramError(f"the archive is damaged ({type(error).__name__}: {error}): export it again") from error
    return Archive(program, tensors, str(program.get("torch_version", ""))[:40])


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the members by their names below the folder of the archive; refuse what unpacks to more than it is."""
    infos = archive.infolist()
    if len(infos) > _MOST_MEMBERS:
        raise ProgramError(f"the archive has {len(infos)} members, more than {_MOST_MEMBERS}")
    if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
        raise ProgramError(
            "the archive is compressed, which torch.export.save never does, and may unpack to anything: export it again"
        )
    size = sum(info.file_size for info in infos)
    if size > MOST_BYTES:
        raise ProgramError(f"the archive claims to hold {size} bytes, more than the {MOST_BYTES} that a model may have")
    found = {info.filename.split("/", 1)[-1]: info for info in infos}
    if "serialized_exported_program.json" in {info.filename for info in infos}:
        raise ProgramError("the archive has the format of torch before 2.9: export it again with torch 2.9 or later")
    programs = [name for name in found if name.startswith("models/")]
    if programs != [f"models/{_MODEL}.json"]:
        raise ProgramError(f"the archive holds the programs {programs[:4]}, expected one, models/{_MODEL}.json")
    return found


def _json(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str) -> dict[str, Any]:
    """Return a member that is a JSON object."""
    if name not in members:
        raise ProgramError(f"the archive lacks {name}: export it again with torch 2.9 or later")
    if members[name].file_size > _MOST_PROGRAM_BYTES:
        raise ProgramError(f"{name} has more than {_MOST_PROGRAM_BYTES} bytes")
    value = json.loads(archive.read(members[name]))
    if not isinstance(value, dict):
        raise ProgramError(f"{name} is no JSON object")
    return value


def _payload(
    archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], folder: str, config: str
) -> dict[str, Tensor]:
    """Return the tensors that a table of weights or constants names."""
    tensors = {}
    read: dict[str, bytes] = {}
    total = 0
    for name, entry in _json(archive, members, config)["config"].items():
        path = str(entry["path_name"])
        meta = entry["tensor_meta"]
        if entry["use_pickle"] or meta is None:
            raise ProgramError(f"{name} is stored as a pickle ({folder}{path}): use plain tensors, and export again")
        if path not in read:
            read[path] = archive.read(members[folder + path])
        dtype = DTYPES[meta["dtype"]]
        total += math.prod(_whole(size) for size in meta["sizes"]) * dtype.itemsize
        if total > MOST_BYTES:
            raise ProgramError(f"the weights take more than {MOST_BYTES} bytes: no model here does")
        tensors[str(name)] = _tensor(read[path], meta, dtype)
    return tensors


def _tensor(data: bytes, meta: dict[str, Any], dtype: torch.dtype) -> Tensor:
    """Return a contiguous tensor out of raw numbers; raise ValueError if it does not lie within them."""
    sizes = [_whole(size) for size in meta["sizes"]]
    strides = [_whole(stride) for stride in meta["strides"]]
    offset = _whole(meta["storage_offset"])
    if len(sizes) != len(strides):
        raise ValueError("a tensor has other numbers of sizes and of strides")
    if 0 in sizes:
        return torch.empty(sizes, dtype=dtype)
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    count = len(data) // dtype.itemsize
    if last >= count:
        raise ValueError(f"a tensor of {sizes} does not lie within its {count} numbers")
    flat = torch.frombuffer(bytearray(data[: count * dtype.itemsize]), dtype=dtype)
    return flat.as_strided(sizes, strides, offset).clone(memory_format=torch.contiguous_format)


def _whole(value: dict[str, Any]) -> int:
    """Return a size that is a number and not an expression."""
    number = value["as_int"]
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 1 << 48:
        raise ValueError(f"{number!r} is no size")
    return number
