"""What the published fastmri package makes of networks and frames; runs in the environment that has it, on files.

`python fastmri_oracle.py FOLDER`: for every ``NAME.json`` (family and constructor arguments of a network) reads ``NAME.pt`` (its
state dict) and ``NAME.npz`` (input), and writes ``NAME-fastmri.npy``.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from fastmri.data.transforms import center_crop, normalize_instance
from fastmri.models import Unet, VarNet


def varnet(network, data):
    """Return (rows, columns) for complex k-space (coils, rows, columns) and lines (columns,)."""
    kspace = torch.view_as_real(torch.from_numpy(data["kspace"]))[None]
    mask = torch.from_numpy(data["lines"]).view(1, 1, 1, -1, 1)
    return network(kspace, mask)[0]


def unet(network, data):
    """Return the crop for a zero-filled image (rows, columns)."""
    image = center_crop(torch.from_numpy(data["image"]), tuple(data["crop"].tolist()))
    image, mean, deviation = normalize_instance(image, eps=1e-11)
    return network(image.clamp(-6, 6)[None, None])[0, 0] * deviation + mean


def main():
    torch.set_num_threads(2)
    for description in sorted(Path(sys.argv[1]).glob("*.json")):
        case = json.loads(description.read_text())
        network = {"varnet": VarNet, "unet": Unet}[case["family"]](**case["arguments"]).eval()
        network.load_state_dict(torch.load(description.with_suffix(".pt"), weights_only=True))
        data = np.load(description.with_suffix(".npz"))
        with torch.inference_mode():
            image = {"varnet": varnet, "unet": unet}[case["family"]](network, data)
        np.save(description.with_name(f"{description.stem}-fastmri.npy"), image.numpy())


if __name__ == "__main__":
    main()
