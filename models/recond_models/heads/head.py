"""A head with its weights, ready to run on slices as they come from the scanner or from a reconstruction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recond_kernels import interruption
from recond_models.heads.contract import HeadContract
from recond_models.heads.exported import ExportedHeadNetwork
from recond_models.heads.framing import Framing
from recond_models.heads.network import SliceUNet
from recond_models.heads.preparation import seen
from recond_models.heads.segmenter import Segmenter
from recond_models.heads.series_network import SeriesNetwork
from recond_models.model import ModelInfo


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a head says of the pixels of consecutive slices; tensors on its device.

    Parameters
    ----------
    sums
        float32 (slices, classes, 2): sum over the pixels of the probability p of each class, and of p (1 - p).
    labels
        uint8 (slices, rows, columns): of a segmentation the most probable class, 0 for the background; of the search for lesions
        the most probable kind of lesion where a lesion is more probable than none.
    confidence
        uint8 (slices, rows, columns): of a segmentation the probability of the label, of the search for lesions that of any lesion;
        times 255.
    """

    sums: Tensor
    labels: Tensor
    confidence: Tensor


class Head:
    """A head with its weights, ready to run.

    Parameters
    ----------
    info
        What it is.
    network
        A `SliceUNet` or an `ExportedHeadNetwork`; or, for a classification, any network that takes float32 (batch, slices, rows,
        columns) and returns logits (batch, outputs).
    device
        torch device to compute on.
    merged, temperature
        Of a network that labels pixels, as for `Segmenter`.
    temperatures
        Of a classification, by group: logits are divided by it (Guo et al. 2017, arXiv:1706.04599); 1 where there is none.

    Raises
    ------
    ValueError
        `info` is that of no head, or the network is not of its kind.
    """

    def __init__(
        self,
        info: ModelInfo,
        network: nn.Module,
        device: str,
        merged: tuple[int, ...] | None = None,
        temperature: float = 1.0,
        temperatures: Mapping[str, float] | None = None,
    ) -> None:
        self.info = info
        self.contract: HeadContract = info.head_info.contract
        self._device = torch.device(device)
        self._network = network.to(self._device).eval()
        if isinstance(network, ExportedHeadNetwork):
            network.place(self._device)
        self._segmenter: Segmenter | None = None
        self._explaining = network if isinstance(network, SeriesNetwork) else None
        self._temperatures = [(temperatures or {}).get(group.name, 1.0) for group in self.contract.groups]
        if self.contract.whole_volumes:
            if not isinstance(network, SliceUNet | ExportedHeadNetwork) or network.slices != self.contract.slices:
                raise ValueError(f"{info.name} needs a network that labels the pixels of {self.contract.slices} slices")
            self._segmenter = Segmenter(network, merged, temperature, self._device)
            if self._segmenter.classes != self.contract.outputs:
                raise ValueError(
                    f"the network of {info.name} tells {self._segmenter.classes} classes apart, its contract "
                    f"{self.contract.outputs}"
                )

    @property
    def network(self) -> nn.Module:
        """Its network."""
        return self._network

    @torch.inference_mode()
    def label(self, block: Tensor, framing: Framing) -> Labelled:
        """Label consecutive slices of a volume.

        Parameters
        ----------
        block
            float32 (slices + 2 halo, rows, columns) of the volume, with the neighbours that the network sees at both ends.
        framing
            Of the volume.

        Raises
        ------
        ValueError
            The block has too few slices, or the head labels nothing.
        recond_kernels.interruption.Interrupted
            Nobody waits for them any more.
        """
        if self._segmenter is None:
            raise ValueError(f"{self.info.name} labels no pixels")
        stacks = seen(self._checked(block), framing).unfold(0, self.contract.slices, 1).permute(0, 3, 1, 2)
        probable = self._segmenter.probabilities(stacks, framing)
        sums = torch.stack([probable.sum(dim=(2, 3)), (probable * (1 - probable)).sum(dim=(2, 3))], dim=2)
        if self.contract.task == "lesions":
            confidence = 1 - probable[:, 0]
            kind = probable[:, 1:].max(dim=1).indices + 1  # ten times as fast as argmax
            labels = torch.where(confidence > probable[:, 0], kind, 0)
        else:
            confidence, labels = probable.max(dim=1)
        return Labelled(sums, labels.to(torch.uint8), confidence.mul(255).round_().clamp_(0, 255).to(torch.uint8))

    @torch.inference_mode()
    def classify(self, block: Tensor, framing: Framing) -> Tensor:
        """Classify slices, each with the neighbours that the network sees.

        Parameters
        ----------
        block, framing
            As for `label`.

        Returns
        -------
        Tensor
            float32 (slices, outputs) on the device: the probabilities of each group add up to 1.

        Raises
        ------
        ValueError
            The block has too few slices, or the head labels pixels.
        recond_kernels.interruption.Interrupted
            Nobody waits for them any more.
        """
        stacks = self._stacks(block, framing)
        logits: Tensor | dict[str, Tensor] = self._network(stacks)
        if isinstance(logits, dict):
            logits = torch.cat(list(logits.values()), dim=1)
        return self._probabilities(logits)

    @torch.inference_mode()
    def explain(self, block: Tensor, framing: Framing) -> tuple[Tensor, Tensor]:
        """Classify slices, and tell what each place contributes to the score of each class.

        Parameters
        ----------
        block, framing
            As for `label`.

        Returns
        -------
        probabilities
            As from `classify`.
        contributions
            float32 (slices, outputs, rows, columns) on the device, on the grid that `HeadInfo.attention` gives: added up over
            places they are the logit of the class, before its temperature and less its constant part.

        Raises
        ------
        ValueError
            The block has too few slices, or the head has no attention map.
        recond_kernels.interruption.Interrupted
            Nobody waits for them any more.
        """
        if self._explaining is None:
            raise ValueError(f"{self.info.name} has no attention map: its network is not of the family series")
        scores, contributions = self._explaining.explained(self._stacks(block, framing))
        return self._probabilities(torch.cat(list(scores.values()), dim=1)), contributions

    def _stacks(self, block: Tensor, framing: Framing) -> Tensor:
        """Return what a network that classifies sees of a block, float32 (slices, slices of the contract, rows, columns)."""
        if self._segmenter is not None:
            raise ValueError(f"{self.info.name} labels pixels")
        stacks = seen(self._checked(block), framing).unfold(0, self.contract.slices, 1).permute(0, 3, 1, 2)
        interruption.checkpoint()
        return stacks

    def _probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities of logits (slices, outputs), those of each group adding up to 1."""
        groups = torch.split(logits.float(), [len(group.classes) for group in self.contract.groups], dim=1)
        scaled = [group / temperature for group, temperature in zip(groups, self._temperatures, strict=True)]
        return torch.cat([torch.softmax(group, dim=1) for group in scaled], dim=1)

    def _checked(self, block: Tensor) -> Tensor:
        """Return the block on the device."""
        if block.ndim != 3 or block.shape[0] <= 2 * self.contract.halo:
            raise ValueError(
                f"a block of the shape {tuple(block.shape)}: {self.info.name} sees {self.contract.slices} slices"
            )
        return block.to(self._device)


def options_of(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `Head` that stand in an architecture beside those of the network.

    Raises
    ------
    ValueError
        They cannot be.
    """
    found: dict[str, Any] = {}
    if "merged" in architecture:
        merged = architecture["merged"]
        if not isinstance(merged, list) or not all(isinstance(one, int) and 0 <= one < 256 for one in merged):
            raise ValueError(f"merged gives a class for each class of the network, got {merged!r}")
        found["merged"] = tuple(merged)
    if "temperature" in architecture:
        temperature = float(architecture["temperature"])
        if not 0.05 <= temperature <= 20:
            raise ValueError(f"temperature is {temperature}; it must be between 0.05 and 20")
        found["temperature"] = temperature
    if "temperatures" in architecture:
        temperatures = {str(name): float(value) for name, value in dict(architecture["temperatures"]).items()}
        if not all(0.05 <= value <= 20 for value in temperatures.values()):
            raise ValueError(f"temperatures are {temperatures}; each must be between 0.05 and 20")
        found["temperatures"] = temperatures
    return found
