"""The families of heads: how to build the network of one from the architecture in its manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from torch import nn

from recond_models.heads.network import SliceUNet
from recond_models.heads.series_network import SeriesNetwork

_MOST_WIDTH: Final = 512
_MOST_LEVELS: Final = 7
_OPTIONS: Final = frozenset({"family", "merged", "temperature", "temperatures"})
"""Fields of an architecture that are no sizes of the network; see `recond_models.heads.head.options_of`."""


def build(architecture: Mapping[str, Any]) -> nn.Module:
    """Make the network that an architecture describes: float32, on the CPU, in evaluation mode, with any weights.

    Raises
    ------
    ValueError
        There is no such family, or a field is missing, unknown or out of range.
    """
    family = architecture.get("family")
    if family not in FAMILIES:
        raise ValueError(f"there is no family of heads {family!r}; there are {', '.join(sorted(FAMILIES))}")
    given = {name: value for name, value in architecture.items() if name not in _OPTIONS}
    try:
        return FAMILIES[family](given).eval()
    except TypeError as error:
        raise ValueError(f"the architecture {dict(architecture)} is none of a {family}: {error}") from error


def _slice_unet(given: Mapping[str, Any]) -> nn.Module:
    widths = tuple(_whole(width, _MOST_WIDTH, "widths") for width in given.get("widths", ()))
    if len(widths) > _MOST_LEVELS:
        raise ValueError(f"a U-Net of {len(widths)} levels; at most {_MOST_LEVELS}")
    sizes: dict[str, Any] = {
        name: _whole(value, _MOST_WIDTH, name) for name, value in given.items() if name != "widths"
    }
    if widths:
        sizes["widths"] = widths
    return SliceUNet(**sizes)


def _whole(value: object, most: int, name: str) -> int:
    """Return a whole number from 1 to `most`: a hostile manifest must not ask for more memory than there is."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise ValueError(f"{name} must be a whole number from 1 to {most}, got {value!r}")
    return value


def _series(given: Mapping[str, Any]) -> nn.Module:
    widths = tuple(_whole(width, _MOST_WIDTH, "widths") for width in given.get("widths", ()))
    if not 2 <= len(widths) <= _MOST_LEVELS or set(given) != {"widths"}:
        raise ValueError(f"the architecture of a series network has widths, 2 to {_MOST_LEVELS}, got {dict(given)}")
    return SeriesNetwork(widths)


FAMILIES: Final[dict[str, Callable[[Mapping[str, Any]], nn.Module]]] = {"series": _series, "slice-unet": _slice_unet}
"""By the name that stands in the field ``family`` of an architecture."""
