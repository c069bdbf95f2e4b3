"""Small networks with random weights, and files of them as training programs write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recond_models.networks.families import of_architecture

VARNET = {
    "family": "varnet",
    "cascades": 2,
    "channels": 4,
    "pools": 2,
    "sensitivity_channels": 2,
    "sensitivity_pools": 2,
}
UNET = {"family": "unet", "in_channels": 1, "out_channels": 1, "channels": 4, "pools": 2}


def weights_of(architecture: Mapping[str, Any] = VARNET, seed: int = 0) -> dict[str, Tensor]:
    """Random weights of a network."""
    torch.manual_seed(seed)
    return {
        name: tensor.clone() for name, tensor in of_architecture(architecture).build(architecture).state_dict().items()
    }


def state_file(folder: Path, tensors: Mapping[str, Tensor] | None = None, name: str = "varnet.pt") -> Path:
    """A bare state dict."""
    path = folder / name
    torch.save(dict(weights_of() if tensors is None else tensors), path)
    return path
