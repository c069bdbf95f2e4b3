"""Iterative SENSE."""

from __future__ import annotations

import torch
from torch import Tensor

from recond_kernels import conjugate_gradients
from recond_kernels.sense import SenseEncoding, sample
from recond_models.batch import PackedBatch, Reconstruction
from recond_models.classical import sensitivities
from recond_models.classical.scale import normalise, restore
from recond_models.registry import ModelInfo

REGULARISATION = 0.01
"""Weight of ``||x||^2`` against ``||A x - y||^2``. A has norm 1 at most (orthonormal DFT, normalised maps): it needs no scale."""

_TOLERANCE = 1e-4
_ITERATIONS = 60


class CgSense:
    """SENSE by conjugate gradients on the normal equations (Pruessmann et al. 2001, doi:10.1002/mrm.1241).

    Minimises ``||A x - y||^2 + REGULARISATION ||x||^2``. The maps have root sum of squares 1, so the magnitude of x is that of
    the root sum of squares of the coil images.

    Parameters
    ----------
    info
        Its entry in the registry.
    device
        torch device.
    """

    def __init__(self, info: ModelInfo, device: str = "cpu") -> None:
        self.info = info
        self._device = torch.device(device)

    @torch.inference_mode()
    def reconstruct(self, batch: PackedBatch) -> Reconstruction:
        """Return images and residuals of a batch.

        Raises
        ------
        UnsuitableModelError
            A frame has a single coil, or no or too few calibration data.
        """
        layout = batch.layout
        masks = batch.masks.to(self._device)
        kspace, scales = normalise(sample(batch.kspace.to(self._device), masks, layout), layout)
        encoding = SenseEncoding(sensitivities.estimate(batch, self.info, self._device), masks, layout)

        def regularised(images: Tensor) -> Tensor:
            return encoding.normal(images) + REGULARISATION * images

        solution = conjugate_gradients.solve(
            regularised, encoding.adjoint(kspace), tolerance=_TOLERANCE, max_iterations=_ITERATIONS
        )
        residuals = encoding.relative_residuals(solution.images, kspace)
        return Reconstruction(restore(solution.images.abs(), scales), residuals.cpu())
