"""Frames of k-space that was already sorted: fastMRI, BART and arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recond_service.conditioning.preparation import prepare
from recond_service.conditioning.sampling import calibration_extent, mask_from_zeros
from recond_service.conditioning.scaling import bring_to_range, normalise, peak_of
from recond_service.types import FindingList, Frame, InvalidInputError, KspaceScan, ScanRequest, Window

_EMPTY = 1e-6  # of the mean energy of a column, below which one counts as padding


def condition_planes(scan: KspaceScan, request: ScanRequest, findings: FindingList) -> Iterator[Frame]:
    """Return the frames of sorted k-space, one after another.

    Nothing is whitened (fastMRI's references are not) and nothing is conjugated. The mask comes from the file, or from the zeros of
    each plane; columns outside the header's padding count as not measured (fastMRI, `VarNetDataTransform`), unless k-space holds
    something there. The image is cropped
    to the reference that came along, else to the header's reconstruction matrix, else not at all.

    Raises
    ------
    InvalidInputError
        If a sample is not finite, or the mask, the reference or the wanted undersampling does not fit.
    """
    columns = scan.shape[2]
    shape, window = _crop(scan, findings)
    encoded = np.ones(columns, np.bool_)
    if scan.padding is not None:
        encoded[: scan.padding[0]] = encoded[scan.padding[1] :] = False
    if scan.mask is not None and not (scan.mask & encoded).any():
        raise InvalidInputError("The mask leaves no sample of k-space.", reason="MASK_EMPTY", field="mask")
    if scan.mask is None:
        findings.info("mask-derived", "The k-space came without a mask: what is not zero counts as measured.")
    return _frames(scan, request, findings, encoded, shape, window)


def _frames(
    scan: KspaceScan,
    request: ScanRequest,
    findings: FindingList,
    encoded: NDArray[np.bool_],
    shape: tuple[int, int],
    window: Window,
) -> Iterator[Frame]:
    references = scan.reference.images() if scan.reference is not None else None
    wanted: tuple[NDArray[np.bool_], tuple[int, int]] | None = None
    for number, (index, kspace) in enumerate(zip(scan.indices, scan.planes(), strict=True)):
        peak = peak_of(kspace)
        if not np.isfinite(peak):
            raise _not_finite(kspace, f"{scan.place}[{number}]")
        if peak == 0:
            findings.warn("slice-empty", f"{scan.place}[{number}] is zero everywhere: so is its image.")
        padded = _padding_holds(kspace, encoded, scan, findings)
        if wanted is None or scan.mask is None or not padded:
            mask = mask_from_zeros(kspace) if scan.mask is None else scan.mask
            mask = mask & encoded if padded else mask
            wanted = mask, calibration_extent(mask)
        mask, extent = wanted
        if not padded:
            wanted = None
        _clear(kspace, mask, scan, findings)
        exponent = bring_to_range(kspace, peak)
        exponent += normalise(kspace)
        frame = Frame(
            index=index,
            kspace=kspace,
            mask=mask,
            calibration_extent=extent,
            scale=2.0**exponent,
            image_shape=shape,
            window=window,
        )
        if references is not None and scan.reference is not None:
            frame.reference, frame.reference_source = next(references), scan.reference.source
        yield prepare(frame, request, findings, scan.name)


def _padding_holds(
    kspace: NDArray[np.complex64], encoded: NDArray[np.bool_], scan: KspaceScan, findings: FindingList
) -> bool:
    """Tell whether the columns that the header calls padding are as good as empty; what was measured is not thrown away."""
    if encoded.all():
        return True
    energy = np.array(
        [float((np.abs(kspace[:, :, column]).astype(np.float64) ** 2).sum()) for column in range(len(encoded))]
    )
    if energy[~encoded].max(initial=0.0) <= _EMPTY * max(energy[encoded].mean(), np.finfo(np.float64).tiny):
        return True
    findings.warn(
        "padding-contradicted",
        f"{scan.place} holds samples in columns that the header calls zero padding: the samples are believed.",
    )
    return False


def _clear(kspace: NDArray[np.complex64], mask: NDArray[np.bool_], scan: KspaceScan, findings: FindingList) -> None:
    """Set what the mask leaves out to zero, and say so where it was not."""
    if mask.all():
        return
    outside = ~mask
    unmeasured_columns = np.flatnonzero(outside.all(axis=0))
    lines_only = len(unmeasured_columns) * mask.shape[0] == int(outside.sum())
    leftover = kspace[:, :, unmeasured_columns] if lines_only else kspace[:, outside]
    if leftover.any():
        findings.info(
            "samples-outside-mask",
            f"{scan.place} holds samples where the mask or the header's padding says that nothing was measured: they are not used.",
        )
        # Assigned, not multiplied: a product would leave the signs of what was removed on the zeros.
        if lines_only:
            kspace[:, :, unmeasured_columns] = 0
        else:
            kspace[:, outside] = 0


def _crop(scan: KspaceScan, findings: FindingList) -> tuple[tuple[int, int], Window]:
    rows, columns = scan.shape[1:]
    if scan.reference is not None:
        wanted = scan.reference.shape[1], scan.reference.shape[2]
        if wanted[0] > rows or wanted[1] > columns:
            raise InvalidInputError(
                f"{scan.reference.place} has images of {wanted[0]} x {wanted[1]}, larger than k-space, {rows} x {columns}.",
                reason="REFERENCE_SHAPE",
                field=scan.reference.place,
            )
        if scan.recon_matrix not in {None, wanted}:
            findings.info(
                "crop-from-reference",
                f"The header wants images of {scan.recon_matrix}, the reference has {wanted}: cropped to the reference.",
            )
    else:
        wanted = scan.recon_matrix or (rows, columns)
        if wanted[1] > columns:
            # fastMRI's rule for the files of scanner 203: too few columns for the crop give a square of the columns.
            findings.info(
                "crop-reduced",
                f"The header wants images of {wanted}, k-space has {columns} columns: cropped to a square.",
            )
            wanted = columns, columns
        wanted = min(wanted[0], rows), wanted[1]
    # fastMRI's own rule for the start, which differs from keeping the centre when an even length is cropped to an odd one.
    return wanted, Window((rows - wanted[0]) // 2, (columns - wanted[1]) // 2, wanted[0], wanted[1])


def _not_finite(kspace: NDArray[np.complex64], place: str) -> InvalidInputError:
    coil, row, column = (int(axis[0]) for axis in np.nonzero(~np.isfinite(kspace)))
    return InvalidInputError(
        f"{place} holds {kspace[coil, row, column]} at coil {coil}, row {row}, column {column}: NaN and Inf cannot be "
        "reconstructed; find out where they came from.",
        reason="NOT_FINITE",
        field=place,
    )
