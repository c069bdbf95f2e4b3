"""Masks of the brain in measured heads, by deepbet's networks (MIT), to say where lesions may be put.

    pip download --no-deps deepbet && unzip -d deepbet deepbet-*.whl
    python bench/heads/brain_masks.py --volumes out/volumes --models deepbet/data/models -o out/masks

The networks of Fisch et al. 2024 (doi:10.1016/j.compbiomed.2024.108845) are TorchScript; nothing else of the package is used.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from scipy import ndimage

from recond_models.training.volumes import SIGNAL_UNITS, SOURCES, VOXEL, Volume, is_saved

_COARSE, _FINE = 128, 256
_MARGIN = 0.1
_SHARE = 0.02
# Bare brains need no mask, and four slices are too few.
_LEFT_OUT = ("niimath", "ms_mni", "colin27-brain", "inia19", "lowfield")


def signal_of(volume: Volume) -> NDArray[np.float32]:
    """Return the signal of a head, float32 (x, y, z)."""
    raw = volume.voxels["signal"] if volume.voxels.dtype == VOXEL else volume.voxels
    return np.asarray(raw, dtype=np.float32) / SIGNAL_UNITS


class BrainExtraction:
    """The two networks: where the brain is about, then its outline.

    Parameters
    ----------
    folder
        Holds ``bbox_model.pt`` and ``model.pt``.
    """

    def __init__(self, folder: Path) -> None:
        self._box = torch.jit.load(folder / "bbox_model.pt").eval()
        self._outline = torch.jit.load(folder / "model.pt").eval()

    @torch.no_grad()
    def __call__(self, signal: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return the brain, bool (x, y, z), of a head whose axes run along those of the patient."""
        volume = torch.from_numpy(signal)[None, None]
        coarse = nnf.interpolate(volume, (_COARSE,) * 3, mode="nearest-exact")
        about = _largest((self._box(_scaled(coarse))[0, 1] > 0.5).numpy())
        window = []
        for axis, size in enumerate(signal.shape):
            share = about.mean(axis=tuple(other for other in range(3) if other != axis))
            used = np.flatnonzero(share > _SHARE)
            low, high = used[0] * size / _COARSE, (used[-1] + 1) * size / _COARSE
            margin = _MARGIN * (high - low)
            window.append(slice(max(0, int(low - margin)), min(size, int(high + margin))))
        place = tuple(window)
        cut = volume[(0, 0, *place)][None, None]
        fine = nnf.interpolate(cut, (_FINE,) * 3, mode="nearest-exact")
        probable = self._outline(_scaled(fine))[0, 1]
        mask = np.zeros(signal.shape, dtype=bool)
        back = nnf.interpolate(probable[None, None], cut.shape[2:], mode="trilinear")[0, 0].numpy()
        mask[place] = back > 0.5
        return np.asarray(ndimage.binary_fill_holes(_largest(mask)))


def _scaled(values: torch.Tensor) -> torch.Tensor:
    low, high = np.quantile(values.numpy()[..., ::2, ::2, ::2], [0.005, 0.995])
    return ((values - low) / (high - low)).clamp(0, 1)


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    numbers, count = ndimage.label(mask)
    if count < 2:
        return mask
    return np.asarray(numbers == 1 + np.bincount(numbers.ravel())[1:].argmax())


def main() -> None:
    """Write NAME.npy for every head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    extract = BrainExtraction(arguments.models)
    for source in SOURCES:
        if source.layout == "labels" or source.name.startswith(_LEFT_OUT) or not is_saved(arguments.volumes, source):
            continue
        volume = Volume.load(arguments.volumes, source)
        brain = extract(signal_of(volume))
        np.save(arguments.output / f"{source.name}.npy", brain)
        print(f"{source.name}: {brain.sum() * np.prod(volume.spacing) / 1000:.0f} ml")


if __name__ == "__main__":
    main()
