"""Small networks with random weights, and frames for them."""

from __future__ import annotations

import torch
from torch import Tensor

from recond_models.batch import PackedBatch
from recond_models.model import ModelInfo
from recond_models.networks.lines import calibration_lines
from recond_models.networks.unet import Unet
from recond_models.networks.varnet import VarNet

INFO = ModelInfo(
    name="trial",
    version="1",
    description="Random weights.",
    kind="network",
    reference="-",
    needs_calibration=False,
    fits_samples=False,
)


def varnet(cascades: int = 3, channels: int = 4, pools: int = 2, seed: int = 0) -> VarNet:
    """Return a network whose weights of data consistency differ from 1 and from each other."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = VarNet(cascades, channels, pools, channels, pools).eval()
        for cascade in network.cascades:
            cascade.dc_weight.data = 0.6 + 0.5 * torch.rand(1)
    return network


def unet(channels: int = 4, pools: int = 2, seed: int = 0) -> Unet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Unet(1, 1, channels, pools).eval()


def lines_of(columns: int, generator: torch.Generator, *, middle: int = 12) -> Tensor:
    """Return bool (columns,): a random third, and `middle` lines around the centre with a gap on both sides."""
    lines = torch.rand(columns, generator=generator) < 0.33
    start = columns // 2 - middle // 2
    lines[start : start + middle] = True
    lines[[start - 1, start + middle]] = False
    return lines


def frame_of(
    coils: int, rows: int, columns: int, generator: torch.Generator, *, middle: int = 12
) -> tuple[Tensor, Tensor]:
    """Return complex64 k-space that falls off from the centre, zero where not measured, and bool (columns,) lines."""
    lines = lines_of(columns, generator, middle=middle)
    y = torch.linspace(-1, 1, rows)[:, None]
    x = torch.linspace(-1, 1, columns)
    noise = torch.randn(coils, rows, columns, dtype=torch.complex64, generator=generator)
    kspace = noise / (0.02 + y.square() + x.square())
    return torch.where(lines, kspace, 0), lines


def packed(frames: list[tuple[Tensor, Tensor]], scale: float = 1.0) -> PackedBatch:
    kspaces = [kspace * scale for kspace, _ in frames]
    return PackedBatch.pack(kspaces, [lines.expand(kspace.shape[1:]).clone() for kspace, lines in frames])


@torch.inference_mode()
def plainly(network: VarNet, kspace: Tensor, lines: Tensor) -> Tensor:
    """Return float32 (rows, columns): what the network as the paper writes it makes of a frame."""
    choice = calibration_lines(lines, as_fastmri=False)
    calibration = torch.zeros_like(kspace)
    calibration[..., choice.start : choice.stop] = kspace[..., choice.start : choice.stop]
    image: Tensor = network(kspace[None], lines, calibration[None])[0]
    return image


def relative(one: Tensor, other: Tensor) -> float:
    return float(torch.linalg.vector_norm(one - other) / torch.linalg.vector_norm(other))
