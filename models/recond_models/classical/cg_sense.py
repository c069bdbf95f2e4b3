"""Iterative SENSE."""

from __future__ import annotations

import torch
from torch import Tensor

from recond_kernels import conjugate_gradients
from recond_models.batch import PackedBatch, Reconstruction
from recond_models.classical import parallel
from recond_models.classical.inverse_problem import InverseProblem
from recond_models.classical.scale import bright_pixels
from recond_models.model import ModelInfo

REGULARISATION = 40.0
"""The Tikhonov weight is this times the squared ratio of the noise to the bright pixels: the noise power over that of an image
whose root mean square is a sixth of its bright pixels, as in heads with air around them."""

_WEIGHTS = (3e-4, 0.1)

_TOLERANCE = 1e-4
_ITERATIONS = 60


class CgSense:
    """SENSE by conjugate gradients on the normal equations (Pruessmann et al. 2001, doi:10.1002/mrm.1241).

    Minimises ``||A x - y||^2 + w ||x||^2``; A has norm 1 at most, and w follows the noise at the edge of k-space, so it is the
    same at every scale. The maps have root sum of squares 1, so the magnitude of x is that of the root sum of squares of the coil
    images.

    Parameters
    ----------
    info
        Its entry in the registry.
    device
        torch device.
    regularisation
        Takes the place of `REGULARISATION`.
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
            batch,
            self.info,
            self._device,
            lambda problem: iterate(
                problem, tolerance=_TOLERANCE, max_iterations=_ITERATIONS, regularisation=self._regularisation
            ),
        )


def iterate(
    problem: InverseProblem, *, tolerance: float, max_iterations: int, regularisation: float = REGULARISATION
) -> Tensor:
    """Return complex64 images (batch, rows, columns) that solve the normal equations to a relative residual of `tolerance`."""
    start = problem.encoding.adjoint(problem.samples)
    gram = problem.encoding.gram
    bright = bright_pixels(start).clamp_min(torch.finfo(torch.float32).tiny)
    ratios = problem.noise / bright
    weights = (regularisation * ratios.square()).clamp(*_WEIGHTS).to(torch.float32)[:, None, None]

    def regularised(images: Tensor) -> Tensor:
        return gram(images).add_(weights * images)

    return conjugate_gradients.solve(regularised, start, tolerance=tolerance, max_iterations=max_iterations).images
