"""A trial on a frame: every candidate reconstructs it without some of its samples, and predicts these."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

from recond_kernels import interruption
from recond_models import per_frame
from recond_models.batch import PackedBatch, Reconstruction
from recond_models.classical import field_of_view, parallel
from recond_models.classical.l1_wavelet import L1Wavelet
from recond_models.classical.parallel import ParallelImaging, PosedMethod
from recond_models.classical.tv import TotalVariation
from recond_models.ensemble import held_out
from recond_models.evidence import ENSEMBLE, NETWORK, HeldOut, partner_of
from recond_models.model import ModelInfo, UnsuitableModelError
from recond_models.registry import find


class HeldOutTrial:
    """Finds out which candidate predicts held-out samples of a frame best; see `held_out`.

    The problem is posed once: the calibration block is not touched, so that all candidates share the sensitivities of the whole
    frame. The prediction of a mean is the mean of the predictions, and costs nothing.

    Parameters
    ----------
    info
        Its entry in the registry.
    network
        The network that is a candidate.
    device
        torch device.
    """

    def __init__(self, info: ModelInfo, network: PosedMethod, device: str = "cpu") -> None:
        self.info = info
        self._device = torch.device(device)
        self._members: dict[str, PosedMethod] = {
            NETWORK: network,
            "tv": TotalVariation(find("tv"), device),
            "l1-wavelet": L1Wavelet(find("l1-wavelet"), device),
        }

    def reconstruct(self, batch: PackedBatch) -> Reconstruction:
        """Return a trial for every frame, and images of zeros.

        Raises
        ------
        UnsuitableModelError
            A frame has a single coil, no or too few calibration data, or nothing beside them to hold out.
        """
        return per_frame.reconstruct_each(lambda _, part: self._try(part), batch, at_once=self._device.type == "cpu")

    @torch.inference_mode()
    def _try(self, part: PackedBatch) -> Reconstruction:
        trimmed, _ = field_of_view.trim(part)
        posed = parallel.pose(trimmed, self.info, self._device)
        block = trimmed.calibrations[0]
        extent = (0, 0) if block is None else (int(block.shape[1]), int(block.shape[2]))
        mask = trimmed.masks[0].cpu().numpy()
        hidden = torch.from_numpy(held_out.draw(mask, extent, _seed(part.kspace)))[None].to(self._device)
        if not bool(hidden.any()):
            raise UnsuitableModelError(
                "no samples of a frame can be held out: all that were measured are its calibration data"
            )
        trial = self.compare(posed, hidden, partner_of(lines=bool((mask == mask[:1]).all())))
        return Reconstruction(part.kspace.new_zeros((1, *part.kspace.shape[1:])), trials=(trial,))

    def compare(self, posed: ParallelImaging, hidden: Tensor, partner: str) -> HeldOut:
        """Return how well the candidates predict hidden samples, bool (1, rows, columns), of a posed problem of one frame."""
        rest = held_out.without(posed, hidden)
        samples = held_out.measured(posed, hidden)
        predictions: dict[str, Tensor] = {}
        for name, member in self._members.items():
            interruption.checkpoint()
            predictions[name] = held_out.predict(posed, member.solve(rest), hidden)
        predictions[ENSEMBLE] = (predictions[NETWORK] + predictions[partner]) / 2
        errors = {name: _energy(predicted - samples) for name, predicted in predictions.items()}
        return HeldOut(errors, _energy(samples), held_out.noise_energy(posed, samples))


def _energy(values: Tensor) -> float:
    return float(torch.view_as_real(values).square().sum(dtype=torch.float64))


def _seed(kspace: Tensor) -> int:
    """Return a number that another frame has not, and the same frame has again."""
    return zlib.crc32(kspace[0].cpu().contiguous().numpy().tobytes())
