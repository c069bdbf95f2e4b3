"""The unrolled network on packed batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recond_models import guard
from recond_models.batch import PackedBatch, Reconstruction
from recond_models.classical import noise, parallel
from recond_models.classical.parallel import NoiseEstimate, ParallelImaging, Solution
from recond_models.model import ModelInfo
from recond_models.networks import noise_level
from recond_models.networks.unrolled import Rounds, UnrolledArchitecture, UnrolledNetwork


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
        self.network: UnrolledNetwork = network.to(self._device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def reconstruct(self, batch: PackedBatch) -> Reconstruction:
        """Return images, residuals and doubts of a batch, and the standard deviations of the images if they are wanted and known.

        Raises
        ------
        UnsuitableModelError
            A frame has a single coil, or no or too few calibration data.
        """
        sizes = self.network.architecture
        return parallel.reconstruct_posed(
            batch,
            self.info,
            self._device,
            lambda posed: self._solution(posed, deviations=batch.deviations),
            largest_block=sizes.calibration,
            virtual_coils=sizes.coils,
        )

    def solve(self, posed: ParallelImaging) -> Tensor:
        """Return complex64 images (batch, rows, columns) of a posed problem; see `PosedMethod`."""
        return self._solve(posed, deviations=False)[0]

    def solve_with_deviations(self, posed: ParallelImaging) -> tuple[Tensor, Tensor | None]:
        """Return images of a posed problem and their standard deviations; see `PosedNetwork`."""
        return self._solve(posed, deviations=self.network.architecture.deviation > 0)

    def _solution(self, posed: ParallelImaging, *, deviations: bool) -> Solution:
        images, known = self.solve_with_deviations(posed) if deviations else (self.solve(posed), None)
        residuals = parallel.residuals_of(posed, images)
        doubts = guard.against_samples(posed, residuals, self.info.name)
        # What is put in the place of pixels that are no numbers has a residual of its own.
        shown = guard.without_unusable(images, doubts)
        return Solution(shown, doubts, known, residuals if shown is images else None)

    def _solve(self, posed: ParallelImaging, *, deviations: bool) -> tuple[Tensor, Tensor | None]:
        """Return both, zero where the sensitivities are."""
        problem = posed.inverse_problem(noise_estimate(self.network.architecture))
        data = problem.encoding.adjoint(problem.samples)
        level = problem.noise.to(torch.float32)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            made: Rounds = self.network(data, problem.encoding.gram, level, problem.fractions, deviations=deviations)
        support = problem.support
        return made.images[-1] * support, None if made.deviations is None else made.deviations * support


def noise_estimate(architecture: UnrolledArchitecture) -> NoiseEstimate:
    """Return how a network of an architecture wants the noise to be estimated."""
    return noise_level.deviations if architecture.calibrated_noise else noise.deviations
