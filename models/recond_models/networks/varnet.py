"""End-to-end variational network (Sriram et al. 2020, arXiv:2004.06688), with the key names of fastMRI's released weights.

The modules here hold the weights and compute plainly, for frames of one number of coils, in the way the paper writes it; gradients
flow. `recond_models.networks.varnet_reconstructor` computes the same from packed batches, faster.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from recond_kernels.fourier import fft2c, ifft2c
from recond_models.networks.norm_unet import NormUnet


class SensitivityModel(nn.Module):
    """Coil sensitivities from the images of the calibration lines, each coil by itself.

    Parameters
    ----------
    channels, pools
        Of the U-Net.
    """

    def __init__(self, channels: int, pools: int) -> None:
        super().__init__()
        self.norm_unet = NormUnet(channels, pools)

    def forward(self, calibration: Tensor) -> Tensor:
        """Estimate sensitivities.

        Parameters
        ----------
        calibration
            complex64 (batch, coils, rows, columns): k-space, zero but for the calibration lines.

        Returns
        -------
        Tensor
            complex64 (batch, coils, rows, columns): root sum of squares 1, or 0 where there is no signal at all.
        """
        images = ifft2c(calibration)
        return divide_by_root_sum_of_squares(self.norm_unet(images.flatten(0, 1)).view_as(images), dim=1)


class Cascade(nn.Module):
    """A step towards the measured samples, and a learned one.

    Parameters
    ----------
    channels, pools
        Of the U-Net.
    """

    def __init__(self, channels: int, pools: int) -> None:
        super().__init__()
        self.model = NormUnet(channels, pools)
        self.dc_weight = nn.Parameter(torch.ones(1))

    def forward(self, kspace: Tensor, measured: Tensor, masks: Tensor, sensitivities: Tensor) -> Tensor:
        """Return the next estimate of the k-space.

        Parameters
        ----------
        kspace, measured
            complex64 (batch, coils, rows, columns): estimate, and samples.
        masks
            Bool, broadcast against `kspace`: true where measured.
        sensitivities
            complex64 (batch, coils, rows, columns).
        """
        image = (sensitivities.conj() * ifft2c(kspace)).sum(dim=1)
        learned = fft2c(self.model(image)[:, None] * sensitivities)
        return kspace - torch.where(masks, kspace - measured, 0) * self.dc_weight - learned


class VarNet(nn.Module):
    """Sensitivity network and cascades.

    Parameters
    ----------
    cascades
        Number of cascades.
    channels, pools
        Of the U-Net of every cascade.
    sensitivity_channels, sensitivity_pools
        Of the U-Net for the sensitivities.
    """

    def __init__(
        self, cascades: int, channels: int, pools: int, sensitivity_channels: int, sensitivity_pools: int
    ) -> None:
        super().__init__()
        self.sens_net = SensitivityModel(sensitivity_channels, sensitivity_pools)
        self.cascades = nn.ModuleList(Cascade(channels, pools) for _ in range(cascades))

    def forward(self, measured: Tensor, masks: Tensor, calibration: Tensor) -> Tensor:
        """Reconstruct frames.

        Parameters
        ----------
        measured
            complex64 (batch, coils, rows, columns), zero where nothing was measured.
        masks
            Bool, broadcast against `measured`: true where measured.
        calibration
            complex64 (batch, coils, rows, columns): k-space, zero but for the calibration lines.

        Returns
        -------
        Tensor
            float32 (batch, rows, columns): root sum of squares of the coil images.
        """
        sensitivities = self.sens_net(calibration)
        kspace = measured
        for cascade in self.cascades:
            kspace = cast("Tensor", cascade(kspace, measured, masks, sensitivities))
        return torch.view_as_real(ifft2c(kspace)).square().sum(dim=(1, -1)).sqrt()


def divide_by_root_sum_of_squares(images: Tensor, dim: int) -> Tensor:
    """Divide complex coil images by their root sum of squares along `dim`; 0 where that is 0, not the NaN of fastMRI."""
    total = torch.view_as_real(images).square().sum(dim=-1).sum(dim=dim, keepdim=True).sqrt()
    return images / torch.where(total > 0, total, 1)
