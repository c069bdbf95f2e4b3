"""The mean of a network's image and a classical one."""

from __future__ import annotations

import torch
from torch import Tensor

from recond_models import guard
from recond_models.batch import PackedBatch, Reconstruction
from recond_models.classical import parallel
from recond_models.classical.l1_wavelet import L1Wavelet
from recond_models.classical.parallel import ParallelImaging, PosedMethod, PosedNetwork, Solution
from recond_models.classical.tv import TotalVariation
from recond_models.evidence import partner_of
from recond_models.model import ModelInfo
from recond_models.registry import find


class Ensemble:
    """The mean of the complex images of a network and of a method of compressed sensing.

    What a network invents and what a sparse image loses have little to do with each other: the mean is closer to the truth than
    the better of the two nearly everywhere (ensemble averaging, Perrone and Cooper 1993, doi:10.1142/9789812795885_0025). Both
    solve one posed problem, so coils are compressed and sensitivities estimated once, and the images share their phase. The partner
    is the one that measured scans show better for a kind of sampling: `tv` where whole lines were measured, else `l1-wavelet`.

    A frame whose members contradict each other beyond what noise and acceleration explain is doubted; see `guard`.

    Parameters
    ----------
    info
        Its entry in the registry.
    network
        The network.
    device
        torch device.
    """

    def __init__(self, info: ModelInfo, network: PosedNetwork, device: str = "cpu") -> None:
        self.info = info
        self._network = network
        self._device = torch.device(device)
        self._partners: dict[str, PosedMethod] = {
            "tv": TotalVariation(find("tv"), device),
            "l1-wavelet": L1Wavelet(find("l1-wavelet"), device),
        }

    def reconstruct(self, batch: PackedBatch) -> Reconstruction:
        """Return images, residuals and doubts of a batch, and the standard deviations that the network predicts if they are wanted.

        Raises
        ------
        UnsuitableModelError
            A frame has a single coil, or no or too few calibration data.
        """
        return parallel.reconstruct_posed(
            batch, self.info, self._device, lambda posed: self._solve(posed, deviations=batch.deviations)
        )

    def solve(self, posed: ParallelImaging) -> Tensor:
        """Return complex64 images (batch, rows, columns) of a posed problem; see `PosedMethod`."""
        return self._solve(posed).images

    def _solve(self, posed: ParallelImaging, *, deviations: bool = False) -> Solution:
        names = [partner_of(lines=lines) for lines in _of_lines(posed.encoding.masks).tolist()]
        classical = self._classical(posed, names)
        learnt, known = self._network.solve_with_deviations(posed) if deviations else (self._network.solve(posed), None)
        doubts = guard.against_images(posed, learnt, classical, names, self._network.info.name)
        return Solution(guard.without_unusable((learnt + classical).mul_(0.5), doubts), doubts, known)

    def _classical(self, posed: ParallelImaging, names: list[str]) -> Tensor:
        """Return complex64 images (batch, rows, columns), each by the partner of its frame."""
        first = self._partners[names[0]].solve(posed)
        for name in set(names) - {names[0]}:
            chosen = torch.tensor([other == name for other in names], device=first.device)
            first = torch.where(chosen[:, None, None], self._partners[name].solve(posed), first)
        return first


def _of_lines(masks: Tensor) -> Tensor:
    """Return bool (batch,): whether whole lines were measured, of bool (batch, rows, columns)."""
    return (masks == masks[:, :1]).flatten(1).all(dim=1)
