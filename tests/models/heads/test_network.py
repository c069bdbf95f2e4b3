"""The network of the heads."""

from __future__ import annotations

import pytest
import torch

from recond_models.heads.network import SliceUNet
from recond_models.heads.openvino_engine import OpenVinoEngine
from recond_models.networks.openvino_engine import compiler

SMALL = (4, 6, 8)


def _network(seed: int = 0, classes: int = 3) -> SliceUNet:
    """Return a network whose normalisations have seen data."""
    torch.manual_seed(seed)
    network = SliceUNet(classes=classes, widths=SMALL, fine=4)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network.eval()


@pytest.mark.parametrize("size", [(32, 40), (33, 47), (7, 100)])
@torch.no_grad()
def test_any_size_goes_in_and_the_same_comes_out(size: tuple[int, int]) -> None:
    assert _network()(torch.rand(2, 5, *size)).shape == (2, 3, *size)


@torch.no_grad()
def test_an_image_does_not_depend_on_its_batch() -> None:
    network, images = _network(), torch.rand(3, 5, 32, 32)

    alone = network(images[1:2])

    torch.testing.assert_close(network(images)[1:2], alone, rtol=1e-4, atol=1e-5)


def test_the_architecture_makes_the_same_network_anew() -> None:
    network = _network()

    again = SliceUNet(**network.architecture())  # type: ignore[arg-type]
    again.load_state_dict(network.state_dict())

    assert again.architecture() == {"slices": 5, "classes": 3, "widths": [4, 6, 8], "fine": 4}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"widths": (8,)}, "two levels"), ({"classes": 1}, "two classes"), ({"slices": 4}, "odd")],
)
def test_what_is_no_network_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SliceUNet(**arguments)  # type: ignore[arg-type]


@pytest.mark.skipif(compiler() is None, reason="OpenVINO is not installed")
@torch.no_grad()
def test_compiled_it_computes_the_same() -> None:
    network, images = _network(), torch.rand(2, 5, 32, 48)
    engine = OpenVinoEngine(network, (32, 48), "float32", 1)

    torch.testing.assert_close(engine(images), network(images), rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(compiler() is None, reason="OpenVINO is not installed")
def test_a_size_that_needs_padding_is_not_compiled() -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        OpenVinoEngine(_network(), (33, 48), "float32", 1)
