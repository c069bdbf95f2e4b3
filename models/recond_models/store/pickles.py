"""What a pickle names, found by reading its instructions without following them."""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path
from typing import IO, Final

_HARMLESS: Final = frozenset({"torch", "collections", "_codecs"})
_COMPILED: Final = (
    "data/aotinductor/",
    "data/constants/custom_obj_",
    "data/constants/opaque_obj_",
    "data/executorch/",
    "data/mtia/",
)
_PICKLED: Final = ("data/sample_inputs/", "data/weights/", "data/constants/")
_DAMAGE: Final = (
    ValueError,
    OSError,
    EOFError,
    zipfile.BadZipFile,
    UnicodeDecodeError,
    IndexError,
    KeyError,
    OverflowError,
)
_MOST_STREAMS: Final = 4  # the older format of torch is a few pickles in a row, then raw numbers
_STRINGS: Final = frozenset(
    {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
)
_MEMO: Final = frozenset({"MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"})


def foreign_names(path: Path, *, is_zip: bool) -> list[str]:
    """Return what a pickle would import besides tensors and plain containers, such as ``"posix.system"``.

    Parameters
    ----------
    path
        A file that `torch.save` or `pickle` wrote, or any other file.
    is_zip
        It is an archive; the pickle in it is looked at.

    Returns
    -------
    list of str
        In the order in which they appear, as far as the file could be read; empty for what is no pickle.
    """
    names: dict[str, None] = {}
    try:
        if not is_zip:
            with path.open("rb") as file:
                _collect(file, names, _MOST_STREAMS)
            return list(names)
        with zipfile.ZipFile(path) as archive:
            _collect_all(archive, names)
    except _DAMAGE:
        pass  # what came before the damage has been collected
    return list(names)


def code_in_export(path: Path) -> list[str]:
    """Return what an archive of `torch.export.save` brings that would run: names in pickles, objects, compiled programs.

    Parameters
    ----------
    path
        The archive.

    Returns
    -------
    list of str
        Names that pickles import, and members of the archive that are compiled or objects; as far as it could be read.
    """
    names: dict[str, None] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                member = info.filename.split("/", 1)[-1]
                if member.startswith(_COMPILED):
                    names[member[:100]] = None
                elif member.startswith(_PICKLED) and not member.endswith(".json"):
                    content = io.BytesIO(archive.read(info))
                    if zipfile.is_zipfile(content):
                        with zipfile.ZipFile(content) as inner:
                            _collect_all(inner, names)
    except _DAMAGE:
        pass  # what came before the damage has been collected
    return list(names)


def _collect_all(archive: zipfile.ZipFile, names: dict[str, None]) -> None:
    """Add the foreign names in the pickles of an archive of `torch.save`."""
    for member in archive.namelist():
        if member.endswith(".pkl"):
            with archive.open(member) as file:
                _collect(file, names, 1)


def _collect(file: IO[bytes], names: dict[str, None], streams: int) -> None:
    """Add the foreign names in some pickles that follow one another."""
    for _ in range(streams):
        strings: list[str] = []
        for instruction, argument, _place in pickletools.genops(file):
            if instruction.name in _STRINGS:
                strings.append(str(argument))
            elif instruction.name in {"GLOBAL", "INST"}:
                _add(names, *str(argument).split(" ", 1))
            elif instruction.name == "STACK_GLOBAL" and len(strings) > 1:
                _add(names, strings[-2], strings[-1])
            elif instruction.name not in _MEMO:
                strings = strings[-2:]


def _add(names: dict[str, None], module: str, name: str) -> None:
    """Add a name unless it is harmless."""
    if module.split(".", 1)[0] not in _HARMLESS:
        names[f"{module}.{name}"] = None
