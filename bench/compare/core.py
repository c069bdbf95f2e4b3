"""What the rivals compute with: recond's own models, so that only the serving differs."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from recond_models import loading
from recond_models.batch import PackedBatch
from recond_models.finishing import magnitudes
from recond_models.sampling import centre_block


class Core:
    """A model on so many threads.

    Parameters
    ----------
    model
        Name of the model.
    threads
        Threads that it computes with.
    """

    def __init__(self, model: str, threads: int) -> None:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        torch.set_num_threads(threads)
        self._model = loading.load(model)

    def reconstruct(
        self, kspaces: Sequence[NDArray[np.complex64]], masks: Sequence[NDArray[np.bool_]]
    ) -> list[NDArray[np.float32]]:
        """Reconstruct frames of equal rows and columns.

        Parameters
        ----------
        kspaces
            complex64 (coils, rows, columns) each.
        masks
            bool (rows, columns) each.

        Returns
        -------
        Images, float32 (rows, columns) each.
        """
        masks = [np.array(mask) for mask in masks]  # torch wants memory that may be written
        calibrations = [centre_block(kspace, _extent(mask)) for kspace, mask in zip(kspaces, masks, strict=True)]
        batch = PackedBatch.pack(
            [np.where(mask, kspace, 0) for kspace, mask in zip(kspaces, masks, strict=True)], list(masks), calibrations
        )
        images: NDArray[np.float32] = magnitudes(self._model.reconstruct(batch)).numpy()
        return list(images)


def _extent(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the size of the fully sampled block of columns around the centre."""
    columns = mask.all(axis=0)
    centre = columns.size // 2
    first = last = centre
    while first > 0 and columns[first - 1]:
        first -= 1
    while last < columns.size - 1 and columns[last + 1]:
        last += 1
    half = min(centre - first, last - centre + 1)
    return mask.shape[0], 2 * half
