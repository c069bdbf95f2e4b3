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

_SLOPE = 0.1


class SeriesNetwork(nn.Module):
    """Convolutions over one slice, and a linear layer for each of `OUTPUTS` on the mean and the largest features.

    Blocks of 2 x 2 pixels become channels first, so that noise and stripes of single pixels are seen at little cost.

    Parameters
    ----------
    widths
        Feature maps from half resolution on; each level halves it again.

    Raises
    ------
    ValueError
        There are fewer than two levels.
    """

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
        features = self.trunk(nnf.pixel_unshuffle(images, 2))
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        parts = torch.split(
            self.classify(self.normalise(pooled)), [len(classes) for classes in OUTPUTS.values()], dim=1
        )
        return dict(zip(OUTPUTS, parts, strict=True))


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


def _block(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.LeakyReLU(_SLOPE),
    )
