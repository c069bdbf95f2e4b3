"""What a pickle names, found by reading its instructions without following them."""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path
from typing import IO, Final

_HARMLESS: Final = frozenset({"torch", "collections", "_codecs"})
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
            for member in archive.namelist():
                if member.endswith(".pkl"):
                    with archive.open(member) as file:
                        _collect(file, names, 1)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, UnicodeDecodeError, IndexError, KeyError, OverflowError):
        pass  # what came before the damage has been collected
    return list(names)


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
