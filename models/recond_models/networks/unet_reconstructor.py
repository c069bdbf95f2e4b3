"""fastMRI's U-Net on packed batches: image in, image out."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn

from recond_kernels.coils import root_sum_of_squares
from recond_kernels.consistency import sample
from recond_kernels.fourier import ramp
from recond_models import per_frame
from recond_models.batch import PackedBatch, Reconstruction
from recond_models.classical.scale import normalise
from recond_models.model import ModelInfo, UnsuitableModelError
from recond_models.networks import cuda_engine
from recond_models.networks.compiled import CompiledNetworks
from recond_models.networks.engines import Engine, parse_precision
from recond_models.networks.unet import Unet
from recond_models.note import Note

_LARGEST = 6.0
"""Normalised pixels are clamped to this many standard deviations, as in fastMRI."""


class UnetReconstructor:
    """The U-Net baseline of fastMRI (Zbontar et al. 2018, arXiv:1811.08839).

    The zero-filled root sum of squares is cropped to what will be shown, brought to mean 0 and variance 1 and given to the
    network. Outside the crop the image stays as it was. fastMRI adds 1e-11 to the standard deviation; here nothing is added, so
    that k-space of any scale gives the same image.

    Parameters
    ----------
    info
        Its entry in the registry.
    network
        A `Unet` of one channel in and out, with its weights, which must not change afterwards.
    device
        torch device.
    precision
        ``"float32"`` or ``"bfloat16"``: of the network.
    compiled
        Compile the network for sizes that are worth it.

    Raises
    ------
    TypeError
        The network is not a `Unet`.
    ValueError
        It has other than one channel in and out, or the precision is unknown.
    """

    def __init__(
        self,
        info: ModelInfo,
        network: nn.Module,
        device: str = "cpu",
        precision: str = "float32",
        *,
        compiled: bool = True,
    ) -> None:
        if not isinstance(network, Unet):
            raise TypeError(f"expected a Unet, got {type(network).__name__}")
        channels = (network.in_channels, network.out_channels)
        if channels != (1, 1):
            raise ValueError(
                f"the U-Net of magnitude images has one channel in and out, got {channels[0]} and {channels[1]}"
            )
        self.info = info
        self._device = torch.device(device)
        self._smallest = 2 << len(network.down_sample_layers)
        wanted = parse_precision(precision)
        self.networks: CompiledNetworks | None = None
        if self._device.type == "cpu":
            self.networks = CompiledNetworks.by_openvino([network], wanted, compiled=compiled)
        else:
            self._plain: Engine = cuda_engine.engines([network], self._device, wanted)[0]

    @torch.inference_mode()
    def reconstruct(self, batch: PackedBatch) -> Reconstruction:
        """Return the images of a batch; there are no residuals.

        Raises
        ------
        UnsuitableModelError
            What will be shown is smaller than the network can take.
        """
        whole = (int(batch.kspace.shape[1]), int(batch.kspace.shape[2]))
        sizes = Counter(crop or whole for crop in batch.crops or (None,) * len(batch))
        for size in sizes:
            self._check(size)
        if self.networks is None:
            return self._enhance(batch)
        for size, images in sizes.items():
            self.networks.prepare(size, [images])
        return per_frame.reconstruct_each(lambda _, frame: self._enhance(frame), batch, at_once=False)

    def _check(self, size: tuple[int, int]) -> None:
        if min(size) < self._smallest:
            raise UnsuitableModelError(
                f"{self.info.name} takes images of {self._smallest} x {self._smallest} and more, got {size[0]} x {size[1]}: use "
                f"the model rss"
            )

    def _enhance(self, batch: PackedBatch) -> Reconstruction:
        layout = batch.layout
        masked = sample(batch.kspace.to(self._device), batch.masks.to(self._device), layout)
        kspace, scales = normalise(masked, layout)
        rows, columns = int(kspace.shape[1]), int(kspace.shape[2])
        kspace *= ramp(rows, columns, kspace.dtype, kspace.device, conjugate=True)
        images = root_sum_of_squares(torch.fft.ifft2(kspace, norm="ortho"), layout)
        flat = []
        for number in range(len(batch)):
            crop = batch.crops[number] if batch.crops else None
            height, width = crop or (rows, columns)
            top, left = (rows - height) // 2, (columns - width) // 2
            shown = images[number, top : top + height, left : left + width]
            deviation, mean = torch.std_mean(shown)
            flat.append(deviation == 0)
            pixels = (shown - mean) / torch.where(deviation > 0, deviation, 1)
            output = self._run(pixels.clamp(-_LARGEST, _LARGEST)[None, None])[0, 0]
            shown.copy_(output * deviation + mean)
        notes: list[tuple[Note, ...]] = [(_flat(),) if constant else () for constant in torch.stack(flat).tolist()]
        return Reconstruction(images, notes=tuple(notes) if any(notes) else (), scales=scales)

    def _run(self, image: Tensor) -> Tensor:
        """Return the output of the network for float32 (1, 1, rows, columns)."""
        if self.networks is None:
            return self._plain(image)
        return self.networks.latest(0, (int(image.shape[2]), int(image.shape[3])))(image)


def _flat() -> Note:
    return Note("constant-image", "the zero-filled image is the same everywhere, or zero, and the network left it so")
