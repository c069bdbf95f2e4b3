"""Which network a set of weights belongs to, judged by their names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from recond_models.networks.families import FAMILIES, of_architecture
from recond_models.store.catalogue import stored_models
from recond_models.store.errors import WrongKeysError

_WRAPPERS: Final = re.compile(r"(?:(?:varnet|unet|model|module|net|network|_orig_mod)\.)+")
"""What training programs put before the names of a network: the attribute that holds it, parallel and compiled wrappers."""

_KNOWN: Final[tuple[dict[str, Any], ...]] = (
    {
        "family": "varnet",
        "cascades": 12,
        "channels": 18,
        "pools": 4,
        "sensitivity_channels": 8,
        "sensitivity_pools": 4,
    },
    {"family": "unet", "in_channels": 1, "out_channels": 1, "channels": 256, "pools": 4},
)
"""The published ones (Sriram et al. 2020, arXiv:2004.06688; Zbontar et al. 2018, arXiv:1811.08839): what unknown names are
compared with."""

_SHOWN: Final = 4


@dataclass(frozen=True, slots=True)
class Recognised:
    """Weights whose network is known.

    Parameters
    ----------
    architecture
        Its architecture.
    tensors
        Exactly the tensors of its state dict, by its names.
    prefix
        What stood before the names in the file.
    left_out
        Names in the file that are not below the prefix, such as buffers of a loss function.
    """

    architecture: dict[str, Any]
    tensors: dict[str, Tensor]
    prefix: str
    left_out: tuple[str, ...]


def recognise(tensors: Mapping[str, Tensor]) -> Recognised:
    """Find the network that weights belong to.

    Parameters
    ----------
    tensors
        Names and tensors, possibly behind a prefix such as ``"varnet."``.

    Returns
    -------
    Recognised
        The network; every one of its weights is there, in its shape, and nothing else is.

    Raises
    ------
    WrongKeysError
        There is no such network. The message names the nearest one, and which tensors are missing, unknown or misshapen.
    """
    for prefix in _prefixes(tensors):
        below = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        for family in FAMILIES.values():
            try:
                architecture = family.infer(below)
                if architecture is None:
                    continue
                wanted = shapes_of(architecture)
            except ValueError as error:
                raise WrongKeysError(f"the weights do not fit together: {error}") from error
            _require_equal(below, wanted, architecture)
            left_out = tuple(name for name in tensors if not name.startswith(prefix))
            return Recognised(architecture, {name: below[name] for name in wanted}, prefix, left_out)
    raise _nearest(tensors)


def shapes_of(architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the weights of a network, without making the weights.

    Raises
    ------
    ValueError
        There is no such architecture.
    """
    with torch.device("meta"):
        network = of_architecture(architecture).build(architecture)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def named(architecture: Mapping[str, Any]) -> str:
    """Return an architecture in words, such as ``"unet (channels 32, pools 4)"``."""
    sizes = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in architecture.items() if key != "family")
    return f"{architecture['family']} ({sizes})"


def _prefixes(names: Mapping[str, Tensor]) -> list[str]:
    """Return what may stand before the names of a network, shortest first."""
    found = {""}
    for name in names:
        match = _WRAPPERS.match(name)
        parts = match[0].split(".")[:-1] if match else []
        found.update("".join(f"{part}." for part in parts[:count]) for count in range(1, len(parts) + 1))
    return sorted(found, key=len)


def _require_equal(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], architecture: Mapping[str, Any]
) -> None:
    """Raise WrongKeysError unless there are exactly these tensors."""
    differences = _differences(tensors, wanted)
    if differences:
        raise WrongKeysError(
            f"the weights are nearly those of a {named(architecture)}, but {differences}: check that the file is whole and comes "
            "from a network without changes"
        )
    for name in wanted:
        if not tensors[name].is_floating_point():
            raise WrongKeysError(f"{name} holds {tensors[name].dtype}, but weights are floating-point numbers")


def _differences(tensors: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> str:
    """Return in words how tensors differ from those of a network; empty if they do not."""
    missing = [name for name in wanted if name not in tensors]
    unknown = [name for name in tensors if name not in wanted]
    misshapen = [
        f"{name} is {tuple(tensors[name].shape)} and should be {shape}"
        for name, shape in wanted.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    found = [
        f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})"
        for names, what in ((missing, "missing"), (unknown, "unknown"), (misshapen, "of another shape"))
        if names
    ]
    return ", ".join(found)


def _nearest(tensors: Mapping[str, Tensor]) -> WrongKeysError:
    """Return the error for weights of no family, with the network whose names are most like theirs."""
    known = [*_KNOWN, *(model.manifest.architecture for model in stored_models() if model.manifest.family in FAMILIES)]
    best: tuple[float, str] | None = None
    for architecture in known:
        try:
            wanted = shapes_of(architecture)
        except (ValueError, RuntimeError):  # a stored manifest may say anything
            continue
        for prefix in _prefixes(tensors):
            below = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
            shared = len(below.keys() & wanted.keys()) / max(len(below.keys() | wanted.keys()), 1)
            if best is None or shared > best[0]:
                best = (shared, f"The nearest is a {named(architecture)}: {_differences(below, wanted)}.")
    names = ", ".join(list(tensors)[:_SHOWN])
    nearest = best[1] if best is not None and best[0] > 0 else "None of their names is known."
    return WrongKeysError(
        f"the {len(tensors)} tensors ({names}, ...) are those of no network that is known here, which are "
        f"{', '.join(sorted(FAMILIES))}. {nearest} Models of other programs have to be converted to these names first"
    )
