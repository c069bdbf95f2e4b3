"""The families of networks: how to build one from its architecture, to know it by its weights, and to run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from recond_models.batch import Reconstructor
from recond_models.model import ModelInfo
from recond_models.networks import recognition
from recond_models.networks.unet import Unet
from recond_models.networks.unet_reconstructor import UnetReconstructor
from recond_models.networks.unrolled import UnrolledArchitecture, UnrolledNetwork
from recond_models.networks.unrolled_reconstructor import UnrolledReconstructor
from recond_models.networks.varnet import VarNet
from recond_models.networks.varnet_reconstructor import VarNetReconstructor


@dataclass(frozen=True, slots=True)
class Family:
    """A family of networks.

    Parameters
    ----------
    build
        Makes the network that an architecture describes: float32, on the CPU, in evaluation mode, with any weights. Its state
        dict has the key names of published files. Raises ValueError for a field that is missing, unknown or out of range.
    infer
        Returns the architecture that a state dict belongs to, or None if its keys are not of this family. Raises ValueError if
        they are, but do not fit together.
    reconstructor
        Makes a network with its weights ready to run: (info, network, torch device, precision ``"float32"`` or ``"bfloat16"``).
    """

    build: Callable[[Mapping[str, Any]], nn.Module]
    infer: Callable[[Mapping[str, Tensor]], dict[str, Any] | None]
    reconstructor: Callable[[ModelInfo, nn.Module, str, str], Reconstructor]


def _build_unet(architecture: Mapping[str, Any]) -> nn.Module:
    sizes = _sizes(architecture, "unet", ("in_channels", "out_channels", "channels", "pools"))
    return Unet(*sizes).eval()


def _build_varnet(architecture: Mapping[str, Any]) -> nn.Module:
    names = ("cascades", "channels", "pools", "sensitivity_channels", "sensitivity_pools")
    return VarNet(*_sizes(architecture, "varnet", names)).eval()


def _sizes(architecture: Mapping[str, Any], family: str, names: tuple[str, ...]) -> list[int]:
    """Return the whole numbers of those names; raise ValueError unless there are exactly these, each at least 1."""
    given = set(architecture) - {"family"}
    if architecture.get("family") != family or given != set(names):
        raise ValueError(
            f"the architecture of a {family} has the fields family, {', '.join(names)}; got {dict(architecture)}"
        )
    sizes = []
    for name in names:
        size = architecture[name]
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= _LARGEST[name]:
            raise ValueError(f"{name} of a {family} must be a whole number from 1 to {_LARGEST[name]}, got {size!r}")
        sizes.append(size)
    return sizes


_LARGEST = {
    "cascades": 100,
    "in_channels": 64,
    "out_channels": 64,
    "channels": 1024,
    "pools": 6,
    "sensitivity_channels": 1024,
    "sensitivity_pools": 6,
}
"""Limits that keep a hostile manifest from asking for more memory than there is."""


def _build_unrolled(architecture: Mapping[str, Any]) -> nn.Module:
    sizes = {name: value for name, value in architecture.items() if name != "family"}
    return UnrolledNetwork(UnrolledArchitecture.from_json(sizes)).eval()


def _nothing(_state: Mapping[str, Tensor]) -> None:
    """Tell no architecture: how an unrolled network iterates does not show in its weights."""


FAMILIES: dict[str, Family] = {
    "unet": Family(_build_unet, recognition.unet_of, UnetReconstructor),
    "unrolled": Family(_build_unrolled, _nothing, UnrolledReconstructor),
    "varnet": Family(_build_varnet, recognition.varnet_of, VarNetReconstructor),
}
"""By the name that stands in the field ``family`` of an architecture."""


def of_architecture(architecture: Mapping[str, Any]) -> Family:
    """Return the family that an architecture names.

    Raises
    ------
    ValueError
        There is no such family; the message lists those there are.
    """
    name = architecture.get("family")
    if name not in FAMILIES:
        raise ValueError(f"there is no family of networks {name!r}; there are {', '.join(sorted(FAMILIES))}")
    return FAMILIES[name]
