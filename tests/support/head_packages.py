"""Heads whose answers are known: they label pixels by their brightness."""

from __future__ import annotations

from pathlib import Path

import torch

from recond_models.heads.contract import HeadClass, HeadContract, HeadGroup
from recond_models.heads.network import SliceUNet
from recond_models.store.heads import write_head
from recond_models.store.package import Description, Packaged

STRUCTURES = ("background", "grey matter", "white matter")
LESIONS = ("none", "lesion")


def brightness_network(classes: int, steepness: float = 40.0, *, full_size: bool = False) -> SliceUNet:
    """Return a network that labels pixels by the prepared brightness x of the middle slice, whatever is around them.

    Class k > 0 has the logit ``steepness * k * (x - 0.3 * k)``: class 1 from 0.3 on, class 2 from 0.9 on, and so on.
    """
    sizes = {} if full_size else {"widths": (8, 8), "fine": 4}
    network = SliceUNet(slices=5, classes=classes, **sizes).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.fill_((1 + module.eps) ** 0.5)
        images = network.fine // 2  # the features that come first are those of the U-Net
        network.detail.convolution.weight[0, images + 2, 1, 1] = 1.0
        for number in range(1, classes):
            network.last.weight[number, 0, 0, 0] = steepness * number
            network.last.bias[number] = -steepness * 0.3 * number**2
    return network


def tissue_contract(**changes: object) -> HeadContract:
    group = HeadGroup("structure", tuple(HeadClass(name) for name in STRUCTURES))
    return HeadContract("segmentation", (group,), slices=5, fewest_slices=3, **{"anatomy": "head", **changes})  # type: ignore[arg-type]


def lesion_contract(**changes: object) -> HeadContract:
    group = HeadGroup("lesion", tuple(HeadClass(name) for name in LESIONS))
    return HeadContract("lesions", (group,), slices=5, fewest_slices=3, **changes)  # type: ignore[arg-type]


def write_brightness_head(
    place: Path, name: str, contract: HeadContract, *, full_size: bool = False, **options: bool
) -> Packaged:
    """Write such a head into a folder of models; of full size it takes as long as those that ship."""
    network = brightness_network(contract.outputs, full_size=full_size)
    architecture = {"family": "slice-unet", **network.architecture()}
    described = Description(name, "1", "Labels by brightness.", "", "Apache-2.0", "made for a test", "# A card\n")
    return write_head(place, described, architecture, network.state_dict(), contract, **options)
