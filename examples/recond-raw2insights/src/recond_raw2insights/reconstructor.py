"""Calls NVIDIA's network as its own ``scripts/inference.py`` does, frame by frame."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from recond_kernels.fourier import ifft2c
from recond_models.batch import PackedBatch, Reconstruction
from recond_models.model import ModelInfo, UnsuitableModelError
from recond_models.per_frame import reconstruct_each

Network = Callable[..., Tensor]
_HOME, _CONFIG, _CHECKPOINT, _ACQUISITION = (
    f"RAW2INSIGHTS_{name}" for name in ("HOME", "CONFIG", "CHECKPOINT", "ACQUISITION")
)
_STATE = "net_state_dict"


def make(info: ModelInfo, device: str) -> Raw2Insights:
    """Build the network from its code, configuration and weights, which environment variables name.

    Parameters
    ----------
    info
        What recond's registry says about the model.
    device
        torch device.

    Raises
    ------
    RuntimeError
        A variable is missing, or the weights are not those of the configuration.
    """
    missing = [name for name in (_HOME, _CONFIG, _CHECKPOINT) if not os.environ.get(name)]
    if missing:
        raise RuntimeError(f"set {', '.join(missing)} for the service")
    home = Path(os.environ[_HOME])
    config = json.loads(Path(os.environ[_CONFIG]).read_text())
    config |= {"pretrained_csm": None, "pretrained_recon": None}
    sys.path.insert(0, str(home / "scripts"))
    try:
        network = importlib.import_module("models.latent_recon").create_mri_recon_model(SimpleNamespace(**config))
    finally:
        sys.path.remove(str(home / "scripts"))
    # Only tensors are read. NVIDIA's own loader would run whatever the file brings.
    content = torch.load(os.environ[_CHECKPOINT], map_location="cpu", weights_only=True)
    network.load_state_dict(content.get(_STATE, content), strict=True)
    network.requires_grad_(requires_grad=False)
    acquisition = os.environ.get(_ACQUISITION, "T2w")
    return Raw2Insights(info, network.eval().to(device), device, config, acquisition)


class Raw2Insights:
    """The network on packed batches.

    Parameters
    ----------
    info
        What recond's registry says about the model.
    network
        Called with images (1, frames, coils, height, width, 2), a bool mask that broadcasts against them, kind of mask,
        acceleration and kind of acquisition; returns images of the same shape.
    device
        torch device.
    config
        NVIDIA's configuration of the network.
    acquisition
        Kind of acquisition, one that the network was trained with.
    """

    def __init__(
        self, info: ModelInfo, network: Network, device: str, config: dict[str, Any], acquisition: str
    ) -> None:
        self.info = info
        self._network = network
        self._device = torch.device(device)
        self._frames = int(config["num_frames"])
        self._accelerations = [int(factor) for factor in config["accelerations"]]
        self._acquisition = acquisition

    def reconstruct(self, batch: PackedBatch) -> Reconstruction:
        """Return the root sum of squares of the images that the network makes of the coils.

        Raises
        ------
        UnsuitableModelError
            The middle of k-space is not measured.
        """
        return reconstruct_each(lambda _, frame: self._one(frame), batch, at_once=False)

    def _one(self, frame: PackedBatch) -> Reconstruction:
        mask = frame.masks[0]
        if not bool(mask[mask.shape[0] // 2, mask.shape[1] // 2]):
            raise UnsuitableModelError(f"{self.info.name} needs the middle of k-space: use another model")
        # Phase encoding is the first axis there, as in the files of CMRxRecon.
        kspace = frame.kspace.to(self._device).mT
        largest = torch.view_as_real(kspace).abs().amax()
        exponent = int(torch.frexp(largest)[1])
        kspace = torch.view_as_complex(torch.ldexp(torch.view_as_real(kspace), torch.tensor(-exponent)))
        coils = ifft2c(kspace)
        mean = coils.mean()
        deviation = (coils - mean).abs().square().mean().sqrt().clamp_min(1e-30)
        normal = torch.view_as_real((coils - mean) / deviation)
        # A single frame is its own neighbour in time, as in NVIDIA's windowed_input.
        given = normal[None, None].expand(1, self._frames, *normal.shape).contiguous()
        sampled = mask.mT.to(self._device)[None, None, None, :, :, None].expand(1, self._frames, 1, *mask.mT.shape, 1)
        with torch.inference_mode():
            made = self._network(given, sampled, *self._told(mask))
        middle = torch.view_as_complex(made[0, self._frames // 2].float().contiguous()) * deviation + mean
        image = torch.view_as_real(middle).square().sum(dim=(0, -1)).sqrt().mT.contiguous()
        return Reconstruction(image[None], scales=torch.tensor([2.0**exponent], dtype=torch.float64))

    def _told(self, mask: Tensor) -> tuple[str, int, str]:
        """Return what the network is told: kind of mask, the nearest acceleration that it knows, kind of acquisition."""
        lines = mask.any(dim=0).nonzero()[:, 0]
        whole = bool((mask == mask.any(dim=0)).all())
        gaps = set(lines.diff().tolist()) - {1}
        kind = "Uniform" if whole and len(gaps) <= 1 else "ktGaussian" if whole else "ktRadial"
        acceleration = mask.numel() / max(int(mask.sum()), 1)
        nearest = min(self._accelerations, key=lambda factor: abs(factor - acceleration))
        return f"{kind}{nearest}", nearest, self._acquisition
