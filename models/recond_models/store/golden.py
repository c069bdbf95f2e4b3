"""A golden pair: an input and the images that a model made of it when it was recorded."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from recond_models.batch import PackedBatch, Reconstructor
from recond_models.contract import Contract, Range
from recond_models.finishing import magnitudes
from recond_models.sampling import centre_block
from recond_models.simulate.scan import ScanSettings, simulate
from recond_models.store.errors import DamagedModelError, GoldenMismatchError
from recond_models.store.manifest import Precision

TOLERANCES: Final[dict[Precision, float]] = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.02}
"""Largest deviation from the golden images, as a fraction of their brightest pixel: other processors add in another order."""

OTHER_DEVICE: Final = 10.0
"""The golden images are made on a CPU; elsewhere convolutions round more, and the tolerance is this times as large."""

_ROWS, _COLUMNS, _ACCELERATION, _CALIBRATION = 80, 64, 4.0, 16
_COILS = (4, 3)


def make_input(contract: Contract, enlarged: int = 1) -> PackedBatch:
    """Return simulated frames that the contract allows as far as it goes: two, with different numbers of coils.

    Parameters
    ----------
    contract
        What data the model was made for.
    enlarged
        How many times as many rows and columns as usual.

    Returns
    -------
    PackedBatch
        Undersampled Shepp-Logan phantoms of about 80 x 64 with a little noise, the same on every call.
    """
    rows, columns = _within(enlarged * _ROWS, contract.rows), _within(enlarged * _COLUMNS, contract.columns)
    calibration = max(_CALIBRATION, contract.calibration[1])
    kspaces, masks, blocks = [], [], []
    for number, coils in enumerate(_COILS):
        scan = simulate(
            ScanSettings(
                coils=int(_within(coils, contract.coils)),
                slices=1,
                rows=int(rows),
                columns=int(columns),
                acceleration=_within(_ACCELERATION, contract.acceleration),
                calibration_lines=calibration,
                phantom="shepp-logan",
                oversampling=1,
                seed=number,
            )
        )
        kspace = scan.kspace.reshape(-1, *scan.kspace.shape[-2:]).astype(np.complex64)
        mask = np.broadcast_to(scan.lines, kspace.shape[1:]).copy()
        kspaces.append(np.where(mask, kspace, np.complex64(0)))
        masks.append(mask)
        blocks.append(centre_block(kspaces[-1], (int(rows), int(scan.calibration.sum()))).copy())
    return PackedBatch.pack(kspaces, masks, blocks)


def record(batch: PackedBatch, model: Reconstructor) -> bytes:
    """Run a model and return the golden pair as a safetensors file.

    Raises
    ------
    GoldenMismatchError
        The images are not finite, or zero everywhere.
    """
    images = magnitudes(model.reconstruct(batch))
    if not bool(torch.isfinite(images).all()) or not bool((images.flatten(1).amax(dim=1) > 0).all()):
        raise GoldenMismatchError(
            f"{model.info.name} makes no image of a simulated phantom (pixels that are not finite, or zeros): its weights are "
            "of no use; get the file again, or train longer"
        )
    tensors = {
        "kspace": batch.kspace.contiguous(),
        "coil_offsets": batch.coil_offsets.contiguous(),
        "masks": batch.masks.contiguous(),
        "images": images.contiguous(),
    }
    for number, block in enumerate(batch.calibrations):
        if block is not None:
            tensors[f"calibration.{number}"] = block.contiguous()
    return save_safetensors(tensors)


def check(data: bytes, model: Reconstructor, tolerance: float) -> float:
    """Run a model on its golden input, which also warms it, and compare with its golden images.

    Parameters
    ----------
    data
        What `record` returned.
    model
        The model.
    tolerance
        Largest deviation as a fraction of the brightest golden pixel.

    Returns
    -------
    float
        The deviation.

    Raises
    ------
    DamagedModelError
        The data are no golden pair.
    GoldenMismatchError
        The images are others.
    """
    batch, golden = _read(data, model.info.name)
    images = magnitudes(model.reconstruct(batch))
    if images.shape != golden.shape:
        raise _mismatch(model, f"{tuple(images.shape)} instead of {tuple(golden.shape)} pixels")
    deviation = float((images - golden).abs().max() / golden.abs().max())
    if not deviation <= tolerance:  # also what is no number
        raise _mismatch(model, f"they deviate by {deviation:.2g} of the brightest pixel, {tolerance:.2g} is allowed")
    return deviation


def _mismatch(model: Reconstructor, what: str) -> GoldenMismatchError:
    return GoldenMismatchError(
        f"{model.info.name} makes other images here than when it was recorded: {what}. This version of recond or of torch does "
        "not run it rightly; add the model again, compare its images, and report it"
    )


def _read(data: bytes, name: str) -> tuple[PackedBatch, Tensor]:
    """Return the input and the images of a golden pair."""
    try:
        tensors = load_safetensors(data)
        count = len(tensors["coil_offsets"]) - 1
        blocks = tuple(tensors.get(f"calibration.{number}") for number in range(count))
        batch = PackedBatch(tensors["kspace"], tensors["coil_offsets"], tensors["masks"], blocks)
        return batch, tensors["images"]
    except (SafetensorError, KeyError, ValueError) as error:
        raise DamagedModelError(f"the golden pair of {name} cannot be read ({error}): add the model again") from error


def _within(value: float, limits: Range | None) -> float:
    """Return the value, or the nearest limit."""
    return value if limits is None else min(max(value, limits[0]), limits[1])
