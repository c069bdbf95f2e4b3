"""The network of the head `series`: one slice in, its contrast, plane, anatomy and artefacts out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from torch import Tensor, nn

from recond_models.heads.framing import SLICE_SIDE, ShapeError, frame_slice
from recond_models.heads.preparation import seen

SIDE = SLICE_SIDE
"""Rows and columns that the network sees."""

GRADES = ("none", "mild", "severe")

OUTPUTS: dict[str, tuple[str, ...]] = {
    "contrast": ("T1", "T1 post contrast", "T2", "FLAIR", "PD", "T2*"),
    "plane": ("axial", "coronal", "sagittal"),
    "anatomy": ("head", "other", "none"),
    "motion": GRADES,
    "wrap": GRADES,
    "noise": GRADES,
    "spike": GRADES,
    "failed reconstruction": GRADES,
}
"""What is told of a slice, and the classes of each."""

ARTEFACTS = ("motion", "wrap", "noise", "spike", "failed reconstruction")
"""Those of `OUTPUTS` that are graded."""

_DISTORTING = ("motion", "noise")
_SLOPE = 0.1
_NEVER = 1e4
_SOFT = 0.06
_SPREAD = 0.02  # of a feature in units of its own deviation, added so that directions without any do not decide


class SeriesNetwork(nn.Module):
    """Convolutions over one slice, and a linear layer for each of `OUTPUTS` on the mean and the largest features.

    Blocks of 2 x 2 pixels become channels first, so that noise and stripes of single pixels are seen at little cost.

    Nobody can train it on everything that is no head. So it also knows how the features of heads are distributed (`learn_heads`),
    and counts a slice that is further from their mean than heads are, in the Mahalanobis distance (Lee et al. 2018,
    arXiv:1807.03888), as "other", unless severe motion or noise explains that.

    Parameters
    ----------
    widths
        Feature maps from half resolution on; each level halves it again.

    Raises
    ------
    ValueError
        There are fewer than two levels.
    """

    heads_mean: Tensor
    heads_whitening: Tensor
    heads_limit: Tensor

    def __init__(self, widths: tuple[int, ...] = (20, 32, 48, 64, 80)) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"the network has at least two levels, got widths {widths}")
        self.widths = tuple(widths)
        blocks: list[nn.Module] = []
        before = 4
        for level, width in enumerate(widths):
            blocks.append(_block(before, width, stride=1 if level == 0 else 2))
            if level < len(widths) - 1:
                blocks.append(_block(width, width, stride=1))
            before = width
        self.trunk = nn.Sequential(*blocks)
        # Without it the largest features, large as they are, would make every step of the training jump.
        self.normalise = nn.BatchNorm1d(2 * before)
        self.classify = nn.Linear(2 * before, sum(len(classes) for classes in OUTPUTS.values()))
        self.register_buffer("heads_mean", torch.zeros(2 * before))
        self.register_buffer("heads_whitening", torch.zeros(2 * before, 2 * before))
        self.register_buffer("heads_limit", torch.tensor(_NEVER))
        self.register_load_state_dict_pre_hook(_without_heads)  # type: ignore[no-untyped-call]

    def architecture(self) -> dict[str, Any]:
        """Return the arguments that make this network anew, as JSON holds them."""
        return {"widths": list(self.widths)}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Apply the network.

        Parameters
        ----------
        images
            float32 (batch, 1, `SIDE`, `SIDE`), as `prepare_slice` makes them.

        Returns
        -------
        dict
            float32 (batch, classes): scores for each of `OUTPUTS`.
        """
        return self._scores(self.pooled(images))

    def explained(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Apply the network, and tell what each place contributes to what it says (Zhou et al. 2016, arXiv:1512.04150).

        The layer behind the features is linear, so its scores are sums: of the mean of a feature each place has its share, of
        its largest value all belongs to the place of that. The sum over places is the score that this layer gives, less
        `constants`. Of the anatomy that is the score before what is too strange for a head is doubted.

        Parameters
        ----------
        images
            As `forward` takes them.

        Returns
        -------
        scores
            As `forward` returns them.
        contributions
            float32 (batch, classes of all `OUTPUTS`, rows, columns), on the grid of the last features, signed: what is positive
            speaks for the class.
        """
        features = self._features(images)
        batch, count, rows, columns = features.shape
        flat = features.flatten(2)
        highest = flat.max(dim=2, keepdim=True)
        peaks = torch.zeros_like(flat).scatter_(2, highest.indices, highest.values)
        of_mean, of_largest = torch.split(self.classify.weight * self._gains(), count, dim=1)
        contributions = torch.matmul(of_mean, flat / (rows * columns)) + torch.matmul(of_largest, peaks)
        scores = self._scores(torch.cat([flat.mean(dim=2), highest.values[:, :, 0]], dim=1))
        return scores, contributions.reshape(batch, -1, rows, columns)

    def constants(self) -> Tensor:
        """Return the part of each score that no place of an image contributes, float32 (classes of all `OUTPUTS`,)."""
        mean, shift = self.normalise.running_mean, self.normalise.bias
        if mean is None:
            raise ValueError("the network keeps no mean of its features")
        return self.classify.bias + self.classify.weight @ (shift - mean * self._gains())

    def _gains(self) -> Tensor:
        """Return what `normalise` multiplies each feature by."""
        variance = self.normalise.running_var
        if variance is None:
            raise ValueError("the network keeps no variance of its features")
        return self.normalise.weight / (variance + self.normalise.eps).sqrt()

    def _scores(self, pooled: Tensor) -> dict[str, Tensor]:
        parts = torch.split(
            self.classify(self.normalise(pooled)), [len(classes) for classes in OUTPUTS.values()], dim=1
        )
        scores = dict(zip(OUTPUTS, parts, strict=True))
        if not self.training:
            scores["anatomy"] = self._doubted(scores, self.strangeness(pooled))
        return scores

    def pooled(self, images: Tensor) -> Tensor:
        """Return the mean and the largest value of each feature map, float32 (batch, features).

        Parameters
        ----------
        images
            As `forward` takes them.
        """
        features = self._features(images)
        return torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)

    def _features(self, images: Tensor) -> Tensor:
        """Return the last feature maps, float32 (batch, features, rows, columns)."""
        features: Tensor = self.trunk(nnf.pixel_unshuffle(images, 2))
        return features

    def strangeness(self, pooled: Tensor) -> Tensor:
        """Return how far slices are from heads, float32 (batch,): about 1 for heads, 0 for all before `learn_heads`.

        Parameters
        ----------
        pooled
            From `pooled`.
        """
        distances = (pooled - self.heads_mean) @ self.heads_whitening
        return distances.square().mean(dim=1).sqrt()

    @torch.no_grad()
    def learn_heads(self, heads: Tensor, held_out: Tensor, share: float = 0.975) -> None:
        """Learn what features heads have.

        Parameters
        ----------
        heads
            float32 (slices, features), from `pooled`: slices of heads, ten times as many as features or more.
        held_out
            The same of heads that the network was not trained on, which are further from the mean.
        share
            Part of the held-out slices that remain heads.

        Raises
        ------
        ValueError
            There are fewer slices than features.
        """
        if len(heads) <= heads.shape[1] or len(held_out) == 0:
            raise ValueError(
                f"{len(heads)} slices of heads, but more than {heads.shape[1]} are needed, and held-out ones"
            )
        mean, deviation = heads.mean(dim=0), heads.std(dim=0) + 1e-3
        normalised = ((heads - mean) / deviation).double()
        covariance = torch.cov(normalised.T) + _SPREAD * torch.eye(heads.shape[1], dtype=torch.float64)
        variances, directions = torch.linalg.eigh(covariance)
        whitening = (directions / variances.sqrt()).float() / deviation[:, None]
        for buffer, value in ((self.heads_mean, mean), (self.heads_whitening, whitening)):
            buffer.copy_(value)
        self.heads_limit.copy_(torch.quantile(self.strangeness(held_out), share))

    def _doubted(self, scores: dict[str, Tensor], strangeness: Tensor) -> Tensor:
        """Return scores of the anatomy: what is too strange for a head counts as something else."""
        head, other, none = torch.softmax(scores["anatomy"].float(), dim=1).unbind(dim=1)
        severe = torch.stack([torch.softmax(scores[name].float(), dim=1)[:, -1] for name in _DISTORTING]).amax(dim=0)
        strange = torch.sigmoid((strangeness - self.heads_limit) / _SOFT) * (1 - severe)
        probabilities = torch.stack([head * (1 - strange), other + head * strange, none], dim=1)
        return probabilities.clamp_min(1e-7).log()


def prepare_slice(image: NDArray[np.floating]) -> NDArray[np.float32]:
    """Bring a slice to the size and brightness that the network knows.

    Parameters
    ----------
    image
        Magnitude (rows, columns), any unit and size.

    Returns
    -------
    ndarray
        float32 (`SIDE`, `SIDE`), 0 to `BRIGHTEST`: the slice in the middle of a square; zeros where it is empty.

    Raises
    ------
    ShapeError
        It is not a slice.
    NotFiniteError
        It holds NaN or infinity.
    """
    if image.ndim != 2 or min(image.shape) < 1:
        raise ShapeError(f"a slice is (rows, columns), got the shape {image.shape}")
    framing = frame_slice(image[None])
    return seen(torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None], framing)[0].numpy()


def _without_heads(network: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Let weights be loaded that know nothing of the features of heads."""
    for name in ("heads_mean", "heads_whitening", "heads_limit"):
        state.setdefault(prefix + name, getattr(network, name))


def _block(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.LeakyReLU(_SLOPE),
    )
