"""Coil sensitivities from fully sampled calibration data by ESPIRiT (Uecker et al. 2014, doi:10.1002/mrm.24751).

Patches of calibration k-space lie in a subspace. Projecting every patch of the whole k-space onto it and averaging is a
convolution in k-space, so in the image it multiplies the coil vector of each pixel by a small Hermitian matrix. Where there is
object, the coil sensitivities are its eigenvector of eigenvalue 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recond_kernels import interruption
from recond_kernels.fourier import ifft2c

# Small enough for the cache of a CPU, where the matrices of a chunk are read a dozen times.
_CHUNK_BYTES = 4 << 20
_CHUNK_BYTES_GPU = 512 << 20
_NORMALISE_AT = 3
# The maps of a batch are computed on a grid this much coarser than the image, but no smaller than this.
_COARSENING = 3
_SMALLEST_GRID = 48


@dataclass(frozen=True, slots=True)
class EspiritMaps:
    """Result of `estimate`.

    Parameters
    ----------
    sensitivities
        complex64 (coils, rows, columns), root sum of squares 1 where the eigenvalue is not 0. The phase is that of a virtual coil
        that sees the whole object, so the image keeps a smooth phase.
    eigenvalues
        float32 (rows, columns), near 1 where there is object.
    """

    sensitivities: Tensor
    eigenvalues: Tensor


def estimate(
    calibration: Tensor,
    shape: tuple[int, int],
    *,
    kernel_width: int = 6,
    threshold: float = 0.02,
    squarings: int = 6,
) -> EspiritMaps:
    """Estimate coil sensitivities on the grid of an image.

    Parameters
    ----------
    calibration
        complex64 (coils, calibration rows, calibration columns), fully sampled, origin at ``n // 2``; rows and columns may differ.
    shape
        (rows, columns) of the maps.
    kernel_width
        Width of the patches; reduced to half the shorter side of the calibration data if these are small.
    threshold
        Singular values of the patches below this fraction of the largest are noise.
    squarings
        How often the matrix of every pixel is squared: n are as good as ``2**n`` power iterations.

    Returns
    -------
    EspiritMaps
        The maps, on the device of `calibration`. Independent of the scale of `calibration`.

    Raises
    ------
    ValueError
        `calibration` is zero everywhere, has fewer than two rows or columns, or is larger than `shape`.
    """
    coils, rows, columns = calibration.shape
    if min(rows, columns) < 2 or rows > shape[0] or columns > shape[1]:
        raise ValueError(f"calibration of {rows} x {columns} does not suit an image of {shape[0]} x {shape[1]}")
    largest = calibration.abs().max()
    if not bool(largest > 0):
        raise ValueError("the calibration data are zero everywhere")
    width = min(kernel_width, rows // 2, columns // 2)
    normalised = calibration / largest
    lags = _projection_lags(normalised, width, threshold)
    start = _low_resolution(normalised, shape)
    covariance = torch.einsum("cxy,dxy->cd", start, start.conj()).to(torch.complex128)
    virtual_coil = torch.linalg.eigh(covariance).eigenvectors[:, -1].to(torch.complex64)

    row_waves, column_waves = (_waves(size, width, calibration.device) for size in shape)
    # (rows, column lags, coils * coils); columns follow in chunks of rows.
    partial = torch.einsum("cdab,xa->xbcd", lags, row_waves).reshape(shape[0], 2 * width - 1, coils * coils)
    chunk = max(1, _CHUNK_BYTES // (coils * coils * shape[1] * 8))
    if calibration.is_cuda:
        chunk = max(chunk, _CHUNK_BYTES_GPU // (coils * coils * shape[1] * 8))
    maps = torch.empty((coils, *shape), dtype=torch.complex64, device=calibration.device)
    eigenvalues = torch.empty(shape, dtype=torch.float32, device=calibration.device)
    for first in range(0, shape[0], chunk):
        interruption.checkpoint()
        part = slice(first, first + chunk)
        matrices = torch.matmul(column_waves, partial[part]).reshape(-1, coils, coils)
        vectors, values = _dominant(matrices, start[:, part].flatten(1).T, squarings)
        maps[:, part] = vectors.T.reshape(coils, -1, shape[1])
        eigenvalues[part] = values.reshape(-1, shape[1])
    phase = torch.sgn(torch.einsum("c,cxy->xy", virtual_coil.conj(), maps))
    return EspiritMaps(maps * torch.where(phase == 0, 1, phase).conj(), eigenvalues)


def estimate_batch(calibrations: Sequence[Tensor], shape: tuple[int, int], *, crop: float) -> Tensor:
    """Estimate the coil sensitivities of the frames of a batch.

    Frame by frame: the pixels of one frame are thousands of small eigenvalue problems, enough for any device, and a frame's maps do
    not depend on the others. The problems are solved on a grid a third as fine and the maps interpolated: sensitivities are smooth,
    and the matrices are trigonometric polynomials of low degree. On a measured head the interpolated maps have a correlation above
    0.9988 with the exact ones in every pixel, above 0.99999 in 99 of 100, in less than half of the time.

    Parameters
    ----------
    calibrations
        For each frame complex64 (coils, calibration rows, calibration columns), as for `estimate`; numbers of coils may differ.
    shape
        (rows, columns) of the maps.
    crop
        Pixels of a smaller eigenvalue are background.

    Returns
    -------
    Tensor
        complex64 (coils of all frames, rows, columns): root sum of squares 1 in the object and 0 outside; 0 everywhere for a frame
        whose calibration data are zero.

    Raises
    ------
    ValueError
        There is no frame, or its calibration data are too few or too many for `estimate`.
    """
    if not calibrations:
        raise ValueError("there is no frame to estimate coil sensitivities for")
    maps = []
    for calibration in calibrations:
        interruption.checkpoint()
        if bool(calibration.abs().amax() > 0):
            maps.append(_cropped(estimate(calibration, _coarse(calibration, shape)), shape, crop))
        else:
            maps.append(calibration.new_zeros((calibration.shape[0], *shape)))
    return torch.cat(maps)


def _coarse(calibration: Tensor, shape: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the grid on which the maps for an image of that shape are computed."""
    rows, columns = (
        max(block, min(size, max(_SMALLEST_GRID, -(-size // _COARSENING))))
        for size, block in zip(shape, calibration.shape[1:], strict=True)
    )
    return rows, columns


def _cropped(coarse: EspiritMaps, shape: tuple[int, int], crop: float) -> Tensor:
    """Return complex64 (coils, *shape): maps of norm 1 where the interpolated eigenvalue exceeds `crop`, 0 elsewhere."""
    if tuple(coarse.eigenvalues.shape) == shape:
        return torch.where(coarse.eigenvalues > crop, coarse.sensitivities, 0)
    # Weighted by the eigenvalues, the arbitrary vectors of the background hardly reach into the object.
    planes = torch.cat(
        [
            torch.view_as_real(coarse.sensitivities * coarse.eigenvalues).permute(0, 3, 1, 2).flatten(0, 1),
            coarse.eigenvalues[None],
        ]
    )
    down, across = (
        _interpolation(size, fine, planes.device) for size, fine in zip(coarse.eigenvalues.shape, shape, strict=True)
    )
    fine = down @ planes @ across.T
    maps = torch.complex(fine[:-1:2], fine[1:-1:2])
    norms = (maps.real.square() + maps.imag.square()).sum(dim=0).sqrt()
    return torch.where(fine[-1] > crop, maps / norms.clamp_min(torch.finfo(norms.dtype).tiny), 0)


def _interpolation(size: int, fine: int, device: torch.device) -> Tensor:
    """Return float32 (fine, size): cubic convolution (Keys 1981, doi:10.1109/TASSP.1981.1163711) from a grid to a finer one.

    Both are periodic over one field of view, with their origins at ``n // 2``.
    """
    places = (torch.arange(fine, dtype=torch.float64) - fine // 2) * size / fine + size // 2
    first = places.floor()
    weights = torch.zeros(fine, size, dtype=torch.float64)
    for step in range(-1, 3):
        distance = (places - first - step).abs()
        near = (1.5 * distance - 2.5) * distance.square() + 1
        far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
        neighbour = (first.long() + step) % size
        weights[torch.arange(fine), neighbour] += torch.where(distance <= 1, near, far)
    return weights.to(device=device, dtype=torch.float32)


def _projection_lags(calibration: Tensor, width: int, threshold: float) -> Tensor:
    """Return complex64 (coils, coils, 2 width - 1, 2 width - 1): the k-space convolution that projects and averages patches."""
    coils = calibration.shape[0]
    patches = calibration.unfold(1, width, 1).unfold(2, width, 1)
    patches = patches.permute(1, 2, 0, 3, 4).reshape(-1, coils * width * width).to(torch.complex128)
    # The eigenvectors of the smaller of the two Gram matrices lead to the same subspace.
    few = patches.shape[0] < patches.shape[1]
    values, vectors = torch.linalg.eigh(patches.conj() @ patches.T if few else patches.T @ patches.conj())
    strong = values > threshold**2 * values[-1]
    kept = (patches.T @ vectors[:, strong]) / values[strong].sqrt() if few else vectors[:, strong]
    projector = (kept @ kept.mH).reshape(coils, width, width, coils, width, width).to(torch.complex64)
    lags: Tensor = projector.new_zeros(coils, coils, 2 * width - 1, 2 * width - 1)
    for row in range(width):
        for column in range(width):
            # Lag = index in the output patch minus index in the input patch, which runs backwards under the flip.
            block = projector[:, row, column].flip(2, 3)
            lags[:, :, row : row + width, column : column + width] += block
    return lags.div(width * width)


def _waves(size: int, width: int, device: torch.device) -> Tensor:
    """Return complex64 (size, 2 width - 1): the plane waves of the lags over the image."""
    positions = (torch.arange(size, device=device, dtype=torch.float64) - size // 2) / size
    lags = torch.arange(1 - width, width, device=device, dtype=torch.float64)
    angles = 2 * math.pi * positions[:, None] * lags
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


def _low_resolution(calibration: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return complex64 (coils, rows, columns): coil images of the calibration data alone, largest magnitude near 1."""
    padded = calibration.new_zeros((calibration.shape[0], *shape))
    starts = [size // 2 - block // 2 for size, block in zip(shape, calibration.shape[1:], strict=True)]
    padded[:, starts[0] : starts[0] + calibration.shape[1], starts[1] : starts[1] + calibration.shape[2]] = calibration
    images: Tensor = ifft2c(padded)
    return images.div(images.abs().max())


def _dominant(matrices: Tensor, start: Tensor, squarings: int) -> tuple[Tensor, Tensor]:
    """Return the eigenvectors (pixels, coils) and eigenvalues (pixels,) of largest magnitude of (pixels, coils, coils)."""
    powers = matrices
    for count in range(1, squarings + 1):
        powers = torch.bmm(powers, powers)
        # Eigenvalues are 1 at most, so nothing grows; what shrinks is brought back in time.
        if count % _NORMALISE_AT == 0:
            traces = powers.diagonal(dim1=1, dim2=2).real.sum(dim=1)
            powers /= traces.clamp_min(torch.finfo(traces.dtype).tiny)[:, None, None]
    # The coil images are nearly the answer. The small constant keeps pixels without signal from starting at zero.
    vectors, _ = _normalised(torch.bmm(powers, (start + 1e-6)[..., None]))
    vectors, values = _normalised(torch.bmm(matrices, vectors))
    return vectors[..., 0], values[:, 0, 0]


def _normalised(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return vectors (pixels, coils, 1) of norm 1 and their norms (pixels, 1, 1) before; zero stays zero."""
    norms = (vectors.real.square() + vectors.imag.square()).sum(dim=1, keepdim=True).sqrt()
    return vectors / norms.clamp_min(torch.finfo(norms.dtype).tiny), norms
