"""Zero-filled root sum of squares."""

from __future__ import annotations

import torch

from recond_kernels.consistency import sample
from recond_kernels.fourier import ramp
from recond_models.batch import CoilImages, PackedBatch, Reconstruction
from recond_models.classical.scale import normalise
from recond_models.model import ModelInfo


class RootSumOfSquares:
    """Root sum of squares of the zero-filled coil images (Roemer et al. 1990, doi:10.1002/mrm.1910160203).

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
        """Return the coil images of a batch, to be combined; there are no residuals."""
        layout = batch.layout
        masked = sample(batch.kspace.to(self._device), batch.masks.to(self._device), layout)
        kspace, scales = normalise(masked, layout)
        # The factors that centre the transform in the image have magnitude 1: they wait until an image is interpolated.
        rows, columns = kspace.shape[1:]
        kspace *= ramp(rows, columns, kspace.dtype, kspace.device, conjugate=True)
        coil_images = torch.fft.ifft2(kspace, norm="ortho")
        return Reconstruction(CoilImages(coil_images, layout), scales=scales)
