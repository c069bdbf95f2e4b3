"""Attention maps: what places contribute adds up to the score, and lies where it belongs in the image."""

import importlib.util

import numpy as np
import pytest
import torch

from recond_models import loading, registry
from recond_models.heads.attention import NO_ATTENTION, attention_grid, on_image
from recond_models.heads.framing import SLICE_SIDE, Framing, frame_slice
from recond_models.heads.series_network import OUTPUTS, SIDE, SeriesNetwork
from recond_models.simulate.head import head_slices


def trained(widths: tuple[int, ...] = (4, 6, 8)) -> SeriesNetwork:
    """Return a network whose normalisation does something."""
    torch.manual_seed(3)
    network = SeriesNetwork(widths)
    with torch.no_grad():
        network.normalise.weight.uniform_(0.5, 2)
        network.normalise.bias.uniform_(-1, 1)
        network.classify.bias.uniform_(-1, 1)
        for seed in range(3):
            network(images(4, seed))
    return network.eval()


def images(count: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((count, 1, SIDE, SIDE), dtype=np.float32))


def linear_scores(network: SeriesNetwork, slices: torch.Tensor) -> torch.Tensor:
    """Return the scores as the last layer gives them, before the anatomy is doubted."""
    return network.classify(network.normalise(network.pooled(slices)))


@torch.no_grad()
def test_contributions_add_up_to_the_score_without_its_constant_part():
    network, slices = trained(), images(3, 9)
    scores, contributions = network.explained(slices)
    wanted = linear_scores(network, slices)
    assert torch.allclose(contributions.sum(dim=(2, 3)) + network.constants(), wanted, atol=1e-4)
    assert all(torch.allclose(values, scores[name]) for name, values in network(slices).items())


@pytest.mark.parametrize("widths", [(4, 6), (4, 6, 8), (4, 4, 4, 4, 4, 4, 4)])
def test_the_grid_is_known_from_the_architecture(widths):
    with torch.no_grad():
        _, contributions = trained(widths).explained(images(1, 0))
    outputs = sum(map(len, OUTPUTS.values()))
    assert tuple(contributions.shape) == (1, outputs, *attention_grid({"family": "series", "widths": list(widths)}))


@pytest.mark.parametrize("architecture", [{}, {"family": "slice-unet", "widths": [4, 8]}, {"family": "exported"}])
def test_other_architectures_have_none(architecture):
    assert attention_grid(architecture) == NO_ATTENTION


@torch.no_grad()
def test_the_largest_value_belongs_to_its_place():
    network = trained()
    slices = torch.zeros(2, 1, SIDE, SIDE)
    slices[0, 0, 100:104, 20:24] = 3
    slices[1, 0, 100 - 48 : 104 - 48, 20 + 64 : 24 + 64] = 3
    raised = network.pooled(slices)[0] - network.pooled(torch.zeros(1, 1, SIDE, SIDE))[0]
    count = len(raised) // 2
    feature = count + int(raised[count:].argmax())  # a feature that is largest at the spot
    weight = network.classify.weight[:, feature].clone()
    network.classify.weight.zero_()
    network.classify.weight[:, feature] = weight
    _, (here, there) = network.explained(slices)
    cell = [int(one) for one in (here[0] != 0).nonzero()[0]]
    step = SIDE // here.shape[-1]
    assert (here != 0).sum(dim=(1, 2)).tolist() == [1] * len(here)
    assert abs(cell[0] * step - 102) <= 2 * step
    assert abs(cell[1] * step - 22) <= 2 * step
    assert torch.allclose(torch.roll(here, (-48 // step, 64 // step), dims=(1, 2)), there, atol=1e-5)


def test_a_map_lies_on_the_image_as_its_cells_do():
    cells = np.arange(25, dtype=np.float32).reshape(5, 5)
    square = Framing((SLICE_SIDE, SLICE_SIDE), (SLICE_SIDE, SLICE_SIDE), (0, 0), (SLICE_SIDE, SLICE_SIDE), 1.0)
    found = on_image(cells, square)
    assert found.dtype == np.float32
    assert found[47:49, 79:81].mean() == pytest.approx(cells[1, 2])  # the middle of a cell
    assert found[0, 0] == cells[0, 0]
    assert found.mean() == pytest.approx(cells.mean())


@pytest.mark.parametrize("shape", [(300, 300), (64, 200), (200, 64), (1, 7)])
def test_a_map_of_an_image_of_any_shape(shape):
    """A cell in the middle of the square is in the middle of the image, to half a pixel."""
    framing = frame_slice(np.random.default_rng(0).random((1, *shape)))
    cells = np.zeros((2, 5, 5), np.float32)
    cells[0, 2, 2] = 1
    cells[1] = 4
    found = on_image(cells, framing)
    assert found.shape == (2, *shape)
    assert np.allclose(found[0], found[0, ::-1, ::-1], atol=0.05)
    assert found[0, shape[0] // 2, shape[1] // 2] == pytest.approx(1, abs=0.5)
    assert np.allclose(found[1], 4)


def test_the_head_that_ships_explains_a_head():
    if importlib.util.find_spec("nilearn") is None:
        pytest.skip("the head is not installed: pip install --no-deps nilearn")
    info = registry.find_head("series")
    assert info.head_info.attention == info.attention == (5, 5)
    head = loading.load_head("series", info.version, device="cpu")
    block = torch.from_numpy(head_slices(3, 120, 120, 240.0, 6.0).images.astype(np.float32))
    framing = frame_slice(block.numpy())
    probabilities, contributions = head.explain(block, framing)
    assert torch.allclose(probabilities, head.classify(block, framing), atol=1e-6)
    assert tuple(contributions.shape) == (3, 27, 5, 5)
    logits = contributions.sum(dim=(2, 3)) + head.network.constants()
    contrast = torch.softmax(logits[:, :6] / 0.6851337706051095, dim=1)  # the temperature in its manifest
    assert torch.allclose(contrast, probabilities[:, :6], atol=1e-4)
