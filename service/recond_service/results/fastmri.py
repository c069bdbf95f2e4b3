"""The container that the fastMRI tools read: dataset `reconstruction`, float32 (slices, rows, columns)."""

from __future__ import annotations

from typing import BinaryIO

import h5py

from recond_service.results.volume import Volumes


def write_fastmri(volumes: Volumes, file: BinaryIO) -> None:
    """Write a fastMRI reconstruction file. Nothing but the images goes in, no times, so that equal images give equal bytes.

    Parameters
    ----------
    volumes
        Sorted images.
    file
        Seekable, open for reading and writing.
    """
    with h5py.File(file, "w") as handle:
        dataset = handle.create_dataset("reconstruction", shape=volumes.shape, dtype="<f4", track_times=False)
        for number, image in enumerate(volumes.images):
            dataset[number] = image.pixels
