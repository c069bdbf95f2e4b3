"""Arguments of the calls of an exported program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from recond_models.exported.errors import ProgramError

DTYPES: Final = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    10: torch.complex64,
    11: torch.complex128,
    12: torch.bool,
    13: torch.bfloat16,
}
"""Types by their numbers in files (`torch._export.serde.schema.ScalarType`)."""

_MEMORY_FORMATS: Final = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_STRIDED: Final = 7


@dataclass(frozen=True, slots=True)
class Name:
    """A value that was made before."""

    name: str


class _Device:
    """The device that the program runs on, whatever device it names."""


_DEVICE: Final = _Device()


def _plain(content: Any) -> Any:  # noqa: ANN401
    return content


def _floating(content: float | str) -> float:
    return float(content)  # "Infinity" and "NaN" are written as text


def _named(content: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return a size: a name, or the number itself."""
    return Name(str(content["as_name"])) if "as_name" in content else next(iter(content.values()))


def _tensor(content: Mapping[str, Any]) -> Name:
    return Name(str(content["name"]))


def _optional(content: Mapping[str, Any]) -> Name | None:
    return _tensor(content["as_tensor"]) if "as_tensor" in content else None


def _layout(content: int) -> torch.layout:
    if content != _STRIDED:
        raise ProgramError("the program makes tensors that are not dense: export it with dense ones")
    return torch.strided


_ARGUMENTS: Final[dict[str, Callable[[Any], Any]]] = {
    "as_none": lambda _: None,
    "as_tensor": _tensor,
    "as_tensors": lambda content: [_tensor(tensor) for tensor in content],
    "as_optional_tensor": _optional,
    "as_optional_tensors": lambda content: [_optional(tensor) for tensor in content],
    "as_int": _plain,
    "as_ints": list,
    "as_float": _floating,
    "as_floats": lambda content: [_floating(number) for number in content],
    "as_bool": _plain,
    "as_bools": list,
    "as_string": _plain,
    "as_sym_int": _named,
    "as_sym_ints": lambda content: [_named(number) for number in content],
    "as_sym_float": _named,
    "as_sym_bool": _named,
    "as_scalar_type": lambda content: DTYPES[content],
    "as_memory_format": lambda content: _MEMORY_FORMATS[content],
    "as_layout": _layout,
    "as_device": lambda _: _DEVICE,
    "as_complex": lambda content: complex(_floating(content["real"]), _floating(content["imag"])),
}


def read_argument(argument: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Return an argument out of a file, with `Name` for what is yet to be computed.

    Raises
    ------
    ProgramError
        It is a graph, an object or another form that is not known here.
    """
    ((form, content),) = argument.items()
    if form not in _ARGUMENTS:
        raise ProgramError(f"the program has an argument of the form {str(form)[:40]}, which is not known here")
    value = _ARGUMENTS[form](content)
    if any(isinstance(single, (dict, list)) for single in (value if isinstance(value, list) else [value])):
        raise ProgramError(f"the program has an argument of the form {form} that is none")
    return value


def names_in(argument: Any) -> set[str]:  # noqa: ANN401
    """Return the names of what an argument is computed from."""
    values = argument if isinstance(argument, list) else [argument]
    return {value.name for value in values if isinstance(value, Name)}


def value_of(argument: Any, values: Mapping[str, Any], device: torch.device) -> Any:  # noqa: ANN401
    """Return an argument with its names replaced by values, and any device by the one that the program runs on."""
    if isinstance(argument, Name):
        return values[argument.name]
    if argument is _DEVICE:
        return device
    if isinstance(argument, list):
        return [values[single.name] if isinstance(single, Name) else single for single in argument]
    return argument
