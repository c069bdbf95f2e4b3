"""The unrolled network on packed batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recond_models.batch import PackedBatch, Reconstruction
from recond_models.classical import noise, parallel
from recond_models.classical.parallel import ParallelImaging
from recond_models.networks import noise_level
from recond_models.networks.unrolled import UnrolledArchitecture, UnrolledNetwork
from recond_models.registry import ModelInfo


class UnrolledReconstructor:
    """Coil sensitivities by ESPIRiT, then an `UnrolledNetwork`.

    Parameters
    ----------
    info
        Its entry in the registry.
    network
        With its weights.
    device
        torch device.
    precision
        ``"float32"``, or ``"bfloat16"`` for the convolutions; all else is float32.
    """

    def __init__(self, info: ModelInfo, network: nn.Module, device: str, precision: str) -> None:
        if not isinstance(network, UnrolledNetwork):
            raise TypeError(f"expected an UnrolledNetwork, got {type(network).__name__}")
        self.info = info
        self._device = torch.device(device)
        self._half = precision == "bfloat16"
        self._network = network.to(self._device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def reconstruct(self, batch: PackedBatch) -> Reconstruction:
        """Return images and residuals of a batch.

        Raises
        ------
        UnsuitableModelError
            A frame has a single coil, or no or too few calibration data.
        """
        sizes = self._network.architecture
        return parallel.reconstruct(
            batch, self.info, self._device, self._images, largest_block=sizes.calibration, virtual_coils=sizes.coils
        )

    def _images(self, problem: ParallelImaging) -> Tensor:
        """Return complex64 images (batch, rows, columns), zero where the sensitivities are."""
        encoding = problem.encoding
        data = encoding.adjoint(problem.kspace)
        level = noise_of(problem, self._network.architecture)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            images: list[Tensor] = self._network(data, encoding.normal, level, fractions_of(encoding.masks))[0]
        return images[-1] * problem.support


def noise_of(problem: ParallelImaging, architecture: UnrolledArchitecture) -> Tensor:
    """Return float32 (batch,): the noise as a network of an architecture wants it to be estimated."""
    estimate = noise_level.deviations if architecture.calibrated_noise else noise.deviations
    return estimate(problem.kspace, problem.encoding.masks, problem.encoding.layout).to(torch.float32)


def fractions_of(masks: Tensor) -> Tensor:
    """Return float32 (batch,): the measured part of k-space."""
    return masks.flatten(1).to(torch.float32).mean(dim=1)
