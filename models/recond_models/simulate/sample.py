"""One measured sagittal slice of a head, from the sample data in the matplotlib wheel."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np
from scipy import ndimage

from recond_models.simulate.head import HeadNotFoundError, HeadSlices

_SIDE = 256


def sample_slice(rows: int, columns: int) -> HeadSlices:
    """Return the slice: T1-weighted, 256 x 256; rows run to the feet, columns to the back.

    No network of recond was trained on this head.

    Parameters
    ----------
    rows, columns
        What it is interpolated to.

    Raises
    ------
    HeadNotFoundError
        matplotlib is not installed.
    """
    found = importlib.util.find_spec("matplotlib")
    path = Path(found.origin).parent / "mpl-data/sample_data/s1045.ima.gz" if found and found.origin else Path()
    if not path.is_file():
        raise HeadNotFoundError(
            "the sample head comes with matplotlib: pip install matplotlib, or take another phantom"
        )
    values = np.frombuffer(gzip.decompress(path.read_bytes()), ">u2").reshape(_SIDE, _SIDE).astype(np.float64)
    scaled = ndimage.zoom(
        values / values.max(), (rows / _SIDE, columns / _SIDE), order=3, grid_mode=True, mode="nearest"
    )
    return HeadSlices(np.clip(scaled, 0, None)[None], np.zeros((1, 3)), 6.0)
