"""Labels of every voxel of a volume, how probable they are, and how sure the network is."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recond_kernels import interruption
from recond_models.heads.exported import ExportedHeadNetwork
from recond_models.heads.framing import LEAST_SLICES, Framing
from recond_models.heads.network import SliceUNet
from recond_models.heads.openvino_engine import OpenVinoEngine
from recond_models.heads.preparation import Block, Prepared, back, prepare
from recond_models.networks.engines import Precision
from recond_models.networks.openvino_engine import compiler

_log = logging.getLogger(__name__)

_PROGRAMS = 6
_LARGEST_DIFFERENCE = 1e-3
_SLICES_AT_ONCE = 16

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Segmentation:
    """What a network says of slices, on the pixels of their volume.

    Parameters
    ----------
    labels
        uint8 (slices, rows, columns): the most probable class, 0 for background.
    probabilities
        uint8 (classes, slices, rows, columns) in 1/255.
    uncertainty
        uint8 (slices, rows, columns) in 1/255: entropy of the probabilities, 255 where all classes are equally probable.
    """

    labels: NDArray[np.uint8]
    probabilities: NDArray[np.uint8]
    uncertainty: NDArray[np.uint8]

    @classmethod
    def joined(cls, parts: Sequence[Segmentation]) -> Segmentation:
        """Return neighbouring blocks as one."""
        return cls(
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.probabilities for part in parts], axis=1),
            np.concatenate([part.uncertainty for part in parts]),
        )


class Segmenter:
    """A network that labels volumes, slice by slice.

    Parameters
    ----------
    network
        With its weights, which must not change afterwards.
    merged
        For each class of the network the class that comes out: a network may tell apart more than is wanted. None for all as they
        are.
    temperature
        Logits are divided by it, so that probabilities are as high as they are right (Guo et al. 2017, arXiv:1706.04599).
    device
        Where to compute.
    precision
        Of the convolutions on a CPU.
    compiled
        Compile a `SliceUNet` for each size where OpenVINO is installed.
    """

    def __init__(
        self,
        network: SliceUNet | ExportedHeadNetwork,
        merged: Sequence[int] | None = None,
        temperature: float = 1.0,
        device: torch.device | str = "cpu",
        precision: Precision = "float32",
        *,
        compiled: bool = True,
    ) -> None:
        self._device = torch.device(device)
        self._network = network.to(self._device).eval()
        self._merged = tuple(range(network.classes)) if merged is None else tuple(merged)
        if len(self._merged) != network.classes or set(self._merged) != set(range(max(self._merged) + 1)):
            raise ValueError(
                f"merged gives each of the {network.classes} classes of the network one of those from 0 on, got {self._merged}"
            )
        self.classes = max(self._merged) + 1
        self._temperature = temperature
        self._precision: Precision = precision
        self._unet = network if isinstance(network, SliceUNet) else None
        self._compiles = compiled and self._unet is not None and self._device.type == "cpu" and compiler() is not None
        self._engines: OrderedDict[tuple[int, int], Run] = OrderedDict()  # the one unused longest first

    def __call__(
        self, volume: NDArray[np.floating], spacing: tuple[float, float, float], least_slices: int = LEAST_SLICES
    ) -> Segmentation:
        """Label a volume.

        Parameters
        ----------
        volume
            Magnitude (slices, rows, columns) in any unit.
        spacing
            Distance of slices, of rows and of columns, mm.
        least_slices
            How many slices are needed.

        Raises
        ------
        VolumeError
            The volume is nothing that a network could label; see `preparation.prepare`.
        """
        prepared = prepare(volume, spacing, least_slices)
        return Segmentation.joined(self.segment(blocks_of(prepared, _SLICES_AT_ONCE)))

    def segment(self, blocks: Sequence[Block]) -> list[Segmentation]:
        """Label blocks of slices, of one volume or of several; none depends on the others."""
        return [self._segment(block) for block in blocks]

    @torch.inference_mode()
    def probabilities(self, stacks: Tensor, framing: Framing) -> Tensor:
        """Return the probabilities of the classes on the pixels of the volume.

        Parameters
        ----------
        stacks
            float32 (slices, 5, rows, columns) on the device, as networks see them.
        framing
            Of the volume.

        Returns
        -------
        Tensor
            float32 (slices, classes, rows, columns) of the volume, on the device; background beyond what the network sees.

        Raises
        ------
        recond_kernels.interruption.Interrupted
            Nobody waits for them any more.
        """
        run = self._engine(framing.seen)
        answers = []
        for stack in torch.split(stacks, 1) if self._device.type == "cpu" else (stacks,):
            interruption.checkpoint()
            answers.append(run(stack))
        probable = torch.softmax(torch.cat(answers).float() / self._temperature, dim=1)
        if self.classes < self._network.classes:
            target = torch.tensor(self._merged, device=self._device)
            probable = probable.new_zeros(len(probable), self.classes, *probable.shape[2:]).index_add_(
                1, target, probable
            )
        whole = back(probable, framing, 0.0)
        whole[:, 0] += (1 - whole.sum(dim=1)).clamp_(min=0)
        return whole

    def _segment(self, block: Block) -> Segmentation:
        whole = self.probabilities(block.stacks().to(self._device), block.framing)
        entropy = torch.special.entr(whole).sum(dim=1) / float(np.log(self.classes))
        return Segmentation(
            whole.max(dim=1).indices.to(torch.uint8).cpu().numpy(),
            _bytes(whole).transpose(0, 1).contiguous().cpu().numpy(),
            _bytes(entropy).cpu().numpy(),
        )

    def _engine(self, size: tuple[int, int]) -> Run:
        """Return what runs the network on images of one size."""
        if not self._compiles or self._unet is None:
            return self._network
        engine = self._engines.get(size)
        if engine is None:
            engine = self._engines[size] = self._compile(self._unet, size)
            if len(self._engines) > _PROGRAMS:
                self._engines.popitem(last=False)
        self._engines.move_to_end(size)
        return engine

    def _compile(self, network: SliceUNet, size: tuple[int, int]) -> Run:
        """Compile the network and compare it with the plain one, which takes its place where they differ."""
        noise = torch.rand(1, network.slices, *size, generator=torch.Generator().manual_seed(0))
        try:
            engine = OpenVinoEngine(network, size, self._precision, torch.get_num_threads())
            made, expected = engine(noise), network(noise)
        except (RuntimeError, ValueError):
            _log.exception("cannot compile a head for %d x %d; images of this size take the plain path", *size)
            return network
        difference = float(torch.linalg.vector_norm(made - expected) / torch.linalg.vector_norm(expected))
        allowed = _LARGEST_DIFFERENCE if self._precision == "float32" else 100 * _LARGEST_DIFFERENCE
        if difference <= allowed:
            return engine
        _log.warning("a head compiled for %d x %d differs by %.2g from the plain one, which is used", *size, difference)
        return network


def blocks_of(prepared: Prepared, slices: int) -> list[Block]:
    """Cut a volume into blocks of at most so many slices."""
    count = len(prepared.images)
    return [prepared.block(start, min(start + slices, count)) for start in range(0, count, slices)]


def _bytes(shares: Tensor) -> Tensor:
    """Return numbers from 0 to 1 in 1/255."""
    return (255 * shares).round_().to(torch.uint8)
