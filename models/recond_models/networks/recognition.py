"""Recognises the architecture of a network by the names and shapes of its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

_CASCADE = re.compile(r"cascades\.(\d+)\.model\.unet\.")


def unet_of(state: Mapping[str, Tensor], prefix: str = "") -> dict[str, Any] | None:
    """Return the architecture of a U-Net.

    Parameters
    ----------
    state
        Names and tensors.
    prefix
        What stands before the names, such as ``"sens_net.norm_unet.unet."``.

    Returns
    -------
    dict or None
        Architecture, or None if the first or the last weight of a U-Net is not there, or has not four axes.
    """
    first = state.get(f"{prefix}down_sample_layers.0.layers.0.weight")
    pools = 0
    while f"{prefix}down_sample_layers.{pools}.layers.0.weight" in state:
        pools += 1
    last = state.get(f"{prefix}up_conv.{pools - 1}.1.weight")
    if first is None or last is None or first.ndim != 4 or last.ndim != 4:
        return None
    return {
        "family": "unet",
        "in_channels": int(first.shape[1]),
        "out_channels": int(last.shape[0]),
        "channels": int(first.shape[0]),
        "pools": pools,
    }


def varnet_of(state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Return the architecture of an end-to-end variational network.

    Parameters
    ----------
    state
        Names and tensors.

    Returns
    -------
    dict or None
        Architecture, or None if there is no sensitivity network or no cascade among the weights.
    """
    sensitivity = unet_of(state, "sens_net.norm_unet.unet.")
    cascade = unet_of(state, "cascades.0.model.unet.")
    if sensitivity is None or cascade is None:
        return None
    numbers = {int(match.group(1)) for match in map(_CASCADE.match, state) if match}
    return {
        "family": "varnet",
        "cascades": len(numbers),
        "channels": cascade["channels"],
        "pools": cascade["pools"],
        "sensitivity_channels": sensitivity["channels"],
        "sensitivity_pools": sensitivity["pools"],
    }
