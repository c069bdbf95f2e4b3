"""Compressed sensing with wavelets."""

from __future__ import annotations

import torch
from torch import Tensor

from recond_kernels import wavelet
from recond_models.batch import PackedBatch, Reconstruction
from recond_models.classical import parallel, sparse
from recond_models.classical.inverse_problem import InverseProblem
from recond_models.classical.parallel import ParallelImaging
from recond_models.model import ModelInfo

REGULARISATION = 0.15
"""Weight of the l1 norm of the wavelet coefficients as a multiple of the noise at the edge of k-space. Best or nearly so for
simulated heads with 2 to 6-fold undersampling and noise from 0.05 to 1 percent of the brightest pixel."""

_SEED = 20


class L1Wavelet:
    """SENSE with an l1 penalty on Daubechies-4 wavelets (Lustig et al. 2007, doi:10.1002/mrm.21391).

    Minimises ``1/2 ||A x - y||^2 + lambda ||W x||_1``, without the coarsest scale in the norm. The wavelets move over the image
    from step to step (Figueiredo and Nowak 2003, doi:10.1109/TIP.2003.814255), so that their edges do not show in it; the
    shifts are the same for every frame.

    Parameters
    ----------
    info
        Its entry in the registry.
    device
        torch device.
    regularisation
        Weight of the penalty as a multiple of the noise at the edge of k-space.
    """

    def __init__(self, info: ModelInfo, device: str = "cpu", regularisation: float = REGULARISATION) -> None:
        self.info = info
        self._device = torch.device(device)
        self._regularisation = regularisation

    def reconstruct(self, batch: PackedBatch) -> Reconstruction:
        """Return images and residuals of a batch.

        Raises
        ------
        UnsuitableModelError
            A frame has a single coil, or no or too few calibration data.
        """
        return parallel.reconstruct(
            batch, self.info, self._device, lambda problem: _iterate(problem, self._regularisation)
        )

    def solve(self, posed: ParallelImaging) -> Tensor:
        """Return complex64 images (batch, rows, columns) of a posed problem; see `PosedMethod`."""
        return _iterate(posed.inverse_problem(), self._regularisation)


def _iterate(problem: InverseProblem, regularisation: float) -> Tensor:
    """Return complex64 images (batch, rows, columns)."""
    levels = wavelet.levels_for(*problem.support.shape[1:])
    shifts = [wavelet.random_shift(_SEED, step, levels) for step in range(sparse.ROUND)]

    def make_proximal(weights: Tensor) -> sparse.Proximal:
        return lambda images, step: wavelet.soft_threshold(images, weights, levels, shifts[step % sparse.ROUND])

    return sparse.minimise(problem, regularisation, make_proximal)
